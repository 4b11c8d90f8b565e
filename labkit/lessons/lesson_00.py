"""Exercises and quiz of notebook 00: what a picture costs in tokens."""

from __future__ import annotations

from labkit.lessons.attempt import Attempt, describe, recognise, whole_number
from labkit.lessons.exercise import Diagnosis, Exercise, judge
from labkit.lessons.quizzes import Option, Question, Quiz
from labkit.vision import FACTOR, MERGE_SIZE, PATCH_SIZE

PICTURES = ((112, 112), (112, 140), (84, 168), (476, 644), (28, 28), (28, 280))


@judge
def judge_visual_tokens(value: object) -> None:
    """Judge 00.1."""
    attempt = Attempt(value, "visual_tokens(height, width)")
    answers = []
    for height, width in PICTURES:
        answer = attempt(height, width)
        if isinstance(answer, (tuple, list)) and len(answer) == 2:
            raise Diagnosis(
                "grid",
                f"For a picture of {height}×{width} pixels you return the grid, {describe(answer, short=True)}. The model reads the "
                "tokens one after the other: how many cells has that grid?",
            )
        answers.append(whole_number(answer, "the number of visual tokens"))
    recognise(answers, [mistaken_visual_tokens(*picture) for picture in PICTURES], VISUAL_TOKENS_TEXTS)
    for (height, width), answer in zip(PICTURES, answers, strict=True):
        expected = tokens_of(height, width)
        if answer != expected:
            raise Diagnosis(
                "other",
                f"For a picture {height} pixels high and {width} wide your function gives {answer}. Expected {expected}: "
                f"{height // PATCH_SIZE}×{width // PATCH_SIZE} patches make {height // FACTOR}×{width // FACTOR} groups of 2×2.",
            )


def tokens_of(height: int, width: int) -> int:
    """Visual tokens of a resized picture."""
    return (height // FACTOR) * (width // FACTOR)


def mistaken_visual_tokens(height: int, width: int) -> dict[str, int]:
    """What the usual mistakes make of a picture."""
    patches, rows, columns = (height // PATCH_SIZE) * (width // PATCH_SIZE), height // FACTOR, width // FACTOR
    return {
        "patches": patches,
        "merged_once": patches // MERGE_SIZE,
        "pixels": height * width // FACTOR,
        "one_side": rows,
        "one_side_width": columns,
        "sum": rows + columns,
        "square_height": rows**2,
        "square_width": columns**2,
        "markers": rows * columns + 2,
        "frames": 2 * patches,
        "fence": (rows + 1) * (columns + 1),
    }


VISUAL_TOKENS_TEXTS = {
    "patches": (
        "You count patches, four times too many. Before the language model sees them, the merger joins each 2×2 group of patches "
        "into one visual token."
    ),
    "merged_once": (
        "Twice too many. The merge size of 2 is counted per side: a group is 2 patches high and 2 wide, so four patches become one token."
    ),
    "pixels": "You divide the area by 28 once. A token covers 28 pixels in height and 28 in width: 28 × 28 = 784 pixels.",
    "one_side": "You count the rows of tokens only. Each row holds several: multiply by the number of columns.",
    "one_side_width": "You count the columns of tokens only. Multiply by the number of rows.",
    "sum": "You add rows and columns, as for half the rim of the picture. Its whole area is covered with tokens: multiply.",
    "square_height": (
        "Right for square pictures only: you use the height for both sides. Qwen2-VL keeps the picture's shape, so the width counts "
        "as well."
    ),
    "square_width": (
        "Right for square pictures only: you use the width for both sides. Qwen2-VL keeps the picture's shape, so the height counts "
        "as well."
    ),
    "markers": "Two too many: you count `<|vision_start|>` and `<|vision_end|>`. They stand around the visual tokens, but are text tokens.",
    "frames": (
        "You count patches, and each of the two frames. A still picture is shown twice, but both frames go into one patch; and 2×2 "
        "patches become one token."
    ),
    "fence": "One row and one column too many: you count the lines between the cells rather than the cells.",
}

VISUAL_TOKENS = Exercise(
    id="00.1",
    title="How many visual tokens?",
    minutes=4,
    name="visual_tokens",
    judge=judge_visual_tokens,
    why_right=(
        "A patch is 14×14 pixels, and 2×2 patches become one visual token: one token for every 28×28 pixels. So cost grows with the "
        "area: twice as high and twice as wide is four times the tokens, and in the vision tower, where every patch attends to every "
        "other, sixteen times the pairs. That is why Qwen2-VL limits the number of pixels before anything else."
    ),
    hints=(
        "How many patches of 14×14 pixels fit along the height, and how many along the width?",
        "Two patches side by side, and the two below them, become one token. So how many pixels does one token cover along each side?",
        "28 pixels along each side. Count rows and columns with `//` (both sides are multiples of 28) and multiply.",
    ),
    stub_source='''\
def visual_tokens(height, width):
    """Visual tokens of a picture whose sides (in pixels) are already multiples of 28."""
    ...
''',
    solution_source="""\
def visual_tokens(height, width):
    rows, columns = height // 14, width // 14  # patches
    return (rows // 2) * (columns // 2)        # 2x2 patches make one token
""",
    wrong_examples={
        "patches": "return (height // 14) * (width // 14)",
        "merged_once": "return (height // 14) * (width // 14) // 2",
        "pixels": "return height * width // 28",
        "float": "return height * width / 28**2",
        "one_side": "return height // 28",
        "one_side_width": "return width // 28",
        "sum": "return height // 28 + width // 28",
        "square_height": "return (height // 28) ** 2",
        "square_width": "return (width // 28) ** 2",
        "markers": "return (height // 28) * (width // 28) + 2",
        "frames": "return 2 * (height // 14) * (width // 14)",
        "fence": "return (height // 28 + 1) * (width // 28 + 1)",
        "grid": "return (height // 28, width // 28)",
        "other": "return (height // 32) * (width // 32)",
        "raised": "return height // (width - width)",
    },
)

SYSTEM_TURN, USER_START, VISION_START, VISION_END, END, ASSISTANT = 11, 3, 1, 1, 2, 3
OVERHEAD = SYSTEM_TURN + USER_START + VISION_START + VISION_END + END + ASSISTANT
PROMPTS = ((112, 112, 7), (84, 168, 3), (476, 644, 12), (28, 28, 5))


@judge
def judge_prompt_tokens(value: object) -> None:
    """Judge 00.2."""
    attempt = Attempt(value, "prompt_tokens(height, width, question_tokens)")
    answers = [whole_number(attempt(*prompt), "the number of prompt tokens") for prompt in PROMPTS]
    recognise(answers, [mistaken_prompt_length(*prompt) for prompt in PROMPTS], PROMPT_TEXTS)
    off = [answer - prompt_length(*prompt) for answer, prompt in zip(answers, PROMPTS, strict=True)]
    if len(set(off)) == 1 and off[0]:
        raise Diagnosis(
            "constant",
            f"Always {abs(off[0])} too {'many' if off[0] > 0 else 'few'}: what depends on picture and question is right, the rest is "
            "not. Add up the pieces of the table that are the same in every prompt again.",
        )
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        if answer != prompt_length(*prompt):
            height, width, question = prompt
            raise Diagnosis(
                "other",
                f"For a picture of {height}×{width} pixels and a question of {question} tokens your function gives {answer}. Expected "
                f"{prompt_length(*prompt)}: {tokens_of(height, width)} visual tokens, {question} of the question, {OVERHEAD} of the "
                "layout.",
            )


def prompt_length(height: int, width: int, question_tokens: int) -> int:
    """Tokens of a prompt with one picture and one question, in Qwen2-VL's layout."""
    return OVERHEAD + tokens_of(height, width) + question_tokens


def mistaken_prompt_length(height: int, width: int, question_tokens: int) -> dict[str, int]:
    """What the usual mistakes make of a prompt."""
    right, picture = prompt_length(height, width, question_tokens), tokens_of(height, width)
    return {
        "placeholder": right - picture + 1,
        "extra_placeholder": right + 1,
        "patches": right + 3 * picture,
        "no_picture": right - picture,
        "no_question": right - question_tokens,
        "no_markers": right - VISION_START - VISION_END,
        "no_assistant": right - ASSISTANT,
        "no_system": right - SYSTEM_TURN,
        "layout_missing": right - OVERHEAD,
    }


PROMPT_TEXTS = {
    "placeholder": (
        "You count the picture as one token. `<|image_pad|>` stands once in the text, but before the model runs it is repeated, once "
        "for each visual token."
    ),
    "extra_placeholder": "One too many: `<|image_pad|>` is not there besides the visual tokens, it is replaced by them.",
    "patches": (
        "You count patches where the prompt holds visual tokens: 2×2 patches make one. Your function from the exercise before fits here."
    ),
    "no_picture": "The visual tokens are missing: the picture lies in the middle of the prompt.",
    "no_question": "The tokens of the question are missing: add `question_tokens`.",
    "no_markers": (
        "Two too few in every prompt. Look at what stands directly around the picture, `<|vision_start|>` and `<|vision_end|>`, and "
        "at the end of the user's turn, `<|im_end|>` and its line break."
    ),
    "no_assistant": (
        "Three too few in every prompt: one turn's opening is missing. The prompt ends by opening the assistant's turn, which asks "
        "the model to go on from there."
    ),
    "no_system": "Eleven too few in every prompt: the system's turn is missing. You did not type it, but the chat template puts it first.",
    "layout_missing": "You count picture and question, and nothing of the layout around them. Every line of the table costs tokens.",
}

PROMPT_TOKENS = Exercise(
    id="00.2",
    title="Read the prompt",
    minutes=5,
    name="prompt_tokens",
    judge=judge_prompt_tokens,
    why_right=(
        "A prompt is one row of tokens: 21 of layout, the question, and in the middle the picture. For a question of a few words "
        "almost all of it is picture: at 476×644 pixels, 391 of about 420 tokens. All of them go through the language model at once, "
        "in what is called prefill, before the first word of the answer comes out. So the size of the picture decides how long you "
        "wait for it."
    ),
    hints=(
        (
            "Add up the pieces that are the same in every prompt first: the system's turn, the opening of the user's turn, the two "
            "marks around the picture, the end of the user's turn, the opening of the assistant's."
        ),
        "11 + 3 + 1 before the picture; 1 after it; then the question; then 2 + 3.",
        "21 + the visual tokens of the picture + question_tokens. For the visual tokens call your `visual_tokens(height, width)`.",
    ),
    stub_source='''\
def prompt_tokens(height, width, question_tokens):
    """Tokens of the whole prompt: layout, picture (sides are multiples of 28) and question."""
    ...
''',
    solution_source="""\
def prompt_tokens(height, width, question_tokens):
    before = 11 + 3 + 1                          # system's turn, user's opening, <|vision_start|>
    picture = (height // 28) * (width // 28)     # <|image_pad|>, once for each visual token
    after = 1 + question_tokens + 2 + 3          # <|vision_end|>, question, end of turn, assistant's opening
    return before + picture + after
""",
    wrong_examples={
        "placeholder": "return 22 + question_tokens",
        "extra_placeholder": "return 22 + (height // 28) * (width // 28) + question_tokens",
        "patches": "return 21 + (height // 14) * (width // 14) + question_tokens",
        "no_picture": "return 21 + question_tokens",
        "no_question": "return 21 + (height // 28) * (width // 28)",
        "no_markers": "return 19 + (height // 28) * (width // 28) + question_tokens",
        "no_assistant": "return 18 + (height // 28) * (width // 28) + question_tokens",
        "no_system": "return 10 + (height // 28) * (width // 28) + question_tokens",
        "layout_missing": "return (height // 28) * (width // 28) + question_tokens",
        "constant": "return 16 + (height // 28) * (width // 28) + question_tokens",
        "other": "return height + width + question_tokens",
        "float": "return 21 + height * width / 784 + question_tokens",
        "type": 'return f"{21 + question_tokens} tokens"',
    },
)

EXERCISES = (VISUAL_TOKENS, PROMPT_TOKENS)

QUIZ = Quiz(
    id="00",
    title="Quiz 00: before you set out",
    questions=(
        Question(
            text=(
                "You show the model the same picture twice as high and twice as wide (both sizes are allowed). How many visual "
                "tokens are there now?"
            ),
            options=(
                Option(
                    text="As many as before",
                    why="That is so for models which shrink every picture to one size. Qwen2-VL keeps the size within its limits.",
                ),
                Option(text="Twice as many", why="That would be so if one side had grown. Here both have."),
                Option(
                    text="Four times as many", right=True, why="A token covers 28×28 pixels, so their number follows the area: 2 × 2 = 4."
                ),
            ),
        ),
        Question(
            text="You ask the same question about the same picture again, and get the same words. Why?",
            options=(
                Option(
                    text="The kit decodes greedily: at each step it takes the most likely token",
                    right=True,
                    why=(
                        "Nothing is drawn by lot, so the same input gives the same answer. Chat programs often sample at a "
                        "temperature instead, and then answers vary."
                    ),
                ),
                Option(
                    text="The first answer was stored",
                    why="The converted model is cached on disk, answers are not: the model runs each time.",
                ),
                Option(
                    text="A model with int4 weights has lost its randomness",
                    why=(
                        "Quantisation rounds weights, once, at conversion. Whether an answer varies is decided later, by how a token "
                        "is chosen from the logits."
                    ),
                ),
            ),
        ),
        Question(
            text=(
                "The small model that comes with this kit was trained on scenes of emoji only. You show it a photo of your kitchen. "
                "What should you expect?"
            ),
            options=(
                Option(
                    text="An error, because it is not an emoji scene",
                    why="Any picture becomes patches and tokens. Nothing in the model checks where they come from.",
                ),
                Option(
                    text="A confident answer in the words of its emoji world, most likely wrong",
                    right=True,
                    why=(
                        "It always names something it knows. Its architecture is the real Qwen2-VL's, its knowledge is not; and it "
                        "never learned to say “I don't know”."
                    ),
                ),
                Option(
                    text="A poorer, but sensible description",
                    why=(
                        "The 2-billion-parameter checkpoint would give one. This one has a few million parameters and has never seen "
                        "a photo."
                    ),
                ),
            ),
        ),
        Question(
            text="`labkit doctor` finds an Arm CPU with dotprod but without i8mm. What happens when you run an int4 model with MNN on it?",
            options=(
                Option(text="It stops with an illegal instruction", why="MNN asks the CPU what it can do before it chooses a kernel."),
                Option(
                    text="KleidiAI runs, only slower",
                    why="There is no such middle way in MNN for these kernels: without i8mm (or SME2) it does not choose them.",
                ),
                Option(
                    text="It runs, with MNN's own kernels; KleidiAI's stay off",
                    right=True,
                    why="MNN turns to KleidiAI's int4 kernels only where the CPU has dotprod and i8mm (or SME2). "
                    "It falls back without a word, so “built in” and “running” are two different facts.",
                ),
            ),
        ),
    ),
)
