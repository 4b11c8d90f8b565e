"""Every C kernel gives NumPy's bits; counts, packing and models are what they say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.errors import KernelError
from labkit.engine.lanes import CPUS, Lane
from labkit.kernels import figures, reference, report, running, static, toolchain
from labkit.kernels.report import KernelComparison
from labkit.kernels.running import KERNELS, KernelCount, example
from labkit.model.weights import quantize

SHAPES = [
    (1, 1, 1),
    (1, 5, 33),
    (2, 4, 32),
    (3, 4, 31),
    (5, 9, 95),
    (7, 3, 64),
    (8, 8, 64),
    (9, 7, 100),
    (16, 12, 160),
    (13, 6, 4099),
]


@pytest.fixture(scope="module")
def made(emulated_lane: Lane) -> KernelComparison:
    """Compiled, checked, counted and modelled here, on a small shape."""
    assert emulated_lane.name == "emulated"
    return report.measure((8, 16, 256))


def count_of(made: KernelComparison, kernel: str) -> KernelCount:
    return next(count for count in made.counts if count.kernel == kernel)


def slow_product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """From the definitions, in float64: each weight decoded, each activation decoded."""
    columns = x.shape[1]
    linear = reference.quantize_weights(weight)
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    decoded = np.rint(x / np.where(scale > 0, scale, 1)) * scale
    return decoded @ linear.dequantized()[:, :columns].astype(np.float64).T


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 100)),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_reference_is_the_product_of_what_the_codes_stand_for(
    shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = (
        rng.standard_normal((shape[0], shape[2])).astype(np.float32),
        rng.standard_normal((shape[1], shape[2])).astype(np.float32),
    )
    quick = reference.product(x, reference.quantize_weights(weight))
    assert np.abs(quick - slow_product(x, weight)).max() < 1e-3 * max(1.0, np.abs(quick).max())


def test_packing_puts_each_code_where_it_says() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (6, 64), np.uint8)
    weight = codes.astype(np.float32)
    weight[:, ::32], weight[:, 1::32] = (
        0,
        15,
    )  # so that every block's codes are the numbers themselves
    linear = quantize(weight, block_size=32)
    packed = reference.pack(linear)
    assert packed.shape == (2, 2)
    for output, column in np.ndindex(6, 64):
        block, k = divmod(column, 32)
        byte = int(packed[output // 4, block]["nibbles"][k % 16 // 8, output % 4, k % 8])
        assert (byte >> 4 if k >= 16 else byte & 15) ^ 8 == linear.codes[output, column]
    assert np.array_equal(packed[1]["nibbles"][:, :, 3], packed[1]["nibbles"][:, :, 1]), (
        "a missing output is a copy of the last"
    )


def test_every_kernel_gives_the_bits_of_numpy_whatever_the_shape() -> None:
    problems = [
        example(*shape, kernel=kernel, seed=seed)
        for seed, shape in enumerate(SHAPES)
        for kernel in KERNELS
    ]
    for problem, (kernel, result) in zip(problems, running.solve(problems), strict=True):
        expected = reference.product(problem.x, problem.linear)
        assert result.shape == problem.shape[:2]
        assert np.array_equal(result, expected), (kernel, problem.shape)


@pytest.mark.parametrize("cpu", list(CPUS))
def test_the_dispatch_takes_what_the_cpu_has(cpu: str) -> None:
    problems = [example(1, 8, 64), example(8, 8, 64)]
    best = {"cortex-a53": "neon", "cortex-a76": "dotprod", "max": "i8mm"}[cpu]
    for problem, (kernel, result) in zip(problems, running.solve(problems, cpu=cpu), strict=True):
        assert kernel.removesuffix("_gemv").removesuffix("_gemm") in {
            best,
            "dotprod" if best == "i8mm" else best,
        }
        assert np.array_equal(result, reference.product(problem.x, problem.linear))


def test_an_error_in_c_is_named() -> None:
    broken = {
        "dotprod.c": (toolchain.FOLDER / "dotprod.c").read_text().replace("{", "{ this is no C", 1)
    }
    with pytest.raises(KernelError, match=r"the kernels did not compile: .*error"):
        toolchain.build(broken)


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    with pytest.raises(
        KernelError, match=r"expected QEMU.* Type: sudo apt-get install g\+\+-aarch64-linux-gnu"
    ):
        toolchain.toolchain()
    monkeypatch.setattr(toolchain.platform, "machine", lambda: "arm64")
    with pytest.raises(KernelError, match="expected a C compiler"):
        toolchain.toolchain()
    with pytest.raises(KernelError, match="llvm"):
        static.llvm_mca()


def test_counts_agree_with_the_shape_and_rise_with_the_instruction_set(
    made: KernelComparison,
) -> None:
    assert not made.missing
    assert made.packed_alike, "KleidiAI's packing is ours, byte for byte"
    assert made.equal == (1 + len(report.SHAPES)) * len(KERNELS)
    rows, outputs, width = made.shape
    assert count_of(made, "i8mm_gemm").by_class["smmla"] == rows * outputs * width // 32
    assert count_of(made, "dotprod_gemm").by_class["sdot"] == rows * outputs * width // 16
    assert count_of(made, "dotprod_gemv").by_class["sdot"] == outputs * width // 16
    assert count_of(made, "kleidiai_gemm").by_class["smmla"] == rows * outputs * width // 32
    assert (
        count_of(made, "scalar_gemm").by_class["smmla"]
        == count_of(made, "neon_gemm").by_class["sdot"]
        == 0
    )
    rates = [
        count_of(made, f"{kind}_gemm").per_instruction
        for kind in ("scalar", "neon", "dotprod", "i8mm")
    ]
    assert rates == sorted(rates)
    for count in made.counts:
        assert 0 < count.per_instruction <= count.limit
        assert sum(count.by_class.values()) == count.instructions


@pytest.mark.parametrize("rows", [1, 6])
def test_the_wheels_kleidiai_multiplies_and_packs_as_we_do(emulated_lane: Lane, rows: int) -> None:
    """Its activations are rounded by other code, so its results agree to a step of a weight."""
    problem = example(rows, 8, 64)
    packed, result, count = running.kleidiai(problem, emulated_lane)
    expected = reference.product(problem.x, problem.linear)
    assert packed.tobytes() == reference.pack(problem.linear).tobytes()
    assert np.abs(result - expected).max() < 0.02 * np.abs(expected).max()
    each, macs = ("sdot", 16) if rows == 1 else ("smmla", 32)
    whole = rows if rows == 1 else 8  # tiles of eight rows
    assert count.by_class[each] == whole * 8 * 64 // macs


def test_the_hot_loop_is_the_longest_of_the_innermost() -> None:
    """Made-up code: two loops inside one, the second longer, and a branch forward."""
    nop, add = 0xD503201F, 0x91000400
    back = {2: 0x54FFFFE1, 8: 0xB5FFFF80, 10: 0x37FFFEC0}  # b.ne #-4, cbnz #-16, tbnz #-40
    words = np.array([back.get(at, add if at % 2 else nop) for at in range(12)], np.uint32)
    words[3] = 0x14000002  # b, two instructions on
    loops = static.loops(words)
    assert loops == [range(1, 2), range(4, 8), range(10)]
    assert static.hottest(loops) == range(4, 8)
    assert static.hottest(loops, around=True) == range(10)


@pytest.mark.parametrize(
    ("kernel", "words", "expected"),
    [
        ("i8mm_gemm", [0x4E82A420, 0x4E82A420, 0x4E829420], 64),  # two smmla, and an sdot
        ("i8mm_gemv", [0x4E82A420], 16),
        ("dotprod_gemm", [0x4E829420, 0x0E22C020], 16),  # sdot, smull
        ("neon_gemm", [0x0E22C020, 0x4E228020, 0x8B020020], 16),  # smull, smlal2, add
        ("scalar_gemm", [0x1B020C20, 0x9B027C20, 0x8B020020], 2),  # madd, mul, add
    ],
)
def test_a_loops_multiply_adds_are_those_of_its_best_instruction(
    kernel: str, words: list[int], expected: int
) -> None:
    assert static.multiply_adds(kernel, np.array(words, np.uint32)) == expected


def test_models_know_which_core_has_what(made: KernelComparison) -> None:
    assert {model.core for model in made.models} == set(static.CORES)
    for core in ("cortex-a55", "cortex-a78", "neoverse-n1"):
        assert made.model("i8mm_gemm", core).per_cycle is None
        assert (made.model("dotprod_gemm", core).per_cycle or 0) > (
            made.model("neon_gemm", core).per_cycle or 0
        )
    assert (made.model("i8mm_gemm", "neoverse-v1").per_cycle or 0) > (
        made.model("dotprod_gemm", "neoverse-v1").per_cycle or 0
    )


def test_the_recorded_results_are_of_the_same_kind_and_say_so(made: KernelComparison) -> None:
    kept = report.recorded()
    assert kept.shape == report.SHAPE
    assert kept.label.startswith("recorded when this lesson was made, not on this machine")
    assert made.label.startswith("made on this machine")
    assert [count.kernel for count in kept.counts] == [count.kernel for count in made.counts]
    assert {(m.kernel, m.core) for m in kept.models} == {(m.kernel, m.core) for m in made.models}


def test_figures_and_tables_carry_their_numbers(made: KernelComparison) -> None:
    assert "i8mm_gemm" in repr(made.counts_table())
    assert "cortex-a510" in repr(made.models_table())
    picture = figures.counts(made)
    assert "not time" in picture.alt
    count = count_of(made, "i8mm_gemm")
    assert f"i8mm_gemm {32 / count.per_instruction:.1f}" in picture.alt
    assert "static model, not measured" in figures.cores(made).alt
    order = 2 * np.arange(128).reshape(4, 32)
    assert "output 1: bytes 32 to 39" in figures.packing(order).alt
