"""The path through the notebooks as a picture, with what is done."""

from __future__ import annotations

import html
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from labkit.base import paths
from labkit.base.errors import LabkitError
from labkit.lessons.cards import Shown, inline
from labkit.lessons.store import Progress

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
WIDTH, HEIGHT, FIRST, STEP = 896, 156, 64, 128
DONE, LINE, INK = "#21918c", "#8a8a8a", "#222222"


@dataclass(frozen=True, kw_only=True)
class Station:
    """One notebook on the path, and how much of it is done."""

    notebook: str  # its file name without ending
    title: str
    state: str  # a key of SIGNS
    words: str
    exercises: int
    exercises_done: int


@dataclass(frozen=True, kw_only=True, repr=False)
class PathMap(Shown):
    """What ``lessons.progress()`` shows."""

    stations: tuple[Station, ...]
    note: str = ""

    @property
    def summary(self) -> str:
        """One sentence: how many of the notebooks that are here are done."""
        here = [station for station in self.stations if station.state != "to come"]
        done, solved = (
            sum(station.state == "done" for station in here),
            sum(station.exercises_done for station in here),
        )
        exercises = sum(station.exercises for station in here)
        return f"Your path: {done} of {len(here)} notebooks done, {solved} of {exercises} exercises solved."

    def __str__(self) -> str:
        rows = [
            f"  {SIGNS[station.state]} {station.notebook:<28} {station.words}"
            for station in self.stations
        ]
        return "\n".join([self.summary, *rows, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        # The picture is an image with alternative text: pages that show notebooks drop SVG elements, but keep images.
        alt = html.escape(
            self.summary
            + " "
            + "; ".join(f"{station.title}: {station.words}" for station in self.stations)
            + "."
        )
        picture = f'<img alt="{alt}" width="{WIDTH}" src="data:image/svg+xml;charset=utf-8,{quote(self.to_svg())}"/>'
        table = "<tr><th>Notebook</th><th>Done</th></tr>"
        for station in self.stations:
            name = html.escape(f"{station.notebook[:2]} {station.title}")
            link = (
                f'<a href="{station.notebook}.ipynb">{name}</a>'
                if station.state != "to come"
                else name
            )
            cells = (
                f'<td style="text-align: left">{cell}</td>'
                for cell in (link, f"{SIGNS[station.state]} {station.words}")
            )
            table += f"<tr>{''.join(cells)}</tr>"
        note = f"<p>{inline(self.note)}</p>" if self.note else ""
        return f"<div><p><strong>{html.escape(self.summary)}</strong></p>{picture}<table>{table}</table>{note}</div>"

    def to_svg(self) -> str:
        """The picture: a line of stations, full when done, half when begun, dashed while to come."""
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        drawing += f'text-anchor="middle" fill="{INK}"><title>{html.escape(self.summary)}</title>'
        drawing += f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="white"/>'
        drawing += f'<line x1="{FIRST}" y1="44" x2="{WIDTH - FIRST}" y2="44" stroke="{LINE}" stroke-width="3"/>'
        for x, station in zip(range(FIRST, WIDTH, STEP), self.stations, strict=True):
            full, dashed = (
                station.state == "done",
                ' stroke-dasharray="4 4"' if station.state == "to come" else "",
            )
            ink = "white" if full else LINE if station.state == "to come" else INK
            ring = LINE if station.state in ("open", "to come") else DONE
            drawing += f'<circle cx="{x}" cy="44" r="22" fill="{DONE if full else "white"}" stroke="{ring}" stroke-width="3"{dashed}/>'
            if station.state == "begun":
                drawing += (
                    f'<path d="M {x} 22 a 22 22 0 0 0 0 44 z" fill="{DONE}" fill-opacity="0.35"/>'
                )
            drawing += f'<text x="{x}" y="50" font-size="17" font-weight="bold" fill="{ink}">{"✔" if full else station.notebook[:2]}</text>'
            title = [
                (15, "#6a6a6a" if station.state == "to come" else INK, line)
                for line in _two_lines(station.title)
            ]
            y = 78
            for size, colour, line in [
                *title,
                *((12, "#555555", line) for line in station.words.split(", ")),
            ]:
                y += size + 3
                drawing += f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}">{html.escape(line)}</text>'
        return drawing + "</svg>"


def stations(
    exercises: Collection[str],
    quizzes: Collection[str],
    progress: Progress,
    existing: Collection[str],
) -> tuple[Station, ...]:
    """The seven stations, from the numbers of all exercises and quizzes, what is done, and the names of the notebooks that exist."""
    found = []
    for notebook, title in NOTEBOOKS.items():
        number = notebook[:2]
        own = {exercise for exercise in exercises if exercise.startswith(f"{number}.")}
        solved, quiz = own & progress.exercises, number in quizzes
        quiz_done = quiz and number in progress.quizzes
        parts = [f"{len(solved)} of {len(own)} exercises"] * bool(own) + [
            f"quiz {'done' if quiz_done else 'open'}"
        ] * quiz
        done = bool(parts) and solved == own and quiz_done == quiz
        state, words = (
            "done" if done else "begun" if solved or quiz_done else "open",
            ", ".join(parts) or "to read",
        )
        if notebook not in existing:
            state = words = "to come"
        found.append(
            Station(
                notebook=notebook,
                title=title,
                state=state,
                words=words,
                exercises=len(own),
                exercises_done=len(solved),
            )
        )
    return tuple(found)


def notebooks_here() -> frozenset[str]:
    """Names of the notebooks in this checkout, without ending; none where there is no checkout."""
    with suppress(LabkitError, OSError):
        return frozenset(path.stem for path in (paths.repository() / "notebooks").glob("*.ipynb"))
    return frozenset()


def _two_lines(title: str) -> list[str]:
    halves = [[title[:i], title[i + 1 :]] for i, letter in enumerate(title) if letter == " "]
    return (
        [title]
        if len(title) <= 12
        else min(halves, key=lambda pair: abs(len(pair[0]) - len(pair[1])))
    )
