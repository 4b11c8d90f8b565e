"""Exercises and quiz of notebook 06: packing, the i8mm kernel's inner loop in C, GEMM."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from labkit.base.errors import KernelError
from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import Untried, array_of, describe, near, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

RNG = np.random.default_rng(2)
BLOCKS = [
    np.arange(128).reshape(4, 32) % 16,
    RNG.integers(0, 16, (4, 32)),
    np.full((4, 32), 8) + np.arange(4)[:, None],
]


def packed(codes: np.ndarray) -> np.ndarray:
    """As `labkit.kernels.reference.pack`, one block."""
    nibbles = (codes ^ 8).reshape(4, 2, 2, 8)  # output, half, i, j
    return (nibbles[:, 0] | nibbles[:, 1] << 4).transpose(1, 0, 2).reshape(64).astype(np.uint8)


def examine_pack(attempt: Attempt) -> None:
    answers = [array_of(attempt(codes), "the packed bytes", (64,)) for codes in BLOCKS]
    cases = [(codes,) for codes in BLOCKS]
    for (codes,), answer, expected in attempt.misses(
        cases, answers, [packed(codes) for codes in BLOCKS], same=near
    ):
        at = int(np.flatnonzero(answer != expected)[0])
        i, output, j = at // 32, at // 8 % 4, at % 8
        low, high = codes[output, 8 * i + j], codes[output, 16 + 8 * i + j]
        raise attempt.wrong(
            "other",
            at=at,
            answer=int(answer[at]),
            expected=int(expected[at]),
            output=output,
            low=low,
            high=high,
            first=8 * i + j,
            second=16 + 8 * i + j,
        )


PACK = Exercise(
    id="06.1",
    title="Pack for the tile",
    minutes=6,
    usage="pack_block(codes)",
    examine=examine_pack,
    why_right=(
        "One load of 16 bytes brings eight columns of two outputs, which is half of what an "
        "`smmla` multiplies, and twice: once in the low halves, once in the high ones. A shift "
        "by four or a mask turns either into int8 at once. Nothing is shuffled in the loop, "
        "because it was shuffled here, once, when the weights were loaded: that is what "
        "packing is for. And both halves come out as sixteen times the value, which costs "
        "nothing, for the scale was divided by sixteen."
    ),
    hints=(
        (
            "Begin with `nibbles = codes ^ 8`, and take the two halves apart: columns 0 to 15 go "
            "low, columns 16 to 31 go high, `<< 4`."
        ),
        (
            "Now you have 4 outputs by 16 bytes. Which eight of them come first? Columns 0 to 7 of "
            "output 0, then 0 to 7 of output 1, …"
        ),
        (
            "`.reshape(4, 2, 8)` is output, i, j. The order wanted is i, output, j: `.transpose(1, "
            "0, 2).reshape(64)`."
        ),
    ),
    task="Codes (4, 32) as 64 bytes: [i][output][j] has columns 8i+j (low) and 16+8i+j (high).",
    solution_source="""\
def pack_block(codes):
    nibbles = codes ^ 8                              # 4 bits of code - 8, as two's complement
    both = nibbles[:, :16] | nibbles[:, 16:] << 4    # output, byte
    return both.reshape(4, 2, 8).transpose(1, 0, 2).reshape(64).astype("uint8")
""",
    mistakes=read_mistakes("""
not_centred: return (codes[:, :16] | codes[:, 16:] << 4).reshape(4, 2, 8).transpose(1, 0, 2)\
.reshape(64)
    You pack the codes themselves. The kernel reads a nibble as a number from -8 to 7: flip its
    highest bit, `codes ^ 8`, which is code - 8 as two's complement of four bits.
row_by_row: return ((codes ^ 8)[:, :16] | (codes ^ 8)[:, 16:] << 4).reshape(64)
    Your halves are right and the tile's order is not: all 16 bytes of output 0 come first. Then a
    load of 16 bytes brings one output; smmla wants two. Eight bytes of each output, one after the
    other.
neighbours: return ((codes ^ 8)[:, ::2] | (codes ^ 8)[:, 1::2] << 4).reshape(4, 2, 8).transpose(1, \
0, 2).reshape(64)
    You put neighbours, columns 0 and 1, into one byte. Then a shift leaves every other column, and
    the activations would have to be shuffled to match. Put column 16 above column 0.
swapped: return ((codes ^ 8)[:, 16:] | (codes ^ 8)[:, :16] << 4).reshape(4, 2, 8).transpose(1, 0, \
2).reshape(64)
    Low and high half are exchanged: columns 0 to 15 belong into the low halves.
outputs_last: return ((codes ^ 8)[:, :16] | (codes ^ 8)[:, 16:] << 4).reshape(4, 2, 8)\
.transpose(1, 2, 0).reshape(64)
    You put the four outputs of one column side by side. That suits a kernel that takes four outputs
    and one column at a time; smmla goes eight columns deep: eight columns of an output lie
    together.
other: return np.zeros(64, np.uint8)
    Byte {at} is {answer}, expected {expected}: it belongs to output {output}, with column {first}
    (code {low}) in its low half and column {second} (code {high}) in its high half.
type: return list(range(64))
shape: return np.zeros((4, 16), np.uint8)
"""),
)

# ---- the inner loop, in C

SOLUTION = """
for (int step = 0; step < 4; step++)
    for (int j = 0; j < 2; j++) {
        int8x16_t bytes = vld1q_s8(w->nibbles[step % 2][2 * j]);
        int8x16_t weights = step < 2 ? vshlq_n_s8(bytes, 4) : vandq_s8(bytes, vdupq_n_s8(-16));
        for (int i = 0; i < pairs; i++)
            tile[i][j] = vmmlaq_s32(tile[i][j], two_rows(a, next, i, step), weights);
    }
for (int k = 0; k < 2 * pairs; k++) {
    float32x4_t dot = vcvtq_f32_s32(four_outputs(tile[k / 2], k % 2));
    float sum = sums(a + k / 4 * next, 4)[k % 4];
    total[k] += vld1q_f32(w->scale) * dot;
    total[k] += vld1q_f32(w->offset) * sum;
}
"""


def kernel_source(inner: str) -> str:
    """The C file with this text between its two marks."""
    from labkit.kernels.toolchain import FOLDER

    text = (FOLDER / "i8mm.c").read_text(encoding="utf-8")
    return re.sub(
        r"(?<=/\* inner loop begins \*/\n).*(?= +/\* inner loop ends \*/)",
        lambda _: inner.strip("\n") + "\n",
        text,
        flags=re.DOTALL,
    )


@lru_cache(maxsize=1)
def problems() -> list[Any]:
    """What a learner's kernel is tried on: four, eight and twelve rows, one block and several."""
    from labkit.kernels.running import example

    return [
        example(*shape, kernel="i8mm_gemm", seed=7)
        for shape in ((4, 8, 32), (8, 8, 96), (12, 12, 64))
    ]


@lru_cache(maxsize=64)
def outcome(inner: str) -> tuple[np.ndarray, ...]:
    """What the kernel with this inner loop gives."""
    from labkit.kernels.running import solve
    from labkit.kernels.toolchain import build

    return tuple(
        result
        for _, result in solve(
            problems(), program=build({"i8mm.c": kernel_source(inner)}), timeout_s=10
        )
    )


def variants(problem: Any) -> dict[str, np.ndarray]:
    """What a kernel gives that makes one of the usual mistakes, or ("right") none."""
    from labkit.kernels import reference

    a, row_scale = reference.quantize_rows(problem.x)
    linear = problem.linear
    (rows, width), outputs = a.shape, len(linear.codes)
    blocks = a.reshape(rows, -1, 32).astype(float)
    codes = linear.codes.reshape(outputs, -1, 32).astype(int)
    signed, unsigned, halves = codes - 8, codes ^ 8, np.roll(codes - 8, 16, axis=2)

    def total(
        weights: np.ndarray, *, times: float = 1, offset: float = 1, order: Any = lambda dots: dots
    ) -> np.ndarray:
        dots = order(np.einsum("rbk,nbk->rnb", blocks, weights)) * linear.scale * times
        return (
            (dots + offset * reference.offsets(linear) * blocks.sum(2)[:, None]).sum(2)
            * row_scale[:, None]
        ).astype(np.float32)

    def exchanged(dots: np.ndarray) -> np.ndarray:
        return dots.reshape(rows // 2, 2, outputs // 2, 2, -1).swapaxes(1, 3).reshape(dots.shape)

    def one_too_few(dots: np.ndarray) -> np.ndarray:
        return dots.reshape(rows, -1, 4, width // 32)[:, :, [0, 1, 1, 2]].reshape(dots.shape)

    return {
        "right": total(signed),
        "no_zero_point": total(signed, offset=0),
        "operands": total(signed, order=exchanged),
        "tile_order": total(signed, order=one_too_few),
        "halves": total(halves),
        "not_shifted": total(signed, times=1 / 16),
        "unsigned": total(unsigned, times=1 / 16),
        "unsigned_at_top": total(unsigned),
        "no_multiply": total(signed, times=0),
        "all_zero": total(signed, times=0, offset=0),
    }


def examine_inner_loop(attempt: Attempt) -> None:
    inner = attempt()
    if not isinstance(inner, str):
        raise attempt.wrong("type", received=describe(inner))
    try:
        results = outcome(inner)
    except KernelError as error:
        said = str(error).replace("`", "'")
        if "Type: " in said:
            raise Untried(
                "no_compiler", f"{said} Until then, read the solution and the recorded results."
            ) from None
        if "did not compile" in said:
            raise attempt.wrong("compile", said=said.split("error: ")[-1].strip()[:200]) from None
        raise attempt.wrong(
            "ended",
            said="it took too long"
            if "took longer" in said
            else "it was killed, as after a wild address",
        ) from None
    expected = [variants(problem) for problem in problems()]
    for kind in expected[0]:
        if all(
            np.allclose(result, known[kind], rtol=1e-3, atol=1e-3)
            for result, known in zip(results, expected, strict=True)
        ):
            if kind == "right":
                return
            raise attempt.wrong("unsigned" if kind == "unsigned_at_top" else kind)
    wrong = np.mean(
        [
            ~np.isclose(result, known["right"], rtol=1e-3, atol=1e-3)
            for result, known in zip(results[2:], expected[2:], strict=True)
        ]
    )
    raise attempt.wrong(
        "other",
        share=f"{wrong:.0%}",
        answer=f"{results[0][0, 0]:.3f}",
        expected=f"{expected[0]['right'][0, 0]:.3f}",
    )


def body(*changes: tuple[str, str]) -> str:
    """A body that returns the solution with some changes."""
    text = SOLUTION
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return f"return {text!r}"


UNPACK = "step < 2 ? vshlq_n_s8(bytes, 4) : vandq_s8(bytes, vdupq_n_s8(-16))"
INNER_LOOP = Exercise(
    id="06.2",
    title="The inner loop of the i8mm kernel",
    minutes=6,
    usage="inner_loop()",
    examine=examine_inner_loop,
    why_right=(
        "Unpack, multiply, correct. The unpacked weights serve all pairs of rows before the "
        "next ones are loaded, so with eight rows four `smmla` share one shift or mask. The "
        "sums `tile[i][j]` are whole numbers, and stay in registers for a block. Then the "
        "block's scale makes them float, and its offset times the sum of the activations "
        "corrects for the zero point: once for four outputs, not once for each weight."
    ),
    hints=(
        (
            "Four steps of eight columns, two pairs of outputs: load 16 bytes at "
            "`w->nibbles[step % 2][2 * j]`. Steps 0 and 1 are in the low halves, "
            "`vshlq_n_s8(bytes, 4)`; 2 and 3 in the high ones, `vandq_s8(bytes, "
            "vdupq_n_s8(-16))`."
        ),
        (
            "For each pair of rows: `tile[i][j] = vmmlaq_s32(tile[i][j], two_rows(a, next, i, "
            "step), weights)`. The rows come first."
        ),
        (
            "Then for each row `k`: the whole numbers as float times `vld1q_f32(w->scale)`, plus "
            "`vld1q_f32(w->offset)` times `sums(…)`."
        ),
    ),
    task="The C text between the two marks: unpack, multiply, correct. Return it as one string.",
    solution_source=f'def inner_loop():\n    return """{SOLUTION}"""\n',
    mistakes={
        "no_zero_point": (
            body(("    total[k] += vld1q_f32(w->offset) * sum;\n", "    (void)sum;\n")),
            (
                "The zero-point correction is missing. Your result is the scaled product of "
                "the codes minus 8; what a weight is at code 8, `w->offset`, times the sum of "
                "the block's activations still has to be added."
            ),
        ),
        "unsigned": (
            body(
                (
                    UNPACK,
                    (
                        "step < 2 ? vandq_s8(bytes, vdupq_n_s8(15)) : "
                        "vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(bytes), 4))"
                    ),
                )
            ),
            (
                "You read the nibbles as unsigned, 0 to 15. They are two's complement, -8 to "
                "7: shift the low ones to the top of the byte with `vshlq_n_s8`, so that their "
                "sign bit becomes the byte's."
            ),
        ),
        "not_shifted": (
            body((UNPACK, "step < 2 ? vshrq_n_s8(vshlq_n_s8(bytes, 4), 4) : vshrq_n_s8(bytes, 4)")),
            (
                "Your weights are right, and the result is a sixteenth too small in its "
                "product: `w->scale` was divided by 16 because the kernel leaves each weight "
                "where it is, at the top of its byte. Leave out the shift back: it is one "
                "instruction less, too."
            ),
        ),
        "operands": (
            body(("two_rows(a, next, i, step), weights", "weights, two_rows(a, next, i, step)")),
            (
                "The tile lies the wrong way round: rows and outputs are exchanged in each two "
                "by two. In `vmmlaq_s32(sums, x, y)` x gives the rows of the tile and y its "
                "columns: first the activations, then the weights."
            ),
        ),
        "tile_order": (
            body(("[step % 2][2 * j]", "[step % 2][j]")),
            (
                "Wrong tile order: your second load begins at output 1, so outputs 1 and 2 are "
                "multiplied where 2 and 3 should be. A load of 16 bytes takes two outputs: the "
                "next one begins at `2 * j`."
            ),
        ),
        "halves": (
            body((UNPACK, "step < 2 ? vandq_s8(bytes, vdupq_n_s8(-16)) : vshlq_n_s8(bytes, 4)")),
            (
                "The halves are exchanged: steps 0 and 1, columns 0 to 15, are in the low "
                "halves of the bytes, which a shift by four brings up; steps 2 and 3 are in "
                "the high ones."
            ),
        ),
        "no_multiply": (
            body(("    total[k] += vld1q_f32(w->scale) * dot;\n", "    (void)dot;\n")),
            (
                "Only the zero-point correction arrives. Are the sums in `tile` scaled and added "
                "to `total[k]`?"
            ),
        ),
        "all_zero": (
            "return 'for (int k = 0; k < pairs; k++) {}'",
            "The result is zero everywhere: nothing was added to `total[k]`.",
        ),
        "other": (
            body(("[step % 2][2 * j]", "[0][2 * j]")),
            (
                "{share} of the results are wrong, and as no usual mistake would make them: "
                "the first is {answer}, expected {expected}. Does each of the four steps read "
                "its own columns, and each row `k` its own sum?"
            ),
        ),
        "compile": (body(("vmmlaq_s32", "vmmla_s32")), "It does not compile: {said}."),
        "ended": (
            "return '*(volatile int *)8 = 0;'",
            "The kernel did not come to its end: {said}.",
        ),
        "type": ("return ['for']", "Expected the C text as one string, received {received}."),
    },
)

# ---- where GEMM begins to pay

CROSSINGS = ((20436, 37292), (100, 390), (100, 150), (100, 100), (7, 27), (10, 29), (100, 300))


def first_rows(gemv: int, tile: int) -> int:
    """The smallest number of rows for which tiles of four take fewer instructions."""
    return next(rows for rows in range(1, 100) if -(-rows // 4) * tile < rows * gemv)


def examine_crossover(attempt: Attempt) -> None:
    answers = [whole_number(attempt(*case), "the number of rows") for case in CROSSINGS]
    for (gemv, tile), answer, expected in attempt.misses(
        CROSSINGS, answers, [first_rows(*case) for case in CROSSINGS]
    ):
        raise attempt.wrong("other", gemv=gemv, tile=tile, answer=answer, expected=expected)


CROSSOVER = Exercise(
    id="06.3",
    title="From which row on does GEMM pay?",
    minutes=4,
    usage="crossover(gemv, tile)",
    examine=examine_crossover,
    why_right=(
        "A tile costs the same whether one of its rows is of use or all four, so GEMM has to "
        "be cheaper than as many rows of GEMV as there are: within the first tile that is the "
        "first number of rows with `rows * gemv > tile`. That is why an engine has both "
        "kernels, and takes GEMV for decoding, which has one row, and GEMM for a prompt."
    ),
    hints=(
        "GEMV: every row costs `gemv`. GEMM: every begun tile of four rows costs `tile`.",
        (
            "Try it: for 1, 2, 3, … rows compare `rows * gemv` with `tiles * tile`. How many tiles "
            "do 1, 4, 5 rows take?"
        ),
        (
            "`(rows + 3) // 4` tiles. Return the first number of rows at which GEMM takes strictly "
            "fewer instructions."
        ),
    ),
    task="Fewest rows at which tiles of four take fewer instructions than GEMV row by row.",
    solution_source="""\
def crossover(gemv, tile):
    rows = 1
    while (rows + 3) // 4 * tile >= rows * gemv:
        rows += 1
    return rows
""",
    mistakes=read_mistakes("""
shared: return next(m for m in range(1, 100) if m * tile / 4 < m * gemv)
    You share a tile's cost among its rows even where it has fewer than four. A tile with one row of
    use costs as much as a full one.
equal: return next(m for m in range(1, 100) if (m + 3) // 4 * tile <= m * gemv)
    You stop where both cost the same, as a division rounded up does. Asked is where GEMM takes
    fewer.
full: return 4
    You wait until a tile is full. GEMM pays as soon as the tile costs less than its rows one by
    one.
rounded_down: return max(1, tile // gemv)
    You divide and round down: at that number of rows GEMV is still cheaper, or at best as cheap.
other: return 2
    For {gemv} instructions a row and {tile} a tile your function gives {answer}. Expected
    {expected}.
float: return tile / gemv + 1
type: return "four"
"""),
)

EXERCISES = (PACK, INNER_LOOP, CROSSOVER)

QUIZ = read_quiz(
    "06",
    "Quiz 06: inside a kernel",
    """
Why are weights packed in eights of columns, output beside output?
- So that they take fewer bytes
    Packing moves bytes about; there are as many before as after.
+ So that one load brings what one multiply instruction takes, in the order in which it takes it
    An smmla multiplies two outputs, eight columns deep: 16 bytes that lie together.
- So that the compiler can find vectors by itself
    The intrinsics name every vector. The compiler only gives them registers.
A weight has a zero point. What does that cost the inner loop?
+ Nothing: a sum over each block of activations, made once, corrects for it
    The sum of a times offset is offset times the sum of a, and all outputs share that sum.
- One subtraction for each weight
    That is what the sum trick saves.
- One more smmla for each
    The correction is one float multiply-add for four outputs and a block of 32 columns.
For one row, the i8mm kernel takes exactly as many instructions as the dotprod kernel. Why?
- The compiler turned smmla into sdot
    The counts say otherwise: one has smmla and no sdot.
- The weights have to be read either way
    They have, and eight rows share that reading; but here the multiplications themselves are as
    many.
+ Half of each tile is wasted: 16 of its 32 multiply-adds are of use, which is what an sdot does
    A tile has two rows, and there is but one.
A static model says 18 multiply-adds a cycle for a kernel. What do you know?
- The kernel does 18 on that core
    Nobody ran it. Caches, memory and what else the machine does are not in the model.
- Nothing, it is only a model
    It names the busiest port, and what could not be faster whatever the memory does.
+ What the core's ports allow if every load hits the first cache: a bound, and a guess at what \
sets it
    It says where to look, and never replaces a measurement.
""",
)
