"""The path through the notebooks as a picture, with what is done."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from labkit.base import paths
from labkit.base.errors import LabkitError
from labkit.base.show import Table
from labkit.lessons.cards import Shown

NOTEBOOKS = {
    "00_start_here": "Start here",
    "01_build_mnn_with_kleidiai": "Build MNN with KleidiAI",
    "02_convert_qwen2_vl": "Convert Qwen2-VL",
    "03_patch_embeddings": "Patch embeddings",
    "04_attention_maps": "Attention maps",
    "05_accelerated_vs_baseline": "Accelerated versus baseline",
    "06_inside_a_kleidiai_kernel": "Inside a KleidiAI kernel",
}
SIGNS = {"done": "✔", "begun": "◐", "open": "○", "to come": "·"}


@dataclass(frozen=True, kw_only=True)
class Station:
    """One notebook on the path, and how much of it is done."""

    notebook: str  # its file name without ending
    title: str
    state: str  # a key of SIGNS
    words: str
    exercises: int
    solved: int


@dataclass(frozen=True, kw_only=True, repr=False)
class PathMap(Shown):
    """What ``lessons.progress()`` shows."""

    page: ClassVar = "path.html"
    stations: tuple[Station, ...]
    note: str = ""

    @property
    def summary(self) -> str:
        """One sentence: how many of the notebooks that are here are done."""
        here = [station for station in self.stations if station.state != "to come"]
        done = sum(station.state == "done" for station in here)
        solved, exercises = (
            sum(getattr(station, name) for station in here) for name in ("solved", "exercises")
        )
        return (
            f"Your path: {done} of {len(here)} notebooks done, "
            f"{solved} of {exercises} exercises solved."
        )

    def __str__(self) -> str:
        rows = [f"  {SIGNS[s.state]} {s.notebook:<28} {s.words}" for s in self.stations]
        return "\n".join([self.summary, *rows, *filter(None, [self.note])])

    @property
    def table(self) -> Table:
        """The stations, each with a link to its notebook where there is one."""
        rows = []
        for s in self.stations:
            name = f"{s.notebook[:2]} {s.title}"
            link = Markup('<a href="{}.ipynb">{}</a>').format(s.notebook, name)
            rows.append((name if s.state == "to come" else link, f"{SIGNS[s.state]} {s.words}"))
        return Table(("Notebook", "Done"), rows)


def stations(
    known: Collection[str], done: Collection[str], here: Collection[str]
) -> tuple[Station, ...]:
    """The seven stations.

    Parameters
    ----------
    known
        The numbers of all exercises ("02.1") and quizzes ("02").
    done
        Those that are done.
    here
        The names of the notebooks that exist, without ending.
    """
    path = []
    for notebook, title in NOTEBOOKS.items():
        own = {number for number in known if number[:2] == notebook[:2]}
        left = own.difference(done)
        quiz = own & {notebook[:2]}
        exercises, solved = len(own - quiz), len(own - quiz - left)
        words = [f"{solved} of {exercises} exercises"] if exercises else []
        words += [f"quiz {'open' if number in left else 'done'}" for number in quiz]
        state = "open" if left == own else "begun" if left else "done"
        if notebook not in here:
            state, words = "to come", ["to come"]
        path.append(
            Station(
                notebook=notebook,
                title=title,
                state=state,
                words=", ".join(words) or "to read",
                exercises=exercises,
                solved=solved,
            )
        )
    return tuple(path)


def notebooks_here() -> frozenset[str]:
    """Names of the notebooks in this checkout, without ending; none where there is no checkout."""
    with suppress(LabkitError, OSError):
        return frozenset(path.stem for path in (paths.repository() / "notebooks").glob("*.ipynb"))
    return frozenset()
