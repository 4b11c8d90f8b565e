"""The path through the notebooks as a picture, with what is done; in a class, with the checkbox
that shares it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from markupsafe import Markup

from labkit.base.data import frozen
from labkit.base.show import Table, in_notebook
from labkit.lessons import board
from labkit.lessons.cards import Shown
from labkit.lessons.catalogue import EXERCISES
from labkit.lessons.store import Progress

NOTEBOOKS = {
    "00_start_here": "Start here",
    "01_build_mnn_with_kleidiai": "Build MNN with KleidiAI",
    "02_convert_qwen2_vl": "Convert Qwen2-VL",
    "03_patch_embeddings": "Patch embeddings",
    "04_attention_maps": "Attention maps",
    "05_accelerated_vs_baseline": "Accelerated versus baseline",
    "06_inside_a_kleidiai_kernel": "Inside a KleidiAI kernel",
    "07_quantization_tradeoffs": "Quantisation trade-offs",
    "08_your_own_arm_device": "Your own Arm device",
}
SIGNS = {"done": "✔", "begun": "◐", "open": "○"}


@frozen
class Station:
    """One notebook on the path, and how much of it is done."""

    notebook: str  # its file name without ending
    title: str
    state: str  # a key of SIGNS
    words: str

    @property
    def sign(self) -> str:
        """The mark that stands for the state."""
        return SIGNS[self.state]


@dataclass(frozen=True, kw_only=True, repr=False)
class PathMap(Shown):
    """What ``lessons.progress()`` shows."""

    page: ClassVar = "path"
    progress: Progress

    def _repr_mimebundle_(self, **options: object) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options)
        if in_notebook() and board.folder():
            bundle = board.checkbox(self._repr_html_())._repr_mimebundle_() | bundle
        return bundle

    @property
    def stations(self) -> list[Station]:
        """The notebooks, in the order of the path."""
        path = []
        for notebook, title in NOTEBOOKS.items():
            number = notebook[:2]
            exercises = {n for n in EXERCISES if n[:2] == number}
            solved = exercises & self.progress.done
            quiz = number in self.progress.done
            state = "begun" if solved or quiz else "open"
            if quiz and solved == exercises:
                state = "done"
            words = (
                f"{len(solved)} of {len(exercises)} exercises, quiz {'done' if quiz else 'open'}"
            )
            path.append(Station(notebook=notebook, title=title, state=state, words=words))
        return path

    @property
    def summary(self) -> str:
        """One sentence: how many of the notebooks and exercises are done."""
        notebooks = sum(station.state == "done" for station in self.stations)
        return (
            f"Your path: {notebooks} of {len(NOTEBOOKS)} notebooks done, "
            f"{len(self.progress.done & EXERCISES.keys())} of {len(EXERCISES)} exercises solved."
        )

    @property
    def table(self) -> Table:
        """The stations, each with a link to its notebook."""
        link = Markup('<a href="{0.notebook}.ipynb">{0.notebook:.2} {0.title}</a>')
        rows = [(link.format(s), f"{s.sign} {s.words}") for s in self.stations]
        return Table(("Notebook", "Done"), rows)
