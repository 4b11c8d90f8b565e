"""The words of the emoji world: what can be asked, in which wordings, and how things are called."""

from collections.abc import Sequence

from labkit.world.scenes import Scene

RELATIONS = {"left_of": "left of", "right_of": "right of", "above": "above", "below": "below"}
WORDINGS: dict[str, tuple[str, ...]] = {
    "describe": ("Describe the image.", "What do you see?", "What is in the picture?"),
    "left_of": (
        "What is left of the {x}?",
        "What is to the left of the {x}?",
        "Which object is left of the {x}?",
    ),
    "right_of": (
        "What is right of the {x}?",
        "What is to the right of the {x}?",
        "Which object is right of the {x}?",
    ),
    "above": (
        "What is above the {x}?",
        "What do you see above the {x}?",
        "Which object is above the {x}?",
    ),
    "below": (
        "What is below the {x}?",
        "What do you see below the {x}?",
        "Which object is below the {x}?",
    ),
    "is_there": ("Is there {ax}?", "Do you see {ax}?", "Is there {ax} in the picture?"),
    "how_many": ("How many {xs} are there?", "How many {xs} do you see?", "Count the {xs}."),
    "which": ("Which objects are there?", "Name the objects.", "List all objects."),
    "where": ("Where is the {x}?", "In which part of the picture is the {x}?"),
}
TASKS = tuple(WORDINGS)
NUMBERS = ("zero", "one", "two", "three", "four")
PLURALS = {"fish": "fish", "butterfly": "butterflies"}


def needs_subject(task: str) -> bool:
    """True for a task that asks about one object."""
    return "{" in WORDINGS[task][0]


def check_subject(task: str, subject: str | None) -> None:
    """Raise a ValueError if the task asks about one object and none was named."""
    if needs_subject(task) and subject is None:
        raise ValueError(f"the task {task!r} asks about one object: give its name")


def wording(task: str, subject: str | None = None, index: int = 0) -> str:
    """A question in words.

    Raises
    ------
    ValueError
        If the task asks about one object and none was named.
    """
    check_subject(task, subject)
    template = WORDINGS[task][index % len(WORDINGS[task])]
    if not subject:
        return template
    return template.format(x=subject, ax=article(subject), xs=plural(subject))


def article(name: str) -> str:
    """``"a cat"``, ``"an apple"``.

    >>> article("apple"), article("cat")
    ('an apple', 'a cat')
    """
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(name: str) -> str:
    """More than one of a kind.

    >>> plural("bus"), plural("cat"), plural("fish")
    ('buses', 'cats', 'fish')
    """
    ending = "es" if name.endswith(("s", "x", "ch", "sh")) else "s"
    return PLURALS.get(name, name + ending)


def sentence(words: str) -> str:
    """``"A cat."`` from ``"a cat"``."""
    return f"{words[0].upper()}{words[1:]}."


def listed(scene: Scene, numbers: Sequence[str] = NUMBERS) -> str:
    """What stands in the scene from left to right, such as ``"two cats and an apple"``."""
    counts = {kind: len(scene.named(kind)) for kind in scene.kinds}
    *others, last = (
        article(kind) if count == 1 else f"{numbers[count]} {plural(kind)}"
        for kind, count in counts.items()
    )
    return f"{', '.join(others)} and {last}" if others else last
