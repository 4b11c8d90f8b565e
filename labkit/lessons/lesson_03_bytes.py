"""Exercise 03.2: what a matrix of int4 weights takes, scales and minima included."""

from __future__ import annotations

from labkit.lessons.attempt import Attempt, recognise, whole_number
from labkit.lessons.exercise import Diagnosis, Exercise, judge

MATRICES = ((192, 192, 64), (1536, 8960, 128), (96, 384, 32))
PAIR_BYTES = 8  # a float32 scale and a float32 minimum


@judge
def judge_int4_bytes(value: object) -> None:
    """Judge 03.2."""
    attempt = Attempt(value, "int4_bytes(rows, columns, block_size)")
    answers = [whole_number(attempt(*matrix), "the number of bytes") for matrix in MATRICES]
    recognise(answers, [mistaken_bytes(*matrix) for matrix in MATRICES], TEXTS)
    for (rows, columns, block_size), answer in zip(MATRICES, answers, strict=True):
        expected = stored_bytes(rows, columns, block_size)
        if answer != expected:
            weights, blocks = rows * columns, rows * columns // block_size
            raise Diagnosis(
                "other",
                f"For {rows}×{columns} weights in blocks of {block_size} your function gives {answer} bytes. Expected {expected}: "
                f"{weights // 2} for the codes of {weights} weights, and {PAIR_BYTES * blocks} for {blocks} blocks.",
            )


def stored_bytes(rows: int, columns: int, block_size: int) -> int:
    """Bytes of an int4 matrix with a float32 scale and minimum for each block of a row."""
    return rows * columns // 2 + rows * columns // block_size * PAIR_BYTES


def mistaken_bytes(rows: int, columns: int, block_size: int) -> dict[str, int]:
    """What the usual mistakes make of a matrix."""
    weights = rows * columns
    codes, blocks = weights // 2, weights // block_size
    pairs = blocks * PAIR_BYTES
    return {
        "no_scales": codes,
        "byte_each": weights + pairs,
        "no_minimum": codes + blocks * 4,
        "one_byte_pair": codes + blocks * 2,
        "bits": 8 * (codes + pairs),
        "bits_codes": 8 * codes + pairs,
        "bits_pair": codes + 8 * pairs,
        "per_row": codes + rows * PAIR_BYTES,
        "per_matrix": codes + PAIR_BYTES,
        "block_row": codes + columns // block_size * PAIR_BYTES,
        "only_scales": pairs,
    }


TEXTS = {
    "no_scales": (
        "You count the codes only. Without its scale and its minimum a block of codes cannot become weights again: each block stores "
        "two float32 numbers besides."
    ),
    "byte_each": "You give each weight a whole byte. A code of 4 bits is half a byte: two weights share one.",
    "no_minimum": (
        "You store 4 bytes for each block. Asymmetric blocks have two float32 numbers, scale and minimum, so 8 bytes (4 would do for "
        "symmetric ones, which need no minimum)."
    ),
    "one_byte_pair": "You give scale and minimum one byte each. They are float32: 4 bytes each.",
    "bits": "Eight times too many: you count bits. 8 bits are a byte.",
    "bits_codes": "You count the codes in bits and the scales in bytes. A code of 4 bits is half a byte.",
    "bits_pair": "The codes are right, but you count scale and minimum in bits. A float32 has 32 bits, which are 4 bytes.",
    "per_row": (
        "You store one scale and minimum for each row. Here every row is cut into blocks, `columns // block_size` of them, and each "
        "block has its own pair."
    ),
    "per_matrix": "You store one scale and minimum for the whole matrix. Each block has its own pair: that is what keeps its steps small.",
    "block_row": "You count the blocks of one row. Every row has as many: multiply by `rows`.",
    "only_scales": "You count scales and minima only. The codes take half a byte for each weight.",
}

INT4_BYTES = Exercise(
    id="03.2",
    title="What does int4 save?",
    minutes=4,
    name="int4_bytes",
    judge=judge_int4_bytes,
    why_right=(
        "A block of B weights costs B / 2 bytes of codes and 8 bytes of scale and minimum, so a weight costs 4 + 64 / B bits: 6 bits "
        "in blocks of 32, 5 in blocks of 64, 4.5 in blocks of 128. Against float32 that is 5.3, 6.4 and 7.1 times smaller, never "
        "quite 8. Smaller blocks follow the weights more closely and cost more: block size is the dial between accuracy and size."
    ),
    hints=(
        "Two things are stored: a code for each weight, and something for each block. Count them apart.",
        "Codes: `rows * columns` weights at half a byte. Blocks: how many are there in a row, and in all rows?",
        "`rows * columns // 2` for the codes, and `rows * (columns // block_size)` blocks with two float32 numbers, 8 bytes, each.",
    ),
    stub_source='''\
def int4_bytes(rows, columns, block_size):
    """Bytes of an int4 weight matrix with a float32 scale and minimum for each block of a row."""
    ...
''',
    solution_source="""\
def int4_bytes(rows, columns, block_size):
    codes = rows * columns // 2                # two 4-bit codes to a byte
    blocks = rows * (columns // block_size)
    return codes + blocks * (4 + 4)            # a float32 scale and a float32 minimum each
""",
    wrong_examples={
        "no_scales": "return rows * columns // 2",
        "byte_each": "return rows * columns + rows * columns // block_size * 8",
        "no_minimum": "return rows * columns // 2 + rows * columns // block_size * 4",
        "one_byte_pair": "return rows * columns // 2 + rows * columns // block_size * 2",
        "bits": "return rows * columns * 4 + rows * columns // block_size * 64",
        "bits_codes": "return rows * columns * 4 + rows * columns // block_size * 8",
        "bits_pair": "return rows * columns // 2 + rows * columns // block_size * 64",
        "per_row": "return rows * columns // 2 + rows * 8",
        "per_matrix": "return rows * columns // 2 + 8",
        "block_row": "return rows * columns // 2 + columns // block_size * 8",
        "only_scales": "return rows * columns // block_size * 8",
        "float": "return rows * columns / 2 + rows * columns / block_size * 8",
        "other": "return rows * columns * block_size",
        "type": 'return "half"',
    },
)
