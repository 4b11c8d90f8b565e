"""Executed instructions, by function and by class. They are not time.

The class of an instruction: capstone reads it, and one table of rules sorts it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import capstone
import numpy as np

CLASSES = ("smmla", "sdot", "int_simd", "fp_simd", "load", "store", "branch", "scalar")
MNEMONICS = {
    "smmla": r"(s|u|us)mmla",
    "sdot": r"(s|u|us|su)dot",
    "load": r"ld.*|prf.*|swp.*|cas.*",
    "store": r"st.*",
    "branch": r"b|b\..*|bl|blr.*|br|bra.*|ret.*|[ct]bn?z",
    "fp_simd": r"f.*|[su]cvtf|bf(cvt|dot|ml|mmla|mopa).*",
}
"""The first rule whose mnemonics fit wins; what fits none goes by its registers."""
VECTOR = re.compile(r"\b([vqdshbzp]\d+|za)")


def disassemble(words: np.ndarray) -> list[str]:
    """Each word of A64 code as a line of assembly; ``.byte …`` for what capstone does not know."""
    reader = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    reader.skipdata = True
    code = np.asarray(words, "<u4").tobytes()
    read = reader.disasm_lite(code, 0)
    return [f"{mnemonic} {operands}".rstrip() for _, _, mnemonic, operands in read]


@cache
def _by_mnemonic(mnemonic: str) -> str | None:
    return next((name for name, rule in MNEMONICS.items() if re.fullmatch(rule, mnemonic)), None)


def classify(words: np.ndarray) -> np.ndarray:
    """The class of each A64 instruction, as an index into `CLASSES`.

    ``smmla`` and ``sdot`` stand for their unsigned and mixed kin as well. ``fp_simd`` includes
    scalar floating point. Loads and stores of vectors are loads and stores. What capstone 5 does
    not know, such as loads of SME2, is ``scalar``.

    Parameters
    ----------
    words
        (n,) uint32.

    Returns
    -------
    numpy.ndarray
        (n,) uint8.

    Examples
    --------
    >>> words = np.array([0x4E80A400, 0x4E809400, 0xF9400000, 0xD65F03C0], np.uint32)
    >>> [CLASSES[c] for c in classify(words)]
    ['smmla', 'sdot', 'load', 'branch']
    """
    different, place = np.unique(words, return_inverse=True)
    names = [
        _by_mnemonic(line.split()[0]) or ("int_simd" if VECTOR.search(line) else "scalar")
        for line in disassemble(different)
    ]
    classes: np.ndarray = np.array([CLASSES.index(name) for name in names], np.uint8)[place]
    return classes


@dataclass(frozen=True)
class Counts:
    """Executed instructions of each function.

    Attributes
    ----------
    functions
        For each (library, function) its instructions of each of `CLASSES`, (classes,) float64.
    """

    functions: Mapping[tuple[str, str], np.ndarray]

    @property
    def total(self) -> float:
        """All instructions."""
        return float(sum(row.sum() for row in self.functions.values()))

    def by_class(self) -> dict[str, int]:
        """Instructions of each class."""
        whole = sum(self.functions.values(), np.zeros(len(CLASSES)))
        return dict(zip(CLASSES, np.rint(whole).astype(int).tolist(), strict=True))

    def by_function(self) -> list[tuple[tuple[str, str], int]]:
        """Functions with their instructions, most first."""
        totals = Counter({function: int(row.sum()) for function, row in self.functions.items()})
        return [(function, n) for function, n in totals.most_common() if n]

    def inside(self, *prefixes: str) -> "Counts":
        """Those in functions whose names begin with one of some prefixes, such as ``"kai_"``."""
        return Counts({f: row for f, row in self.functions.items() if f[1].startswith(prefixes)})

    def share(self, prefix: str) -> float:
        """Share of the instructions `inside` some functions, 0 to 1."""
        return self.inside(prefix).total / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "instructions": round(self.total),
            "by_class": self.by_class(),
            "kai_share": self.share("kai_"),
            "top_functions": [
                {"library": library, "function": name, "instructions": n}
                for (library, name), n in self.by_function()[:20]
            ],
        }


def difference(more: Counts, less: Counts, by: float = 1.0) -> Counts:
    """What one run executed beyond another, function by function, divided by ``by``.

    Noise below zero becomes zero.
    """
    rows = dict(more.functions)
    for function, row in less.functions.items():
        rows[function] = rows.get(function, 0) - row
    return Counts({function: np.maximum(row, 0) / by for function, row in rows.items()})
