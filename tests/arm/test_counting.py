"""Counting: classes by encoding, functions by address, and real counts that follow from the shapes of layers."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from labkit.arm import counting, kleidiai
from labkit.arm.counting import (
    CLASSES,
    MAGIC,
    CountingEngine,
    Counts,
    attribute,
    classify,
    demangle,
)
from labkit.base.errors import CountingFailed
from labkit.engine import lanes
from labkit.engine.lanes import Lane
from labkit.model import parts

# Words as GNU as 2.40 makes them with -march=armv8.6-a+i8mm+dotprod+fp16.
ENCODINGS = [
    (0x4E82A420, "smmla", "smmla v0.4s, v1.16b, v2.16b"),
    (0x6E82A420, "smmla", "ummla v0.4s, v1.16b, v2.16b"),
    (0x4E82AC20, "smmla", "usmmla v0.4s, v1.16b, v2.16b"),
    (0x4E829420, "sdot", "sdot v0.4s, v1.16b, v2.16b"),
    (0x0E829420, "sdot", "sdot v0.2s, v1.8b, v2.8b"),
    (0x6E829420, "sdot", "udot v0.4s, v1.16b, v2.16b"),
    (0x4E829C20, "sdot", "usdot v0.4s, v1.16b, v2.16b"),
    (0x4FA2E020, "sdot", "sdot v0.4s, v1.16b, v2.4b[1]"),
    (0x4FA2E820, "sdot", "sdot v0.4s, v1.16b, v2.4b[3]"),
    (0x6F82E820, "sdot", "udot v0.4s, v1.16b, v2.4b[2]"),
    (0x4F82F020, "sdot", "usdot v0.4s, v1.16b, v2.4b[0]"),
    (0x4F02F020, "sdot", "sudot v0.4s, v1.16b, v2.4b[0]"),
    (0x4EA29420, "int_simd", "mla v0.4s, v1.4s, v2.4s"),
    (0x6FA20020, "int_simd", "mla v0.4s, v1.4s, v2.s[1]"),
    (0x4EA28420, "int_simd", "add v0.4s, v1.4s, v2.4s"),
    (0x0E22C020, "int_simd", "smull v0.8h, v1.8b, v2.8b"),
    (0x0F722020, "int_simd", "smlal v0.4s, v1.4h, v2.h[3]"),
    (0x4F0C0420, "int_simd", "sshr v0.16b, v1.16b, #4"),
    (0x2F08A420, "int_simd", "ushll v0.8h, v1.8b, #0"),
    (0x0E212820, "int_simd", "xtn v0.8b, v1.8h"),
    (0x0E214820, "int_simd", "sqxtn v0.8b, v1.8h"),
    (0x4F00E5E0, "int_simd", "movi v0.16b, #15"),
    (0x4E040C20, "int_simd", "dup v0.4s, w1"),
    (0x4E0C1C40, "int_simd", "ins v0.s[1], w2"),
    (0x4E020020, "int_simd", "tbl v0.16b, {v1.16b}, v2.16b"),
    (0x4E823820, "int_simd", "zip1 v0.4s, v1.4s, v2.4s"),
    (0x4E221C20, "int_simd", "and v0.16b, v1.16b, v2.16b"),
    (0x4EB1B820, "int_simd", "addv s0, v1.4s"),
    (0x4E30A820, "int_simd", "smaxv b0, v1.16b"),
    (0x4EA0B820, "int_simd", "abs v0.4s, v1.4s"),
    (0x0E0C3C20, "int_simd", "umov w0, v1.s[1]"),
    (0x4E22CC20, "fp_simd", "fmla v0.4s, v1.4s, v2.4s"),
    (0x4FA21020, "fp_simd", "fmla v0.4s, v1.4s, v2.s[1]"),
    (0x4FA29820, "fp_simd", "fmul v0.4s, v1.4s, v2.s[3]"),
    (0x4EA2CC20, "fp_simd", "fmls v0.4s, v1.4s, v2.4s"),
    (0x4E22F420, "fp_simd", "fmax v0.4s, v1.4s, v2.4s"),
    (0x4E421420, "fp_simd", "fadd v0.8h, v1.8h, v2.8h"),
    (0x4F121020, "fp_simd", "fmla v0.8h, v1.8h, v2.h[1]"),
    (0x4EA0F820, "fp_simd", "fabs v0.4s, v1.4s"),
    (0x4EA0C820, "fp_simd", "fcmgt v0.4s, v1.4s, #0.0"),
    (0x0E216820, "fp_simd", "fcvtn v0.4h, v1.4s"),
    (0x0E217820, "fp_simd", "fcvtl v0.4s, v1.4h"),
    (0x4E21C820, "fp_simd", "fcvtas v0.4s, v1.4s"),
    (0x4E21D820, "fp_simd", "scvtf v0.4s, v1.4s"),
    (0x4F3CE420, "fp_simd", "scvtf v0.4s, v1.4s, #4"),
    (0x6E30F820, "fp_simd", "fmaxv s0, v1.4s"),
    (0x4E218820, "fp_simd", "frintn v0.4s, v1.4s"),
    (0x1E222820, "fp_simd", "fadd s0, s1, s2"),
    (0x1F020C20, "fp_simd", "fmadd s0, s1, s2, s3"),
    (0x1E270020, "fp_simd", "fmov s0, w1"),
    (0x1E380020, "fp_simd", "fcvtzs w0, s1"),
    (0x1E212000, "fp_simd", "fcmp s0, s1"),
    (0x6E22FC20, "fp_simd", "fdiv v0.4s, v1.4s, v2.4s"),
    (0xF9400020, "load", "ldr x0, [x1]"),
    (0xB9400820, "load", "ldr w0, [x1, #8]"),
    (0x38626820, "load", "ldrb w0, [x1, x2]"),
    (0x39C00020, "load", "ldrsb w0, [x1]"),
    (0xB9800020, "load", "ldrsw x0, [x1]"),
    (0xA94107E0, "load", "ldp x0, x1, [sp, #16]"),
    (0xAD400400, "load", "ldp q0, q1, [x0]"),
    (0x3CC10420, "load", "ldr q0, [x1], #16"),
    (0xBD400020, "load", "ldr s0, [x1]"),
    (0x3CDF0020, "load", "ldur q0, [x1, #-16]"),
    (0x4CDFA020, "load", "ld1 {v0.16b, v1.16b}, [x1], #32"),
    (0x4D40C820, "load", "ld1r {v0.4s}, [x1]"),
    (0x4C400820, "load", "ld4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1]"),
    (0xB8200041, "load", "ldadd w0, w1, [x2]"),
    (0x885FFC20, "load", "ldaxr w0, [x1]"),
    (0xB8BFC020, "load", "ldapr w0, [x1]"),
    (0x58000000, "load", "ldr x0, 1b"),
    (0xF9800020, "load", "prfm pldl1keep, [x1]"),
    (0xF9000020, "store", "str x0, [x1]"),
    (0x38226820, "store", "strb w0, [x1, x2]"),
    (0xA9BF07E0, "store", "stp x0, x1, [sp, #-16]!"),
    (0xAD000400, "store", "stp q0, q1, [x0]"),
    (0x3C810420, "store", "str q0, [x1], #16"),
    (0xBD000020, "store", "str s0, [x1]"),
    (0x3C9F0020, "store", "stur q0, [x1, #-16]"),
    (0x4C9FA020, "store", "st1 {v0.16b, v1.16b}, [x1], #32"),
    (0x889FFC20, "store", "stlr w0, [x1]"),
    (0x8802FC20, "store", "stlxr w2, w0, [x1]"),
    (0x17FFFFF4, "branch", "b 1b"),
    (0x97FFFFF3, "branch", "bl 1b"),
    (0x54FFFE41, "branch", "b.ne 1b"),
    (0xB4FFFE20, "branch", "cbz x0, 1b"),
    (0x371FFE00, "branch", "tbnz x0, #3, 1b"),
    (0xD65F03C0, "branch", "ret"),
    (0xD61F0020, "branch", "br x1"),
    (0xD63F0040, "branch", "blr x2"),
    (0x91001020, "scalar", "add x0, x1, #4"),
    (0x8B020020, "scalar", "add x0, x1, x2"),
    (0x9B027C20, "scalar", "mul x0, x1, x2"),
    (0x9A820020, "scalar", "csel x0, x1, x2, eq"),
    (0x90000000, "scalar", "adrp x0, 1b"),
    (0x71000420, "scalar", "subs w0, w1, #1"),
    (0xD37DF020, "scalar", "lsl x0, x1, #3"),
    (0xD503201F, "scalar", "nop"),
    (0xD53BD040, "scalar", "mrs x0, tpidr_el0"),
    (0xD5033BBF, "scalar", "dmb ish"),
]


@pytest.mark.parametrize(
    ("word", "name", "text"), ENCODINGS, ids=[text for _, _, text in ENCODINGS]
)
def test_an_instruction_gets_its_class(word: int, name: str, text: str) -> None:
    assert CLASSES[classify(np.array([word], np.uint32))[0]] == name


def test_the_table_has_every_class() -> None:
    assert {name for _, name, _ in ENCODINGS} == set(CLASSES)


# ---- counts


def made_up(*rows: tuple[str, int]) -> Counts:
    table = np.zeros((len(rows), len(CLASSES)))
    table[:, CLASSES.index("sdot")] = [n for _, n in rows]
    return Counts(functions=tuple(("_mnncengine", name) for name, _ in rows), table=table)


def test_counts_by_class_by_function_and_by_share() -> None:
    counts = made_up(("memcpy", 10), ("kai_run_a", 60), ("kai_get_b", 30), ("unused", 0))
    assert counts.total == 100
    assert counts.by_class()["sdot"] == 100
    assert [name for (_, name), _ in counts.by_function()] == ["kai_run_a", "kai_get_b", "memcpy"]
    assert counts.share("kai_") == pytest.approx(0.9)
    assert made_up().share("kai_") == 0
    assert json.loads(json.dumps(counts.to_dict()))["kai_share"] == pytest.approx(0.9)


def write_snapshot(path: Path, blocks: list[tuple[int, int, list[int]]]) -> None:
    size = sum(len(words) for _, _, words in blocks)
    head = np.array([MAGIC, len(blocks), size], np.uint64)
    fields = np.array(
        [[b[0] for b in blocks], [b[1] for b in blocks], [len(b[2]) for b in blocks]], np.uint64
    )
    path.write_bytes(
        head.tobytes()
        + fields.tobytes()
        + np.array([w for b in blocks for w in b[2]], np.uint32).tobytes()
    )


def test_blocks_become_instructions_even_where_no_library_lies(tmp_path: Path) -> None:
    write_snapshot(
        tmp_path / "s",
        [
            (0x1000, 5, [0x4E80A400, 0xF9400000]),
            (0x2000, 0, [0xD65F03C0]),
            (0x3000, 2, [0xD65F03C0]),
        ],
    )
    snapshot = counting._read_snapshot(tmp_path / "s")
    counts = attribute(
        snapshot,
        snapshot.executions,
        "1000-2000 r-xp 00000000 00:00 0 \n5000-6000 r-xp 00000000 fe:00 7   /gone/lib.so\n",
    )
    assert counts.by_class() == dict.fromkeys(CLASSES, 0) | {"smmla": 5, "load": 5, "branch": 2}
    assert counts.functions == (("elsewhere", "(no symbol)"),)


def test_a_damaged_or_missing_snapshot_is_named(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "s", [(0x1000, 5, [0x4E80A400])])
    (tmp_path / "cut").write_bytes((tmp_path / "s").read_bytes()[:-2])
    (tmp_path / "other").write_bytes(b"something else, and long enough")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("cut", "other", "empty"):
        with pytest.raises(CountingFailed, match="is damaged"):
            counting._read_snapshot(tmp_path / name)
    with pytest.raises(CountingFailed, match="found none"):
        counting._read_snapshot(tmp_path / "none")


def test_names_are_read_as_in_the_source() -> None:
    assert demangle("_ZN3MNN12CPUAttention9onExecuteEv") == "MNN::CPUAttention::onExecute()"
    assert demangle("kai_run_x") == "kai_run_x"


def test_a_file_without_symbols_has_no_functions(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"not an ELF file")
    assert counting.function_names(tmp_path / "lib.so") is None


# ---- the plugin


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_counting_is_for_the_emulated_lane() -> None:
    with pytest.raises(CountingFailed, match="in the emulated lane"):
        CountingEngine(lanes.native())


def test_no_compiler_is_named(
    emulated_lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    program(tmp_path / "qemu-aarch64", 'echo "qemu-aarch64 version 7.2.22 (Debian)"')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CountingFailed, match="apt-get install gcc libc6-dev"):
        counting.plugin()


def test_a_compiler_that_fails_leaves_nothing_behind(
    emulated_lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "cc", 'echo "no headers" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(CountingFailed, match="no headers"):
        counting.plugin()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_qemu_with_another_plugin_interface_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "qemu-aarch64", 'echo "qemu-aarch64 version 9.2.0"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(CountingFailed, match=r"version 9\.2\.0"):
        counting.plugin()


def test_it_is_compiled_once(emulated_lane: Lane) -> None:
    first = counting.plugin()
    made = first.stat().st_mtime_ns
    assert counting.plugin() == first
    assert first.stat().st_mtime_ns == made


# ---- real counts


def test_kernels_execute_what_the_layers_shapes_ask_for(
    emulated_lane: Lane, mini_folder: Path
) -> None:
    """32 multiply-adds to an smmla, 16 to an sdot, to the instruction; the language head sees one row."""
    prefill, decode = parts.prefill(mini_folder), parts.decode(mini_folder)
    with CountingEngine(emulated_lane) as engine:
        linear = {
            layer.name: layer.rows * layer.columns
            for layer in kleidiai.layers(engine, [mini_folder / "llm.mnn"])
        }
        counted = {part.name: engine.count(part, kleidiai=True) for part in (prefill, decode)}
        off = engine.count(prefill, kleidiai=False)
    body, head = (
        sum(n for name, n in linear.items() if "lm_head" not in name),
        sum(n for name, n in linear.items() if "lm_head" in name),
    )
    assert head > 0
    assert counted["prefill"].by_class()["smmla"] == 48 * body // 32
    assert counted["prefill"].by_class()["sdot"] == head // 16
    assert counted["decode"].by_class()["sdot"] == (body + head) // 16
    assert counted["decode"].by_class()["smmla"] == 0
    assert counted["prefill"].share("kai_") > 0.2
    assert off.share("kai_") == 0


def test_two_processes_agree_to_half_a_percent(emulated_lane: Lane, mini_folder: Path) -> None:
    totals = []
    for _ in range(2):
        with CountingEngine(emulated_lane) as engine:
            totals.append(
                [engine.count(part, kleidiai=True).total for part in parts.all_parts(mini_folder)]
            )
    assert np.abs(np.divide(*totals) - 1).max() < 0.005


def test_each_cpu_of_the_ladder_has_its_instructions(
    emulated_lane: Lane, mini_folder: Path
) -> None:
    steps: list[str] = []
    rungs = counting.ladder(
        [parts.decode(mini_folder)], rungs=counting.RUNGS[:3], on_step=steps.append
    )
    neon, dotprod, i8mm = (rung.counts[0].by_class() for rung in rungs)
    assert (neon["smmla"], neon["sdot"]) == (0, 0)
    assert dotprod["smmla"] == 0
    assert dotprod["sdot"] > 90_000
    assert i8mm["smmla"] > 90_000
    assert len(steps) == 3
    assert rungs[0].to_dict()["unit"] == "executed instructions, not time"


def test_loading_with_kleidiai_packs_weights(emulated_lane: Lane, mini_folder: Path) -> None:
    with CountingEngine(emulated_lane) as engine:
        off, on = (
            engine.count_load(parts.decode(mini_folder), kleidiai=hint) for hint in (False, True)
        )
    assert off.share("kai_") == 0
    assert on.share("kai_run_rhs_pack") > 0.3
