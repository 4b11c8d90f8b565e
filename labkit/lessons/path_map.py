"""The path through the notebooks as a picture, with what is done."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from labkit.lessons.cards import inline
from labkit.lessons.store import Progress

NOTEBOOKS: Mapping[str, str] = {
    "00_start_here": "Start here",
    "01_build_mnn_with_kleidiai": "Build MNN with KleidiAI",
    "02_inside_a_kleidiai_kernel": "Inside a KleidiAI kernel",
    "03_convert_qwen2_vl": "Convert Qwen2-VL",
    "04_patch_embeddings": "Patch embeddings",
    "05_attention_maps": "Attention maps",
    "06_accelerated_vs_baseline": "Accelerated versus baseline",
}
SIGNS = {"done": "✔", "begun": "◐", "open": "○", "to come": "·"}
WIDTH, HEIGHT, FIRST, STEP = 896, 136, 64, 128
DONE, LINE, INK = "#21918c", "#8a8a8a", "#222222"

State = Literal["done", "begun", "open", "to come"]


@dataclass(frozen=True, kw_only=True)
class Station:
    """One notebook on the path: its file name without ending, its title, and how much of it is done."""

    notebook: str
    title: str
    exists: bool
    exercises: int = 0
    exercises_done: int = 0
    quiz: bool = False
    quiz_done: bool = False

    @property
    def state(self) -> State:
        """Where the learner stands with it."""
        total, done = self.exercises + self.quiz, self.exercises_done + self.quiz_done
        if not self.exists:
            return "to come"
        if total and done == total:
            return "done"
        return "begun" if done else "open"

    @property
    def words(self) -> str:
        """The same in words: "1 of 2 exercises, quiz open"."""
        if not self.exists:
            return "to come"
        parts = [f"{self.exercises_done} of {self.exercises} exercises"] if self.exercises else []
        parts += [f"quiz {'done' if self.quiz_done else 'open'}"] if self.quiz else []
        return ", ".join(parts) or "to read"


@dataclass(frozen=True, kw_only=True, repr=False)
class PathMap:
    """What ``lessons.progress()`` shows."""

    stations: tuple[Station, ...]
    note: str = ""

    @property
    def summary(self) -> str:
        """One sentence: how many of the notebooks that are here are done."""
        here = [station for station in self.stations if station.exists]
        done = sum(station.state == "done" for station in here)
        exercises, solved = sum(station.exercises for station in here), sum(station.exercises_done for station in here)
        return f"Your path: {done} of {len(here)} notebooks done, {solved} of {exercises} exercises solved."

    def __str__(self) -> str:
        rows = [f"  {SIGNS[station.state]} {station.notebook:<28} {station.words}" for station in self.stations]
        return "\n".join([self.summary, *rows, *([self.note] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # The picture is an image with alternative text: pages that show notebooks drop SVG elements, but keep images.
        alt = html.escape(self.summary + " " + "; ".join(f"{station.title}: {station.words}" for station in self.stations) + ".")
        picture = f'<img alt="{alt}" width="{WIDTH}" src="data:image/svg+xml;charset=utf-8,{quote(self.to_svg())}"/>'
        rows = "".join(_row(station) for station in self.stations)
        head = "<tr><th>Notebook</th><th>Done</th></tr>"
        note = f"<p>{inline(self.note)}</p>" if self.note else ""
        return f"<div><p><strong>{html.escape(self.summary)}</strong></p>{picture}<table>{head}{rows}</table>{note}</div>"

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def to_svg(self) -> str:
        """The picture: a line of stations, full when done, half when begun, dashed while to come."""
        title = html.escape(self.summary)
        last = FIRST + STEP * (len(self.stations) - 1)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'font-family="sans-serif" text-anchor="middle" fill="{INK}"><title>{title}</title>'
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="white"/>'
            f'<line x1="{FIRST}" y1="44" x2="{last}" y2="44" stroke="{LINE}" stroke-width="3"/>'
            + "".join(_drawn(station, FIRST + STEP * i) for i, station in enumerate(self.stations))
            + "</svg>"
        )


def stations(exercises: tuple[str, ...], quizzes: tuple[str, ...], progress: Progress, existing: frozenset[str]) -> tuple[Station, ...]:
    """The seven stations.

    Parameters
    ----------
    exercises, quizzes
        Numbers of all that there are.
    progress
        What is done.
    existing
        Names of the notebooks in this checkout, without ending.
    """
    found = []
    for notebook, title in NOTEBOOKS.items():
        number = notebook[:2]
        own = {exercise for exercise in exercises if exercise.startswith(f"{number}.")}
        found.append(
            Station(
                notebook=notebook,
                title=title,
                exists=notebook in existing,
                exercises=len(own),
                exercises_done=len(own & progress.exercises),
                quiz=number in quizzes,
                quiz_done=number in quizzes and number in progress.quizzes,
            )
        )
    return tuple(found)


def notebooks_here() -> frozenset[str]:
    """Names of the notebooks in this checkout, without ending; none where there is no checkout."""
    from labkit import paths
    from labkit.errors import LabkitError

    try:
        return frozenset(path.stem for path in (paths.repository() / "notebooks").glob("*.ipynb"))
    except (LabkitError, OSError):
        return frozenset()


def _row(station: Station) -> str:
    name = html.escape(f"{station.notebook[:2]} {station.title}")
    link = f'<a href="{station.notebook}.ipynb">{name}</a>' if station.exists else name
    return f'<tr><td style="text-align: left">{link}</td><td style="text-align: left">{SIGNS[station.state]} {station.words}</td></tr>'


def _drawn(station: Station, x: int) -> str:
    full, dashed = station.state == "done", ' stroke-dasharray="4 4"' if station.state == "to come" else ""
    ink = "white" if full else LINE if station.state == "to come" else INK
    ring = LINE if station.state in ("open", "to come") else DONE
    drawing = f'<circle cx="{x}" cy="44" r="22" fill="{DONE if full else "white"}" stroke="{ring}" stroke-width="3"{dashed}/>'
    if station.state == "begun":
        drawing += f'<path d="M {x} 22 a 22 22 0 0 0 0 44 z" fill="{DONE}" fill-opacity="0.35"/>'
    drawing += f'<text x="{x}" y="50" font-size="17" font-weight="bold" fill="{ink}">{"✔" if full else station.notebook[:2]}</text>'
    colour = "#6a6a6a" if station.state == "to come" else INK
    lines = _two_lines(station.title)
    for i, line in enumerate(lines):
        drawing += f'<text x="{x}" y="{86 + 15 * i}" font-size="13" fill="{colour}">{html.escape(line)}</text>'
    return drawing + f'<text x="{x}" y="{88 + 15 * len(lines)}" font-size="11" fill="#555555">{html.escape(station.words)}</text>'


def _two_lines(title: str) -> list[str]:
    words = title.split()
    if len(title) <= 16:
        return [title]
    cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(" ".join(words[i:]))))
    return [" ".join(words[:cut]), " ".join(words[cut:])]
