"""KleidiAI's three facts: rules on made-up layers; the AArch64 wheel with it off and on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.arm import kleidiai
from labkit.arm.kleidiai import examine, kernel, kernels
from labkit.arm.rules import Layer, obstacle, reasons
from labkit.engine import lanes
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
from labkit.model import parts
from labkit.model.checkpoints import Checkpoint
from labkit.model.convert import convert
from labkit.model.plan import ConversionPlan
from labkit.proof.parity import cosine

LINEAR = Layer(
    name="q_proj",
    rows=192,
    columns=192,
    kernel=(1, 1),
    group=1,
    bits=4,
    block_size=64,
    asymmetric=True,
)
ARM = ("dotprod", "fp16", "i8mm")
FINE = {
    "built": True,
    "hint": True,
    "features": ARM,
    "memory": "low",
    "precision": "normal",
    "model": [LINEAR],
}


@pytest.mark.parametrize(
    ("function", "instruction_set", "does"),
    [
        (
            "kai_run_matmul_clamp_f32_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm",
            "i8mm",
            "matrix product",
        ),
        (
            "kai_run_matmul_clamp_f32_qsi8d32p1x8_qai4c32p4x8_1x4_neon_dotprod",
            "dotprod",
            "matrix product",
        ),
        ("kai_run_matmul_clamp_f16_f16p2vlx2_f16p2vlx2b_2vlx2vl_sme_mopa", "SME", "matrix product"),
        (
            "kai_run_imatmul_clamp_f32_f32p2vlx1_f32p2vlx1b_2vlx2vl_sme2_mopa",
            "SME2",
            "convolution as a matrix product",
        ),
        (
            "kai_run_lhs_quant_pack_qsi8d32pscalef32_f32_neon",
            "NEON",
            "quantise and pack activations",
        ),
        ("kai_run_rhs_pack_nxk_qsi4cxp_qs4cxs1s0", "any", "pack weights"),
        (
            "kai_run_dwconv_clamp_f32_f32_f32p1vlx1b_3x3_s1_4xc_sme2_mla",
            "SME2",
            "depthwise convolution",
        ),
    ],
)
def test_a_kernel_is_read_from_its_name(function: str, instruction_set: str, does: str) -> None:
    read = kernel(function)
    assert read is not None
    assert (read.instruction_set, read.does) == (instruction_set, does)


@pytest.mark.parametrize(
    "function",
    [
        "kai_get_nr_matmul_clamp_f32_x_neon_i8mm",
        "kai_kernel_lhs_pack_f32p2vlx1_f32_sme",
        "MNNGemmInt8",
        "",
    ],
)
def test_helpers_are_not_kernels(function: str) -> None:
    assert kernel(function) is None


def test_nothing_is_in_the_way_of_a_fine_layer() -> None:
    assert obstacle(LINEAR) is None
    assert obstacle(replace(LINEAR, block_size=0)) is None
    assert obstacle(replace(LINEAR, block_size=0, asymmetric=False)) is None
    assert obstacle(LINEAR, precision="low") is None
    assert reasons(**FINE) == ()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"bits": 8}, "bits", "8-bit"),
        ({"bits": None}, "bits", "not quantised"),
        ({"bits": 0}, "bits", "not quantised"),
        ({"asymmetric": False}, "block", "symmetric weights in blocks"),
        ({"block_size": 0, "columns": 80}, "width", "80 wide"),
        ({"block_size": 16, "columns": 80}, "width", "blocks of 16"),
        ({"kernel": (14, 14)}, "kernel", "14×14"),
        ({"group": 4}, "group", "grouped"),
    ],
)
def test_each_obstacle_of_a_layer_is_named(
    change: dict[str, object], code: str, words: str
) -> None:
    layer = replace(LINEAR, name="odd", **change)
    (reason,) = reasons(**{**FINE, "model": [LINEAR, layer]})
    assert (reason.code, reason.layers) == (code, ("odd",))
    assert words in reason.text
    assert reason.todo


def test_symmetric_float16_has_no_kernel() -> None:
    layer = replace(LINEAR, block_size=0, asymmetric=False)
    assert obstacle(layer) is None
    assert obstacle(layer, precision="low") is not None


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"built": False}, "not built", "AArch64"),
        ({"hint": False}, "hint", "CPU_ENABLE_KLEIDIAI"),
        ({"features": ()}, "cpu", "no dotprod and i8mm"),
        ({"features": ("dotprod",)}, "cpu", "no i8mm"),
        ({"memory": "normal"}, "memory", "'normal'"),
    ],
)
def test_each_reason_for_everything_is_named(
    change: dict[str, object], code: str, words: str
) -> None:
    (reason,) = reasons(**{**FINE, **change})
    assert (reason.code, reason.layers) == (code, ())
    assert words in reason.text
    assert reason.todo


def test_sme2_alone_is_enough_and_what_cannot_be_read_is_no_reason() -> None:
    assert reasons(**{**FINE, "features": ("sme2",)}) == ()
    assert reasons(**{**FINE, "features": None}) == ()
    assert reasons(**{**FINE, "built": None}) == ()


def test_all_reasons_are_told_at_once() -> None:
    every = reasons(
        built=True,
        hint=False,
        features=("dotprod",),
        memory="high",
        precision="normal",
        model=[replace(LINEAR, bits=8)],
    )
    assert [reason.code for reason in every] == ["hint", "cpu", "memory", "bits"]


def test_this_machines_library_is_read_too() -> None:
    inside = kernels(lanes.native().library)
    arm = lanes.native().library.name.count("aarch64") > 0
    assert inside is not None
    assert bool(inside) is arm


# ---- the real thing


@pytest.fixture(scope="module")
def on(emulated_lane: Lane, mini_folder: Path) -> kleidiai.Examination:
    return examine(mini_folder, emulated_lane)


def test_built_enabled_and_running(on: kleidiai.Examination) -> None:
    assert (on.built, on.hint, on.running) == (True, True, True)
    assert {"i8mm", "dotprod", "SME2"} <= {k.instruction_set for k in on.kernels or ()}
    assert set(on.accelerated_types) == {
        "QI4_ASYM_BLKQT_F32",
        "QI4_ASYM_CHNLQT_F32",
    }  # a block of 128 is a whole row of 128
    assert on.chat_types == (), "MNN-LLM sets no hint"
    uses = {use.part: use for use in on.uses}
    assert all(use.share and use.share > 0.05 for use in uses.values())
    assert (uses["prefill"].kernels or ())[0][0].endswith("neon_i8mm")
    assert any(name.endswith("neon_dotprod") for name, _ in uses["decode"].kernels or ())
    assert [reason.code for reason in on.reasons] == ["kernel"], (
        "the patch embedding is a convolution of 14×14"
    )
    text = str(on)
    assert "_neon_i8mm" in text
    assert "never uses KleidiAI" in text
    assert on.to_dict()["running"] is True


def test_off_says_no(emulated_lane: Lane, mini_folder: Path) -> None:
    off = examine(mini_folder, emulated_lane, hint=False, chat=False)
    assert (off.built, off.hint, off.running, off.accelerated_types) == (True, False, False, ())
    assert [use.share for use in off.uses] == [0.0, 0.0, 0.0]
    assert off.reasons[0].code == "hint"


def test_a_cpu_without_i8mm_says_why(emulated_lane: Lane, mini_folder: Path) -> None:
    report = examine(mini_folder, replace(emulated_lane, cpu="cortex-a76"), chat=False)
    assert (report.built, report.hint, report.running) == (True, True, False)
    assert report.reasons[0].code == "cpu"
    assert "no i8mm" in str(report)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight_bits": 8, "vision_bits": 8}, ((), {"bits"})),
        ({"symmetric": True, "vision_symmetric": True}, ((), {"block"})),
        ({"block_size": 0, "vision_block": 0}, (("QI4_ASYM_CHNLQT_F32",), set())),
    ],
)
@pytest.mark.slow
@pytest.mark.convert
def test_the_rules_are_mnns_own(
    emulated_lane: Lane, mini: Checkpoint, tmp_path: Path, options: dict[str, Any], expected: Any
) -> None:
    convert(ConversionPlan(checkpoint=mini, out=tmp_path / "model", **options))
    report = examine(
        tmp_path / "model", emulated_lane, parts=[parts.decode(tmp_path / "model")], chat=False
    )
    assert (report.accelerated_types, {reason.code for reason in report.reasons}) == expected


def test_memory_mode_is_mnns_own_rule(emulated_lane: Lane, mini_folder: Path) -> None:
    report = examine(
        mini_folder, emulated_lane, memory="normal", parts=[parts.decode(mini_folder)], chat=False
    )
    assert not report.running
    assert [reason.code for reason in report.reasons] == ["memory"]


@pytest.mark.parametrize("name", parts.NAMES)
def test_kleidiai_changes_no_more_than_rounding(
    emulated_lane: Lane, mini_folder: Path, name: str
) -> None:
    """Activations are quantised by other code: outputs agree to 0.999, not to the bit."""
    part = {p.name: p for p in parts.all_parts(mini_folder)}[name]
    outputs = {}
    for lane in (emulated_lane, lanes.native()):
        with EngineProcess(lane) as engine:
            for hint in (False, True):
                part.load(engine, kleidiai=hint)
                outputs[lane.name, hint] = part.forward(engine)[1][part.outputs[0]]
    assert cosine(outputs["emulated", False], outputs["emulated", True]) > 0.999
    assert not np.array_equal(outputs["emulated", False], outputs["emulated", True])
    assert cosine(outputs["native", True], outputs["emulated", True]) > 0.995
