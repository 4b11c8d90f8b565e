"""Exercises and quiz of notebook 00: what a picture costs in tokens."""

from __future__ import annotations

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import describe, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes
from labkit.model.vision import FACTOR, PATCH_SIZE

PICTURES = ((112, 112), (112, 140), (84, 168), (476, 644), (28, 28), (28, 280))


def tokens_of(height: int, width: int) -> int:
    """Visual tokens of a resized picture."""
    return (height // FACTOR) * (width // FACTOR)


def examine_visual_tokens(attempt: Attempt) -> None:
    answers = []
    for height, width in PICTURES:
        answer = attempt(height, width)
        if isinstance(answer, (tuple, list)) and len(answer) == 2:
            raise attempt.wrong(
                "grid", height=height, width=width, answer=describe(answer, short=True)
            )
        answers.append(whole_number(answer, "the number of visual tokens"))
    for (height, width), answer, expected in attempt.misses(
        PICTURES, answers, [tokens_of(*picture) for picture in PICTURES]
    ):
        patches, groups = (f"{height // side}×{width // side}" for side in (PATCH_SIZE, FACTOR))
        raise attempt.wrong(
            "other",
            height=height,
            width=width,
            answer=answer,
            expected=expected,
            patches=patches,
            groups=groups,
        )


VISUAL_TOKENS = Exercise(
    id="00.1",
    title="How many visual tokens?",
    minutes=4,
    usage="visual_tokens(height, width)",
    examine=examine_visual_tokens,
    why_right=(
        "A patch is 14×14 pixels, and 2×2 patches become one visual token: one token for every "
        "28×28 pixels. So cost grows with the area: twice as high and twice as wide is four "
        "times the tokens, and in the vision tower, where every patch attends to every other, "
        "sixteen times the pairs. That is why Qwen2-VL limits the number of pixels before "
        "anything else."
    ),
    hints=(
        "How many patches of 14×14 pixels fit along the height, and how many along the width?",
        (
            "Two patches side by side, and the two below them, become one token. So how many "
            "pixels does one token cover along each side?"
        ),
        (
            "28 pixels along each side. Count rows and columns with `//` (both sides are multiples "
            "of 28) and multiply."
        ),
    ),
    task="Visual tokens of a picture whose sides (in pixels) are already multiples of 28.",
    solution_source="""\
def visual_tokens(height, width):
    rows, columns = height // 14, width // 14  # patches
    return (rows // 2) * (columns // 2)        # 2x2 patches make one token
""",
    mistakes=read_mistakes("""
patches: return (height // 14) * (width // 14)
    You count patches, four times too many. Before the language model sees them, the merger joins
    each 2×2 group of patches into one visual token.
merged_once: return (height // 14) * (width // 14) // 2
    Twice too many. The merge size of 2 is counted per side: a group is 2 patches high and 2 wide,
    so four patches become one token.
pixels: return height * width // 28
    You divide the area by 28 once. A token covers 28 pixels in height and 28 in width: 28 × 28 =
    784 pixels.
one_side: return height // 28
    You count the rows of tokens only. Each row holds several: multiply by the number of columns.
one_side_width: return width // 28
    You count the columns of tokens only. Multiply by the number of rows.
sum: return height // 28 + width // 28
    You add rows and columns, as for half the rim of the picture. Its whole area is covered with
    tokens: multiply.
square_height: return (height // 28) ** 2
    Right for square pictures only: you use the height for both sides. Qwen2-VL keeps the picture's
    shape, so the width counts as well.
square_width: return (width // 28) ** 2
    Right for square pictures only: you use the width for both sides. Qwen2-VL keeps the picture's
    shape, so the height counts as well.
markers: return (height // 28) * (width // 28) + 2
    Two too many: you count `<|vision_start|>` and `<|vision_end|>`. They stand around the visual
    tokens, but are text tokens.
frames: return 2 * (height // 14) * (width // 14)
    You count patches, and each of the two frames. A still picture is shown twice, but both frames
    go into one patch; and 2×2 patches become one token.
fence: return (height // 28 + 1) * (width // 28 + 1)
    One row and one column too many: you count the lines between the cells rather than the cells.
grid: return (height // 28, width // 28)
    For a picture of {height}×{width} pixels you return the grid, {answer}. The model reads the
    tokens one after the other: how many cells has that grid?
other: return (height // 32) * (width // 32)
    For a picture {height} pixels high and {width} wide your function gives {answer}. Expected
    {expected}: {patches} patches make {groups} groups of 2×2.
float: return height * width / 28**2
raised: return height // (width - width)
"""),
)

SYSTEM_TURN, USER_START, VISION_START, VISION_END, END, ASSISTANT = 11, 3, 1, 1, 2, 3
OVERHEAD = SYSTEM_TURN + USER_START + VISION_START + VISION_END + END + ASSISTANT
PROMPTS = ((112, 112, 7), (84, 168, 3), (476, 644, 12), (28, 28, 5))


def prompt_length(height: int, width: int, question_tokens: int) -> int:
    """Tokens of a prompt with one picture and one question, in Qwen2-VL's layout."""
    return OVERHEAD + tokens_of(height, width) + question_tokens


def examine_prompt_tokens(attempt: Attempt) -> None:
    answers = [whole_number(attempt(*prompt), "the number of prompt tokens") for prompt in PROMPTS]
    misses = attempt.misses(PROMPTS, answers, [prompt_length(*prompt) for prompt in PROMPTS])
    off = {answer - expected for _, answer, expected in misses}
    if len(off) == 1 and len(misses) == len(PROMPTS):
        raise attempt.wrong(
            "constant", off=abs(min(off)), direction="many" if min(off) > 0 else "few"
        )
    for (height, width, question), answer, expected in misses:
        values = {
            "height": height,
            "width": width,
            "question": question,
            "answer": answer,
            "expected": expected,
        }
        raise attempt.wrong("other", visual=tokens_of(height, width), overhead=OVERHEAD, **values)


PROMPT_TOKENS = Exercise(
    id="00.2",
    title="Read the prompt",
    minutes=5,
    usage="prompt_tokens(height, width, question_tokens)",
    examine=examine_prompt_tokens,
    why_right=(
        "A prompt is one row of tokens: 21 of layout, the question, and in the middle the "
        "picture. For a question of a few words almost all of it is picture: at 476×644 "
        "pixels, 391 of about 420 tokens. All of them go through the language model at once, "
        "in what is called prefill, before the first word of the answer comes out. So the size "
        "of the picture decides how long you wait for it."
    ),
    hints=(
        (
            "Add up the pieces that are the same in every prompt first: the system's turn, the "
            "opening of the user's turn, the two marks around the picture, the end of the "
            "user's turn, the opening of the assistant's."
        ),
        "11 + 3 + 1 before the picture; 1 after it; then the question; then 2 + 3.",
        (
            "21 + the visual tokens of the picture + question_tokens. For the visual tokens call "
            "your `visual_tokens(height, width)`."
        ),
    ),
    task="Tokens of the whole prompt: layout, picture (sides are multiples of 28) and question.",
    solution_source="""\
def prompt_tokens(height, width, question_tokens):
    before = 11 + 3 + 1  # system's turn, user's opening, <|vision_start|>
    picture = (height // 28) * (width // 28)  # <|image_pad|>, once for each visual token
    after = 1 + question_tokens + 2 + 3  # <|vision_end|>, question, end of turn, assistant's turn
    return before + picture + after
""",
    mistakes=read_mistakes("""
placeholder: return 22 + question_tokens
    You count the picture as one token. `<|image_pad|>` stands once in the text, but before the
    model runs it is repeated, once for each visual token.
extra_placeholder: return 22 + (height // 28) * (width // 28) + question_tokens
    One too many: `<|image_pad|>` is not there besides the visual tokens, it is replaced by them.
patches: return 21 + (height // 14) * (width // 14) + question_tokens
    You count patches where the prompt holds visual tokens: 2×2 patches make one. Your function from
    the exercise before fits here.
no_picture: return 21 + question_tokens
    The visual tokens are missing: the picture lies in the middle of the prompt.
no_question: return 21 + (height // 28) * (width // 28)
    The tokens of the question are missing: add `question_tokens`.
no_markers: return 19 + (height // 28) * (width // 28) + question_tokens
    Two too few in every prompt. Look at what stands directly around the picture, `<|vision_start|>`
    and `<|vision_end|>`, and at the end of the user's turn, `<|im_end|>` and its line break.
no_assistant: return 18 + (height // 28) * (width // 28) + question_tokens
    Three too few in every prompt: one turn's opening is missing. The prompt ends by opening the
    assistant's turn, which asks the model to go on from there.
no_system: return 10 + (height // 28) * (width // 28) + question_tokens
    Eleven too few in every prompt: the system's turn is missing. You did not type it, but the chat
    template puts it first.
layout_missing: return (height // 28) * (width // 28) + question_tokens
    You count picture and question, and nothing of the layout around them. Every line of the table
    costs tokens.
constant: return 16 + (height // 28) * (width // 28) + question_tokens
    Always {off} too {direction}: what depends on picture and question is right, the rest is not.
    Add up the pieces of the table that are the same in every prompt again.
other: return height + width + question_tokens
    For a picture of {height}×{width} pixels and a question of {question} tokens your function gives
    {answer}. Expected {expected}: {visual} visual tokens, {question} of the question, {overhead} of
    the layout.
float: return 21 + height * width / 784 + question_tokens
type: return f"{21 + question_tokens} tokens"
"""),
)

EXERCISES = (VISUAL_TOKENS, PROMPT_TOKENS)

QUIZ = read_quiz(
    "00",
    "Quiz 00: before you set out",
    """
You show the model the same picture twice as high and twice as wide (both sizes are allowed). How \
many visual tokens are there now?
- As many as before
    That is so for models which shrink every picture to one size. Qwen2-VL keeps the size within its
    limits.
- Twice as many
    That would be so if one side had grown. Here both have.
+ Four times as many
    A token covers 28×28 pixels, so their number follows the area: 2 × 2 = 4.
You ask the same question about the same picture again, and get the same words. Why?
+ The kit decodes greedily: at each step it takes the most likely token
    Nothing is drawn by lot, so the same input gives the same answer. Chat programs often sample at
    a temperature instead, and then answers vary.
- The first answer was stored
    The converted model is cached on disk, answers are not: the model runs each time.
- A model with int4 weights has lost its randomness
    Quantisation rounds weights, once, at conversion. Whether an answer varies is decided later, by
    how a token is chosen from the logits.
The small model that comes with this kit was trained on scenes of emoji only. You show it a photo \
of your kitchen. What should you
    expect?
- An error, because it is not an emoji scene
    Any picture becomes patches and tokens. Nothing in the model checks where they come from.
+ A confident answer in the words of its emoji world, most likely wrong
    It always names something it knows. Its architecture is the real Qwen2-VL's, its knowledge is
    not; and it never learned to say “I don't know”.
- A poorer, but sensible description
    The 2-billion-parameter checkpoint would give one. This one has a few million parameters and has
    never seen a photo.
`labkit doctor` finds an Arm CPU with dotprod but without i8mm. What happens when you run an int4 \
model with MNN on it?
- It stops with an illegal instruction
    MNN asks the CPU what it can do before it chooses a kernel.
- KleidiAI runs, only slower
    There is no such middle way in MNN for these kernels: without i8mm (or SME2) it does not choose
    them.
+ It runs, with MNN's own kernels; KleidiAI's stay off
    MNN turns to KleidiAI's int4 kernels only where the CPU has dotprod and i8mm (or SME2). It falls
    back without a word, so “built in” and “running” are two different facts.
""",
)
