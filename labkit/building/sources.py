"""MNN's and KleidiAI's sources: the pinned releases, and checkouts that somebody has."""

import re
from dataclasses import dataclass
from pathlib import Path

from labkit.base import paths
from labkit.base.errors import BuildError

RELEASE = "3.6.1"
KLEIDIAI = "1.16.0"


@dataclass(frozen=True)
class Source:
    """A project's source: the pinned release, to be cloned into the cache, or a checkout."""

    name: str
    version: str
    tag: str
    url: str
    megabytes: int  # the files of the release; git sends them compressed
    demand: str  # why another version is doubtful
    checkout: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        cloned = paths.place("cache") / "sources" / f"{self.name}-{self.version}"
        return (self.checkout or cloned).expanduser().absolute()

    @property
    def absent(self) -> bool:
        """Whether it has to be cloned."""
        return not self.checkout and not self.folder.is_dir()

    @property
    def download(self) -> str:
        """What cloning fetches, in words."""
        return f"{self.name} {self.tag}, {self.megabytes} MB of files, by git from {self.url}"

    def clone(self, git: str) -> tuple[str, ...]:
        """The command that fetches one release, and no more of its history."""
        words = ("--depth", "1", "--branch", self.tag, "--progress", self.url)
        return (git, "clone", *words, str(self.folder))

    def doubts(self) -> tuple[str, ...]:
        """What may go wrong with a checkout, in sentences.

        Raises
        ------
        BuildError
            If it is not one.
        """
        if not self.checkout:
            return ()
        version = (mnn_version if self.name == "MNN" else kleidiai_version)(self.folder)
        named = f"the source is {self.name} {version or 'of an unknown version'}"
        return () if version == self.version else (f"{named}; {self.demand}",)


PINNED = {
    "MNN": Source(
        "MNN",
        RELEASE,
        RELEASE,
        "https://github.com/alibaba/MNN.git",
        210,
        f"this plan was made for {RELEASE}, where every option was tried",
    ),
    "KleidiAI": Source(
        "KleidiAI",
        KLEIDIAI,
        f"v{KLEIDIAI}",
        "https://github.com/ARM-software/kleidiai.git",
        7,
        f"MNN {RELEASE} asks for {KLEIDIAI}",
    ),
}


def mnn_version(checkout: Path) -> str:
    """The version of an MNN checkout, from its ``include/MNN/MNNDefine.h``.

    Raises
    ------
    BuildError
        If it is not one.
    """
    defines = _text(checkout / "include" / "MNN" / "MNNDefine.h")
    numbers = re.findall(r"#define MNN_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", defines)
    if len(numbers) != 3 or not (checkout / "CMakeLists.txt").is_file():
        raise BuildError(
            "expected MNN's source, with CMakeLists.txt and include/MNN/MNNDefine.h, found none at "
            f"{checkout}. Name a checkout with --source, or leave that out to have release "
            f"{RELEASE} cloned"
        )
    return ".".join(numbers)


def kleidiai_version(checkout: Path) -> str | None:
    """The version of a KleidiAI checkout, as its CMakeLists.txt names it; None where it names none.

    Raises
    ------
    BuildError
        If it is not one.
    """
    if not (checkout / "kai" / "ukernels").is_dir():
        raise BuildError(
            "expected KleidiAI's source, with the folder kai/ukernels, found none at "
            f"{checkout}. Name a checkout of v{KLEIDIAI}"
        )
    number = re.search(r"^\s+VERSION\s+([\d.]+)", _text(checkout / "CMakeLists.txt"), re.MULTILINE)
    return number[1] if number else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
