"""From a typed function to a command: its signature says the options, its docstring the help.

What stands before ``*`` is an argument, what stands behind it an option. An annotation may carry
more: ``Annotated[str, choices]``, where a mapping also says what each choice means, or
``Annotated[T, read]`` with the function that reads the text. That of ``**more`` carries options as
argparse takes them.

The docstring's section *Parameters* has the help of each, and its metavar as ``name : METAVAR``;
what several commands share stands in `labkit.cli.shared.WORDS`. *Notes* ends the command's help.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, getdoc, signature
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from labkit.cli.shared import WORDS

DESCRIBED = re.compile(r"^(\w+)(?: : (.+))?\n((?:    .+\n?)+)", re.MULTILINE)


def at_least_one(text: str) -> int:
    """Read a number; argparse turns the error into wrong usage."""
    if int(text) < 1:
        raise ArgumentTypeError(f"expected at least 1, received {text}")
    return int(text)


KINDS: dict[Any, dict[str, Any]] = {
    bool: {"action": "store_true"},
    int: {"type": at_least_one, "metavar": "N"},
    Path: {"type": Path},
    Sequence[str]: {"nargs": "+"},
    Sequence[Path]: {"nargs": "+", "type": Path},
    tuple[str, ...]: {"nargs": "*"},
}
"""What argparse is told of a type."""


def fill(parser: ArgumentParser, run: Callable[..., Any]) -> None:
    """Give a command's parser its function, the options of that, and the end of the help."""
    text = getdoc(run) or ""
    words = {name: (help_, metavar) for name, metavar, help_ in DESCRIBED.findall(text)}
    parser.set_defaults(run=run)
    parser.epilog = text.partition("Notes\n-----\n")[2]
    for name, parameter in signature(run).parameters.items():
        if parameter.kind is Parameter.VAR_KEYWORD:
            for option, settings in get_args(parameter.annotation)[1].items():
                parser.add_argument(option, **settings)
        else:
            _add(parser, parameter, *(words.get(name) or WORDS[name]))


def _add(parser: ArgumentParser, parameter: Parameter, help_: str, metavar: str = "") -> None:
    name, kind, default = parameter.name, parameter.annotation, parameter.default
    own: dict[str, Any] = {"metavar": metavar} if metavar else {}
    if hasattr(kind, "__metadata__"):
        kind, carried = get_args(kind)
        own["type" if callable(carried) else "choices"] = carried
        if isinstance(carried, Mapping):
            rows = "".join(f"  {choice:18}{words}\n" for choice, words in carried.items())
            parser.epilog = f"{name}:\n{rows}\n{parser.epilog}"
    if NoneType in get_args(kind):
        kind = get_args(kind)[0]
    if default is not Parameter.empty:
        own["default"] = default
    if parameter.kind is Parameter.KEYWORD_ONLY:
        name = f"--{name.replace('_', '-')}"
        own["required"] = default is Parameter.empty
    elif default is None:
        own["nargs"] = "?"
    parser.add_argument(name, help=help_, **(KINDS.get(kind, {}) | own))
