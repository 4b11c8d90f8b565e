"""What the book makes of what is written elsewhere: lessons, commands, docstrings, answers."""

import importlib
import os
import pkgutil
import re
import textwrap
from pathlib import Path

import nbformat

import labkit
from labkit import cli
from labkit.inside import explorer
from labkit.inside.probes import Probe
from labkit.lessons.cards import Card, Fold
from labkit.lessons.catalogue import EXERCISES
from labkit.proof.parity import examples

REPOSITORY = os.environ.get("GITHUB_REPOSITORY", "")  # OWNER/NAME, where a workflow builds this
BRANCH = os.environ.get("GITHUB_REF_NAME", "main")
BINDER = "https://mybinder.org"
WIDGET = "application/vnd.jupyter.widget-view+json"
APART = {  # processes of their own, which load MNN or the exporter
    "labkit.engine.worker",
    "labkit.model.exporter",
    "labkit.model.lean",
}
# Where a lesson shows an explorer: the beginning of the cell's last line.
EXPLORERS = {
    "explorer.similarity(": lambda look, _: explorer.similarity(look),
    "explorer.positions(": lambda look, _: explorer.positions(look),
    "explorer.attention(look,": lambda look, _: explorer.attention(look),
    "spoken = explorer.ask(": lambda _, reading: explorer.text(reading, layer=3, head=3),
}
FRAME = """
<iframe class="explorer" src="explorers/{name}.html" title="{title}" loading="lazy"></iframe>
<p><a href="explorers/{name}.html">This explorer as a page of its own</a>, which you can save.
It works without a kernel.</p>
"""


# ---- lessons


def lesson(text: str) -> nbformat.NotebookNode:
    """A notebook as the book shows it: pictures with their words, folded help, live explorers."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _prepare(cell)
    return notebook


def _prepare(cell: nbformat.NotebookNode) -> None:
    source = cell.source.strip()
    last = source.splitlines()[-1] if source else ""
    if asked := re.search(r'^lessons\.(hint|solution|check)\("([\d.]+)"', last):
        kind, exercise = asked[1], EXERCISES[asked[2]]
        if kind == "hint":
            cell.outputs = [_html(hints(exercise))]
        elif kind == "check":
            cell.outputs = []  # "not tried yet"
        if kind != "check":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "remove-input"]
    for output in cell.outputs:
        data = output.get("data", {})
        if WIDGET in data and {"image/png", "text/html"}.isdisjoint(data):
            data["text/html"] = (
                "<p><em>Here the notebook shows controls that need its kernel.</em></p>"
            )
        if "image/png" in data:
            words = output.metadata.get("image/png", {}).get("alt") or data["text/plain"]
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(words.split())}}
        if "text/html" in data:  # links between lessons lead to pages here
            data["text/html"] = re.sub(r'(href="\d\d_\w+)\.ipynb"', r'\1.html"', data["text/html"])
    for begin in EXPLORERS:
        if last.startswith(begin):
            title = cell.outputs[-1].data["text/plain"]
            cell.outputs.append(_html(FRAME.format(name=file_name(begin), title=title)))


def _html(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {"text/html": text})


def hints(exercise) -> str:
    """All hints of an exercise, each folded."""
    total = len(exercise.hints)
    folds = [Fold(summary=f"Hint {i} of {total}", text=t) for i, t in enumerate(exercise.hints, 1)]
    return Card(title=f"Hints: {exercise.heading}", folds=tuple(folds))._repr_html_()


def file_name(begin: str) -> str:
    """The page of an explorer, named for what makes it."""
    return re.search(r"explorer\.(\w+)", begin)[1]


def save_explorers(folder: Path) -> None:
    """Write the explorers that the lessons show, of the embedded model."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = examples()[1][0]
    with labkit.open_model("mini", on_stage=print) as model, Probe(model) as probe:
        look, reading = probe.look(picture), probe.read(picture, "Describe the image.")
        for begin, make in EXPLORERS.items():
            make(look, reading).save(folder / f"{file_name(begin)}.html")


# ---- pages that are written from code: what follows a page's own text


def commands() -> str:
    """The help of every command, from the functions' signatures and docstrings."""
    os.environ["COLUMNS"] = "92"
    parts = []
    for summaries in cli.COMMANDS.values():
        for name, words in summaries.items():
            parser = cli.parser([name])
            choices = next(a.choices for a in parser._actions if a.choices)  # noqa: SLF001
            help_ = choices[name].format_help()
            about = f"{words[0].upper()}{words[1:]}."
            parts.append(f"## `labkit {name}`\n\n{about}\n\n```text\n{help_}```\n")
    return "\n".join(parts)


def room(name: str) -> str:
    """The docstrings of a room's modules."""
    package = importlib.import_module(f"labkit.{name}")
    modules = [f"labkit.{name}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]
    parts = [f"{package.__doc__}\n"]
    for module in [package.__name__, *modules]:
        if module not in APART:
            title = "" if module == package.__name__ else f"## `{module}`\n\n"
            directive = f".. automodule:: {module}\n   :members:\n"
            parts.append(f"{title}```{{eval-rst}}\n{directive}```\n")
    return "\n".join(parts[:1] + parts[2:])


def answer_key() -> str:
    """Task, solution, why, and usual mistakes of every exercise."""
    parts, lesson_ = [], ""
    for exercise in EXERCISES.values():
        if exercise.id[:2] != lesson_:
            lesson_ = exercise.id[:2]
            parts.append(f"## Lesson {lesson_}\n")
        task = f"{exercise.task} About {exercise.minutes} minutes."
        code = exercise.solution_source.strip()
        parts.append(f"### {exercise.heading}\n\n{task}\n\n```python\n{code}\n```\n")
        parts.append(f"{exercise.why_right}\n")
        usual = [(body, words) for body, words in exercise.mistakes.values() if words]
        if usual:
            parts.append("What learners write instead, and what the check answers:\n")
        for body, words in usual:
            code = textwrap.indent(body.strip(), "  ")
            parts.append(f"- ```python\n{code}\n  ```\n\n  {words}\n")
    return "\n".join(parts)


def launches() -> str:
    """Links that open the lab in a browser, where the repository's address is known."""
    if not REPOSITORY:
        return "Where the book is published from its repository, links to all three stand here."
    start = "lab/tree/notebooks/00_start_here.ipynb"
    links = {
        "Codespaces": f"https://codespaces.new/{REPOSITORY}",
        "Binder": f"{BINDER}/v2/gh/{REPOSITORY}/{BRANCH}?urlpath={start}",
        "Colab": f"https://colab.research.google.com/github/{REPOSITORY}/blob/{BRANCH}"
        "/notebooks/workshop/colab.ipynb",
    }
    return " · ".join(f"[Open in {name}]({url})" for name, url in links.items())


PAGES = {"index": launches, "book/commands": commands, "workshop/answer_key": answer_key}
ROOMS = [m.name for m in pkgutil.iter_modules(labkit.__path__) if m.ispkg and m.name != "cli"]
PAGES |= {f"book/rooms/{name}": (lambda name=name: room(name)) for name in ROOMS}


def add_what_is_made(_app, page, source):
    if page in PAGES:
        source[0] += f"\n{PAGES[page]()}"


# ---- formulas without a script: MathML, which browsers draw by themselves


def formula(translator, node):
    """docutils knows fewer commands than MathJax, and says which it lacks."""
    from docutils.nodes import SkipNode, math_block
    from docutils.utils.math.latex2mathml import tex2mathml

    block = isinstance(node, math_block)
    drawn = tex2mathml(node.astext().replace(r"\dots", r"\ldots"), as_block=block)
    translator.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise SkipNode


def connect(app):
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", add_what_is_made)
    app.connect("builder-inited", lambda app: save_explorers(Path(app.outdir, "explorers")))
