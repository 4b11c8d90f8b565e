"""Exercises and quiz of notebook 03: patches by hand, their order, two frames of one picture."""

from __future__ import annotations

import numpy as np

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import array_of, near
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes
from labkit.model.vision import merge_order, to_grid

RNG = np.random.default_rng(4)
SHAPES = (((6, 8, 3), 2), ((28, 42, 3), 14), ((9, 6, 3), 3))
PICTURES = tuple((RNG.integers(256, size=shape, dtype=np.uint8), size) for shape, size in SHAPES)


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """Patches of a picture, row by row."""
    height, width, channels = image.shape
    blocks = image.reshape(height // size, size, width // size, size, channels)
    cut_: np.ndarray = blocks.transpose(0, 2, 1, 3, 4).reshape(-1, size * size * channels)
    return cut_


def examine_patchify(attempt: Attempt) -> None:
    expected = [cut(*case) for case in PICTURES]
    answers = [
        array_of(attempt(*case), "the patches", right.shape)
        for case, right in zip(PICTURES, expected, strict=True)
    ]
    for (_, size), answer, right in attempt.misses(PICTURES, answers, expected, same=near):
        wrong = int(np.argmax((np.asarray(answer) != right).any(axis=1)))
        raise attempt.wrong("other", size=size, number=wrong)


PATCHIFY = Exercise(
    id="03.1",
    title="Cut a picture into patches",
    minutes=6,
    usage="patchify(image, size)",
    examine=examine_patchify,
    why_right=(
        "Splitting each axis in two gives (rows, size, cols, size, channels); moving the two "
        "block axes to the front gives (rows, cols, size, size, channels), and only then may "
        "they be flattened. A `reshape` alone never moves a number in memory: it cuts the "
        "picture into strips that run across all patches of a row. The tower's own patches "
        "differ in two things: their order, which the next exercise is about, and their "
        "inside, which holds a channel after the other, each frame twice."
    ),
    hints=(
        "How would you cut out only the first patch, with a slice? And the one to its right?",
        (
            "`image.reshape(rows, size, cols, size, 3)` gives every pixel five coordinates. Which "
            "two say which patch it is in?"
        ),
        (
            "`.transpose(0, 2, 1, 3, 4)` brings them to the front; then reshape to `(rows * cols, "
            "size * size * 3)`."
        ),
    ),
    task="Patches of (height, width, 3), left to right, then down: (n_patches, size * size * 3).",
    solution_source="""\
def patchify(image, size):
    rows, cols = image.shape[0] // size, image.shape[1] // size
    blocks = image.reshape(rows, size, cols, size, 3).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(rows * cols, size * size * 3)
""",
    mistakes=read_mistakes("""
strips: return image.reshape(-1, size * size * 3)
    You reshape without moving anything: your patches are strips that run along the rows of the
    picture. A patch's second row of pixels lies a whole picture's width further on in memory.
columns: return image.reshape(image.shape[0] // size, size, -1, size, 3).transpose(2, 0, 1, 3, 4)\
.reshape(-1, size * size * 3)
    Your patches are right, but they go down the columns first. Go left to right, then down.
turned: return image.reshape(image.shape[0] // size, size, -1, size, 3).transpose(0, 2, 3, 1, 4)\
.reshape(-1, size * size * 3)
    Each of your patches is turned over its diagonal: rows and columns within it are swapped.
channels: return image.reshape(image.shape[0] // size, size, -1, size, 3).transpose(0, 2, 4, 1, 3)\
.reshape(-1, size * size * 3)
    You put the channels before rows and columns, as the tower does, but here each pixel keeps its
    three numbers together.
other: return image.reshape(image.shape[0] // size, size, -1, size, 3).transpose(0, 2, 1, 3, \
4)[::-1].reshape(-1, size * size * 3)
    With patches of {size} pixels, your patch number {number} is not the one that stands there. Draw
    a picture of 4 by 4 numbers and cut it by hand.
shape: return image[:size, :size].reshape(1, -1)
type: return [image]
"""),
)

GRIDS = ((2, 4), (4, 4), (6, 2), (4, 6))
SEQUENCES = tuple(
    (RNG.permutation(rows * cols)[merge_order(rows, cols)], rows, cols) for rows, cols in GRIDS
)


def examine_unscramble(attempt: Attempt) -> None:
    expected = [
        to_grid(sequence, rows, cols).reshape(rows, cols) for sequence, rows, cols in SEQUENCES
    ]
    answers = [
        array_of(attempt(*case), "the grid", right.shape)
        for case, right in zip(SEQUENCES, expected, strict=True)
    ]
    for (_, rows, cols), answer, right in attempt.misses(SEQUENCES, answers, expected, same=near):
        row, col = (int(i) for i in np.argwhere(np.asarray(answer) != right)[0])
        raise attempt.wrong("other", rows=rows, cols=cols, row=row, col=col)


UNSCRAMBLE = Exercise(
    id="03.2",
    title="Put the patches back",
    minutes=6,
    usage="unscramble(sequence, rows, cols)",
    examine=examine_unscramble,
    why_right=(
        "The sequence runs through blocks of two by two, because the merger joins each four "
        "neighbours to one visual token: with them side by side in memory, merging is a "
        "reshape. Undoing it is the same axes the other way round. Whoever reshapes the "
        "sequence to (rows, cols) gets a picture that looks almost right, and an attention map "
        "that is wrong everywhere but in the corners."
    ),
    hints=(
        (
            "Write the numbers 0 to 7 into a grid of 2 by 4, block by block. Which number stands "
            "to the right of 1?"
        ),
        (
            "The sequence's axes: block row, block column, row in the block, column in the block. "
            "In the grid, block column comes third."
        ),
        (
            "`sequence.reshape(rows // 2, cols // 2, 2, 2).transpose(0, 2, 1, 3)`, then reshape to "
            "`(rows, cols)`."
        ),
    ),
    task="From numbers in 2×2 merge order, (rows * cols,), to the picture's grid, (rows, cols).",
    solution_source="""\
def unscramble(sequence, rows, cols):
    blocks = sequence.reshape(rows // 2, cols // 2, 2, 2)
    return blocks.transpose(0, 2, 1, 3).reshape(rows, cols)
""",
    mistakes=read_mistakes("""
row_major: return sequence.reshape(rows, cols)
    You take the sequence to go row by row. It goes through blocks of two by two: 0 and 1, below
    them 2 and 3, then the next block.
scrambled: return sequence.reshape(rows // 2, 2, cols // 2, 2).transpose(0, 2, 1, 3).reshape(rows, \
cols)
    You scramble it a second time: your axes are those of a grid that is cut into blocks. The
    sequence has the blocks' axes first.
turned: return sequence.reshape(rows // 2, cols // 2, 2, 2).transpose(0, 3, 1, 2).reshape(rows, \
cols)
    Your blocks stand where they belong, but each is turned over its diagonal: 1 stands to the right
    of 0, not below it.
blocks_down: return sequence.reshape(cols // 2, rows // 2, 2, 2).transpose(1, 2, 0, 3)\
.reshape(rows, cols)
    Your blocks go down first. They go left to right, then down.
other: return sequence.reshape(rows // 2, cols // 2, 2, 2).transpose(0, 2, 1, 3).reshape(rows, \
cols)[::-1]
    In a grid of {rows} by {cols}, another number belongs at row {row}, column {col}.
shape: return sequence
type: return list(sequence)
"""),
)

FILTERS = tuple((RNG.standard_normal((d, 3, 2, 4, 4)).astype(np.float32),) for d in (1, 5))


def examine_still(attempt: Attempt) -> None:
    expected = [weight.sum(axis=2) for (weight,) in FILTERS]
    answers = [
        array_of(attempt(*case), "the filters", right.shape)
        for case, right in zip(FILTERS, expected, strict=True)
    ]
    for (weight,), _, _ in attempt.misses(FILTERS, answers, expected, same=near):
        raise attempt.wrong("other", count=len(weight))


STILL = Exercise(
    id="03.3",
    title="Two frames, one still picture",
    minutes=4,
    usage="still_filters(weight)",
    examine=examine_still,
    why_right=(
        "The tower is made for video and always embeds two frames at once; a still picture is "
        "shown twice. Its embedding is w₀·x + w₁·x, which is (w₀ + w₁)·x: one filter, half the "
        "work. MNN's converter does not do this: it turns the Conv3D into two convolutions and "
        "adds their results, so every picture's patches are multiplied twice."
    ),
    hints=(
        (
            "Write the embedding of a patch x that is both frames: one product for each frame. "
            "What can be taken out?"
        ),
        "w₀·x + w₁·x = (w₀ + w₁)·x. Which axis of the weight counts the frames?",
        "The axes are (filters, channels, frames, height, width): `weight.sum(axis=2)`.",
    ),
    task="From (filters, 3, 2, height, width) to filters for a still: (filters, 3, height, width).",
    solution_source="""\
def still_filters(weight):
    return weight.sum(axis=2)
""",
    mistakes=read_mistakes("""
mean: return weight.mean(axis=2)
    You take the mean of the two frames. The frames' products are added, not averaged: your
    embedding is half as large as the tower's.
first: return weight[:, :, 0]
    You leave the second frame out. It sees the same pixels, through filters of its own.
difference: return weight[:, :, 0] - weight[:, :, 1]
    You subtract the frames: that would show motion, of which a still picture has none. Their
    products are added.
other: return weight[:, :, 0] + 2 * weight[:, :, 1]
    With {count} filters the numbers differ from those of both frames' products added.
shape: return weight.sum(axis=1)
type: return "sum"
"""),
)

EXERCISES = (PATCHIFY, UNSCRAMBLE, STILL)
QUIZ = read_quiz(
    "03",
    "Quiz 03: from picture to vectors",
    """
A picture of 224 by 336 pixels: how many visual tokens does the language model get?
- 384: one for each patch of 14 by 14
    That is the number of patches. Four neighbours are merged to one visual token.
+ 96
    16 × 24 patches, divided by the four that are merged.
- 576: pictures are resized to a fixed size first
    That is how older towers work. This one keeps the size, rounded to multiples of 28.
You reshape the tower's sequence of patches to (rows, cols) and draw it. What do you see?
- The picture
    The sequence is in blocks of two by two.
+ Bands, with every other piece out of place
    Two rows of the picture lie interleaved in each band.
- Noise
    Neighbours in the sequence are still neighbours in the picture, mostly.
What does the int4 model in MNN do to the patch embeddings of a still picture, compared with \
float32?
+ It moves each a little: the weights are rounded to 16 levels
    A cosine of 0.999 or better: a patch is a sum of 1,176 products, whose errors mostly cancel.
- Nothing: embeddings are not quantised
    The Conv3D becomes two convolutions with int4 weights.
- It makes them useless, and the language model repairs that
    The measured cosine says otherwise: they are nearly the same.
A linear probe reads almost none of 48 kinds from mean pixels, and most of them from the tower's \
tokens. What does that show?
- That the tower understands pictures
    It shows that kinds lie apart in its features. What the language model makes of them is another
    question.
+ That the kinds lie linearly apart in the features, and did not in the pixels
    This is all that a linear probe can show, and it is much.
- That logistic regression is a strong classifier
    It was the same one on both, with the same settings.
""",
)
