"""Options from a function: its signature says which, its docstring what for."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest

from labkit.cli.signature import fill


def pair(text: str) -> tuple[str, str]:
    if "-" not in text:
        raise ArgumentTypeError(f"expected two words, received {text!r}")
    first, _, second = text.partition("-")
    return first, second


def work(
    first: str,
    second: str | None = None,
    *,
    folder: Path,
    how_many: int = 7,
    at_all: Annotated[int, int] = 0,
    level: Annotated[str, {"low": "near the ground", "high": "up there"}] = "low",
    names: Annotated[Sequence[str] | None, ("a", "b")] = None,
    files: Sequence[Path] = (),
    couple: Annotated[tuple[str, str] | None, pair] = None,
    quiet: bool = False,
    **more: Annotated[Any, {"--extra-one": {"type": float, "default": 1.5, "help": "one more"}}],
) -> None:
    """Do it.

    Parameters
    ----------
    first
        what comes
        first
    second
        what comes second
    folder : DIR
        where
    how_many
        how many (default %(default)s)
    at_all : COUNT
        how many, or none
    level
        how high
    names
        who
    files : FILE
        which
    couple : A-B
        both
    quiet
        say nothing

    Notes
    -----
    That is all.
    """


def rest(*, model: str = "mini", what: tuple[str, ...] = ()) -> None:
    """Have an option that others have as well.

    Parameters
    ----------
    what
        anything
    """


@pytest.fixture
def parser() -> ArgumentParser:
    made = ArgumentParser()
    fill(made, work)
    return made


def test_defaults_are_those_of_the_function(parser: ArgumentParser) -> None:
    assert vars(parser.parse_args(["x", "--folder", "y"])) == {
        "run": work,
        "first": "x",
        "second": None,
        "folder": Path("y"),
        "how_many": 7,
        "at_all": 0,
        "level": "low",
        "names": None,
        "files": (),
        "couple": None,
        "quiet": False,
        "extra_one": 1.5,
    }


def test_each_kind_is_read(parser: ArgumentParser) -> None:
    words = (
        "x y --folder z --how-many 3 --at-all 0 --level high --names a b --files p q --couple u-v"
    )
    assert vars(parser.parse_args([*words.split(), "--quiet", "--extra-one", "2"])) == {
        "run": work,
        "first": "x",
        "second": "y",
        "folder": Path("z"),
        "how_many": 3,
        "at_all": 0,
        "level": "high",
        "names": ["a", "b"],
        "files": [Path("p"), Path("q")],
        "couple": ("u", "v"),
        "quiet": True,
        "extra_one": 2.0,
    }


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: first, --folder"),
        (["x", "--folder", "y", "--how-many", "0"], "expected at least 1, received 0"),
        (["x", "--folder", "y", "--level", "middle"], "invalid choice: 'middle'"),
        (["x", "--folder", "y", "--names", "a", "c"], "invalid choice: 'c'"),
        (["x", "--folder", "y", "--couple", "u"], "expected two words, received 'u'"),
    ],
)
def test_what_cannot_be_is_wrong_usage(
    parser: ArgumentParser, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(argv)
    assert words in capsys.readouterr().err


def test_the_help_is_the_docstrings(parser: ArgumentParser) -> None:
    said = " ".join(parser.format_help().split())
    for words in (
        "first what comes first second what comes second",
        "--folder DIR where",
        "--how-many N how many (default 7)",
        "--at-all COUNT how many, or none",
        "--couple A-B both",
        "--quiet say nothing",
        "--extra-one EXTRA_ONE one more",
        "level: low near the ground high up there That is all.",
    ):
        assert words in said
    assert "[second]" in said


def test_what_several_commands_share_is_said_once() -> None:
    made = ArgumentParser()
    fill(made, rest)
    assert "--model MODEL a converted model's folder, or a name" in " ".join(
        made.format_help().split()
    )
    assert made.parse_args([]).what == ()
