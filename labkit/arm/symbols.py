"""Functions of an ELF file by address: their names, and their code."""

import ctypes
from functools import lru_cache
from pathlib import Path

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import KernelError

SYMBOL = np.dtype("<u4, u1, u1, <u2, <u8, <u8")  # name, type, visibility, section, address, size
FUNCTION_TYPES = (2, 10)  # STT_FUNC; STT_GNU_IFUNC, which is chosen when the library is loaded


@frozen
class Functions:
    """The functions that an ELF file defines, in the order of their addresses.

    Attributes
    ----------
    addresses, sizes
        (n,) int64, in bytes, as the file counts; size 0 means up to the next function.
    names
        As the linker knows them.
    fixed
        Whether it is a program that lies where its addresses say, not one that is moved.
    """

    addresses: np.ndarray
    sizes: np.ndarray
    names: tuple[str, ...]
    fixed: bool

    def at(self, addresses: np.ndarray, start: int) -> np.ndarray:
        """Number of the function at each address, -1 where there is none.

        ``start`` is the address at which the file begins.
        """
        addresses = addresses - (0 if self.fixed else start)
        number = np.searchsorted(self.addresses, addresses, side="right") - 1
        size = self.sizes[number]
        inside = (addresses < self.addresses[number] + size) | (size == 0)
        return np.where((number >= 0) & inside, number, -1)


def functions(file: Path) -> Functions | None:
    """The functions of a file; None if it is no ELF file or has no symbols."""
    return _functions(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _functions(file: Path, _changed_ns: int) -> Functions | None:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with file.open("rb") as opened:
        try:
            elf = ELFFile(opened)
        except ELFError:
            return None
        table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
        if table is None:
            return None
        symbols = np.frombuffer(table.data(), SYMBOL)
        texts = elf.get_section(table["sh_link"]).data()
        fixed = elf["e_type"] == "ET_EXEC"
    name, kind, _, section, address, size = (symbols[field] for field in SYMBOL.names or ())
    chosen = np.flatnonzero(np.isin(kind & 15, FUNCTION_TYPES) & (section != 0))
    chosen = chosen[np.argsort(address[chosen], kind="stable")]
    return Functions(
        addresses=address[chosen].astype(np.int64),
        sizes=size[chosen].astype(np.int64),
        names=tuple(
            texts[start : texts.index(b"\0", start)].decode(errors="replace")
            for start in name[chosen].tolist()
        ),
        fixed=fixed,
    )


def code(file: Path, function: str) -> tuple[int, bytes]:
    """Address and machine code of a function.

    Raises
    ------
    KernelError
        If the file has no such function.
    """
    from elftools.elf.elffile import ELFFile

    known = functions(file)
    if known is None or function not in known.names:
        raise KernelError(
            f"expected a function {function} in {file.name}, found none: "
            "another compiler, or another MNN?"
        )
    number = known.names.index(function)
    address, size = int(known.addresses[number]), int(known.sizes[number])
    if not size:  # of assembly, often: up to the next function
        size = int(known.addresses[known.addresses > address][0]) - address
    with file.open("rb") as opened:
        opened.seek(next(ELFFile(opened).address_offsets(address, size)))
        return address, opened.read(size)


def demangle(name: str) -> str:
    """A C++ function's name as in its source, if the C++ runtime can tell; else the name itself."""
    try:
        runtime = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return name
    read = runtime["__cxa_demangle"]  # held: each look-up makes another object
    read.restype = ctypes.c_void_p
    text = read(name.encode(), None, None, None)
    if not text:
        return name
    try:
        return ctypes.string_at(text).decode()
    finally:
        ctypes.CDLL(None).free(ctypes.c_void_p(text))
