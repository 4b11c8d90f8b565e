"""What notebook 03 asks: its exercises together, and its quiz."""

from __future__ import annotations

from labkit.lessons.lesson_03_blocks import QUANTISE_BLOCK
from labkit.lessons.lesson_03_bytes import INT4_BYTES
from labkit.lessons.lesson_03_stages import FIRST_BROKEN
from labkit.lessons.quizzes import Option, Question, Quiz

EXERCISES = (QUANTISE_BLOCK, INT4_BYTES, FIRST_BROKEN)

QUIZ = Quiz(
    id="03",
    title="Quiz 03: what a conversion does",
    questions=(
        Question(
            text="Between checkpoint and MNN model stands an ONNX file. What is it for?",
            options=(
                Option(
                    text="It makes the model smaller",
                    why="Export does not round weights. The size falls when MNN's weights are written with 4 or 8 bits.",
                ),
                Option(
                    text="It is the computation as a graph, free of PyTorch, which MNN's converter can read",
                    right=True,
                    why=(
                        "The checkpoint holds weights without a program. Export runs the PyTorch model once and writes down its "
                        "operations; MNN turns these into its own."
                    ),
                ),
                Option(
                    text="The engine runs it when int4 is not exact enough",
                    why="The engine reads only the `.mnn` files and their weights. ONNX is a step on the way and can be thrown away.",
                ),
            ),
        ),
        Question(
            text="You convert with blocks of 32 rather than 128 weights. What changes?",
            options=(
                Option(
                    text="Fewer bytes, since blocks are smaller",
                    why="There are four times as many of them, and each brings 8 bytes of scale and minimum.",
                ),
                Option(
                    text="Nothing but the file's layout",
                    why="Each block has a scale of its own, so the rounded weights themselves are different.",
                ),
                Option(
                    text="More bytes, and steps that fit the weights better",
                    right=True,
                    why="Four times as many scales and minima: 6 bits a weight against 4.5. A smaller block never has a larger range "
                    "than the block around it, so its steps are as fine or finer.",
                ),
            ),
        ),
        Question(
            text="A converted model chats fluently, but describes every picture wrongly. Where do you look first?",
            options=(
                Option(
                    text="At the parity table, for the first stage on the picture's way that departs from the original",
                    right=True,
                    why=(
                        "Fluent text says that the language model is well. Pixel values, patch embeddings and image embeddings show "
                        "where the picture got lost."
                    ),
                ),
                Option(
                    text="At the language model's weight bits: 8 instead of 4",
                    why="They may matter for fine points, but the text is fluent: the fault most likely lies before the language model.",
                ),
                Option(
                    text="At the wording of the question",
                    why=(
                        "Wording can help a model that sees poorly. Here every picture is wrong, so the model is likely not seeing "
                        "it at all."
                    ),
                ),
            ),
        ),
        Question(
            text="One weight in an int4 block is fifty times larger than all others. What becomes of the others?",
            options=(
                Option(
                    text="Nothing: each weight has a code of its own",
                    why="Each has a code, but all codes of a block share one scale and one minimum.",
                ),
                Option(
                    text="They fall onto one or two codes, and nearly lose their differences",
                    right=True,
                    why=(
                        "The step is the range divided by 15, and the outlier alone sets the range. The others lie within a fraction "
                        "of one step."
                    ),
                ),
                Option(
                    text="They are stored in 8 bits instead",
                    why="There is no such exception in this format. Smaller blocks limit the harm to fewer weights.",
                ),
            ),
        ),
    ),
)
