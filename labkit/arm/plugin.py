"""The QEMU plugin that counts (``counting.c``), and what else is compiled once and kept."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.base import command, paths
from labkit.base.errors import CommandFailed, CountingFailed
from labkit.engine import qemu

SOURCE = Path(__file__).with_name("counting.c")
NEWEST_QEMU = 8  # QEMU 9 has another plugin API, which was not run with this plugin
INSTALL = "Type: sudo apt-get install gcc libc6-dev"


def c_compiler() -> str | None:
    """A C compiler for this machine; None if there is none on PATH."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def compiled(name: str, argv: Sequence[str], sources: Mapping[str, str]) -> Path:
    """What a compiler makes of some sources, made once and kept in the cache.

    Parameters
    ----------
    name
        Ends the result's name; before it stands a hash of the command and the sources.
    argv
        The compiler's command without ``-o``. It runs where the sources lie.
    sources
        Text by file name.

    Raises
    ------
    CommandFailed
        If the compiler refuses. Nothing is left behind.
    """
    key = hashlib.sha256(repr((argv, sources)).encode()).hexdigest()[:16]
    folder = paths.cache_dir() / "compiled"
    result = folder / f"{key}-{name}"
    if not result.is_file():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            work = Path(temporary)
            for source, text in sources.items():
                (work / source).write_text(text, encoding="utf-8")
            command.run([*argv, "-o", "made.o"], timeout_s=300, cwd=work, env={"LC_ALL": "C"})
            os.replace(work / "made.o", result)
    return result


def option(prefix: Path, *, at_exit: bool = False) -> str:
    """The plugin as QEMU is told of it, compiled on first use. It writes PREFIX.0 and so on.

    Parameters
    ----------
    prefix
        Of the snapshots' names.
    at_exit
        Also write PREFIX.exit and PREFIX.maps when the program ends.

    Raises
    ------
    CountingFailed
        Without a C compiler, or with a QEMU whose plugin API was not run with it.
    """
    version = qemu.version("qemu-aarch64")
    major = re.search(r"version (\d+)", version)
    if major and int(major[1]) > NEWEST_QEMU:
        raise CountingFailed(
            "expected QEMU 7 or 8, whose plugin interface counting was written for, "
            f"found {version!r}. Everything else of the emulated lane works; to count, "
            "use Debian 12 or Ubuntu 24.04, for example in a container."
        )
    compiler = c_compiler()
    if compiler is None:
        raise CountingFailed(
            "counting needs a C compiler for its QEMU plugin, found none on PATH. " + INSTALL
        )
    words = ["-shared", "-fPIC", "-O2", "-Wl,--unresolved-symbols=ignore-all", SOURCE.name]
    sources = {SOURCE.name: SOURCE.read_text(encoding="utf-8")}
    try:
        library = compiled("counting.so", [compiler, *words], sources)
    except CommandFailed as error:
        raise CountingFailed(f"the QEMU plugin did not compile: {error}\n{INSTALL}") from error
    return f"{library},out={prefix}{',exit=on' if at_exit else ''}"
