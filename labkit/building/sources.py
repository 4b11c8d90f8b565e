"""MNN's and KleidiAI's sources: the pinned releases, and checkouts that somebody has."""

import re
from dataclasses import replace
from pathlib import Path

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import BuildError

RELEASE = "3.6.1"
KLEIDIAI = "1.16.0"


@frozen
class Source:
    """A project's source: the pinned release, to be cloned into the cache, or a checkout.

    Attributes
    ----------
    megabytes
        The files of the release; git sends them compressed.
    demand
        Why another version is doubtful.
    signs
        What every checkout of it has; the last of them names the version, after ``mark``.
    instead
        What to do about a folder that is none.
    """

    name: str
    version: str
    tag: str
    url: str
    megabytes: int
    demand: str
    signs: tuple[str, ...]
    mark: str
    instead: str
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

    def read_version(self) -> str:
        """The version of what is there, as it names itself; empty where it names none.

        Raises
        ------
        BuildError
            If it is not this project's source.
        """
        if not all((self.folder / sign).exists() for sign in self.signs):
            raise BuildError(
                f"expected {self.name}'s source, with {' and '.join(self.signs)}, found none at "
                f"{self.folder}. {self.instead}"
            )
        text = (self.folder / self.signs[-1]).read_text(encoding="utf-8", errors="replace")
        numbers = re.search(self.mark, text, re.MULTILINE | re.DOTALL)
        return ".".join(numbers.groups()) if numbers else ""

    def doubts(self) -> tuple[str, ...]:
        """What may go wrong with a checkout, in sentences.

        Raises
        ------
        BuildError
            If it is not one.
        """
        version = self.read_version() if self.checkout else self.version
        named = f"the source is {self.name} {version or 'of an unknown version'}"
        return () if version == self.version else (f"{named}; {self.demand}",)


PINNED = {
    "MNN": Source(
        name="MNN",
        version=RELEASE,
        tag=RELEASE,
        url="https://github.com/alibaba/MNN.git",
        megabytes=210,
        demand=f"this plan was made for {RELEASE}, where every option was tried",
        signs=("CMakeLists.txt", "include/MNN/MNNDefine.h"),
        mark=r"MNN_VERSION_MAJOR (\d+).*?_MINOR (\d+).*?_PATCH (\d+)",
        instead="Name a checkout with --source, or leave that out to have release "
        f"{RELEASE} cloned",
    ),
    "KleidiAI": Source(
        name="KleidiAI",
        version=KLEIDIAI,
        tag=f"v{KLEIDIAI}",
        url="https://github.com/ARM-software/kleidiai.git",
        megabytes=7,
        demand=f"MNN {RELEASE} asks for {KLEIDIAI}",
        signs=("kai/ukernels", "CMakeLists.txt"),
        mark=r"^\s+VERSION\s+([\d.]+)",
        instead=f"Name a checkout of v{KLEIDIAI}",
    ),
}


def mnn_version(checkout: Path) -> str:
    """The version of an MNN checkout; raises `BuildError` if it is not one."""
    return replace(PINNED["MNN"], checkout=checkout).read_version()
