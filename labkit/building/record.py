"""A finished build, as ``build.json`` in its folder keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from labkit.base.errors import BuildError
from labkit.base.records import from_json

PLAN, RECORD = "plan.json", "build.json"


@dataclass(frozen=True, kw_only=True)
class Product:
    """One file that was built: its path within the build's folder, size and SHA-256."""

    path: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """A finished build.

    Attributes
    ----------
    folder
        Where it is now; the file does not know.
    kernels
        KleidiAI's micro-kernels by instruction set, counted in the ELF symbols of what was built.
    seconds
        Of each stage, all runs of a resumed build together.
    python
        The folder of the Python module, if there is one.
    """

    variant: str
    target: str
    version: str
    options: dict[str, str]
    toolchain: str
    compiler: str
    architecture: str
    seconds: dict[str, float]
    products: tuple[Product, ...]
    kernels: dict[str, int]
    machine: dict[str, str | int | None]
    python: str | None = None
    folder: Path = Path()
    schema: Literal[1] = 1

    @property
    def program(self) -> Path:
        """``llm_demo``."""
        return next(self.folder / p.path for p in self.products if Path(p.path).name == "llm_demo")

    @property
    def default_on(self) -> bool:
        """Whether KleidiAI is enabled without a hint."""
        return self.options.get("MNN_KLEIDIAI_DEFAULT_ON") == "ON"

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file by its name."""
        return {Path(product.path).name: product.bytes for product in self.products}

    def __str__(self) -> str:
        files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.sizes.items())
        kernels = ", ".join(f"{name} {n}" for name, n in self.kernels.items()) or "none"
        took = " + ".join(f"{name} {s:.0f} s" for name, s in self.seconds.items())
        return (
            f"{self.variant} MNN {self.version} for {self.target} ({self.architecture}), "
            f"{self.compiler}\n{took}; {files}\nKleidiAI micro-kernels: {kernels}; "
            f"enabled by default: {'yes' if self.default_on else 'no'}"
        )


def read_record(folder: Path) -> BuildRecord:
    """The record of a finished build.

    Raises
    ------
    BuildError
        If there is none, or it cannot be read.
    """
    file = folder / RECORD
    try:
        return replace(from_json(BuildRecord, file.read_bytes()), folder=folder.absolute())
    except FileNotFoundError as error:
        state = (
            "the build there was not finished; type its command again to go on"
            if (folder / PLAN).is_file()
            else "there is no build there"
        )
        raise BuildError(f"expected the record of a build, {file}: {state}") from error
    except (OSError, ValueError) as error:
        raise BuildError(
            f"expected the record of a build in {file}, got something else ({error}). Build again"
        ) from error
