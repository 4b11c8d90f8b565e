"""The releases that this project was run with, and those that are installed."""

import sys
from importlib import metadata
from pathlib import Path


def read_pins(
    pyproject: Path, environment: dict[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """The pins of ``pyproject.toml`` that apply to one Python.

    Parameters
    ----------
    pyproject
        The file.
    environment
        Values for markers, such as ``{"python_version": "3.10"}``; by default this Python's.

    Returns
    -------
    dict
        The release of each package, by group: "base", "convert", "test", "sweep" and "book".
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from packaging.requirements import Requirement

    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: {
            pin.name: str(pin.specifier).removeprefix("==")
            for pin in map(Requirement, lines)
            if pin.marker is None or pin.marker.evaluate(environment)
        }
        for group, lines in groups.items()
    }


def installed_version(name: str) -> str | None:
    """The installed release without its local part (``2.13.0+cpu`` is ``2.13.0``), or None."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None
