"""The commands that are hurt, and how to see whether what they left is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faults.sandbox import Sandbox
from loopback_hub import LoopbackHub

from labkit.base import paths
from labkit.base.errors import FolderError, LaneNotReady
from labkit.engine.lanes import emulated
from labkit.lessons import store
from labkit.lessons.prepare import prepared
from labkit.model import hub, manifest

SCENE = str(paths.data_dir() / "scenes" / "cat_and_pizza.png")
QUESTION = "What is left of the pizza?"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One command: what it makes, and whether that is there, which fails where it is half."""

    argv: tuple[str, ...]
    whole: Callable[[Sandbox], bool]
    makes: str = ""  # a name in the folder of results that has to be free
    mark: str = ""  # what says there that it is whole, if not the name alone
    keeps: str = ""  # what it would find there the next time, from that folder
    stays: str = r".*\.incomplete"  # what may stay where it failed: what goes on from there
    steps: tuple[int, int] = (1, 40)  # how many of its steps are hurt, at most: short, long form
    moments: tuple[int, int] = (0, 8)  # and at how many moments it is ended
    limits: tuple[int, int] = (1, 8)  # how many limits of bytes it meets

    @property
    def told(self) -> str:
        """What is there only once it is whole."""
        return self.mark or self.makes

    def forget(self, place: Sandbox) -> None:
        """Remove what it has made, and what is kept between runs."""
        for made in filter(None, (self.makes, self.keeps)):
            path = place.out / made
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def _report(place: Sandbox) -> bool:
    page = place.out / "report.html"
    return page.exists() and page.read_text().endswith("</html>\n")


def _probe(place: Sandbox) -> bool:
    folder = place.out / "probed"
    if not folder.exists():
        return False
    about = json.loads((folder / "probe.json").read_text())
    with np.load(folder / "probe.npz") as arrays:
        assert {name for name in arrays if arrays[name].size} == about["arrays"].keys()
    pictures = {path.name for path in folder.glob("*.png") if path.stat().st_size}
    assert pictures == about["pictures"].keys()
    return True


def _fetch(_: Sandbox) -> bool:
    offer = hub.kept(LoopbackHub.hub_id)
    if offer:
        assert all(file.describes(offer.folder / name) for name, file in offer.files.items())
    return offer is not None


def _convert(place: Sandbox) -> bool:
    model = place.out / "model"
    if model.exists():
        assert all(manifest.verify(model).values())
    return model.exists()


def _prepare(place: Sandbox) -> bool:
    folder = place.out / "class"
    for model in folder.glob("cache/models/[!.]*"):
        assert all(manifest.verify(model).values()), model
    try:
        return bool(prepared(folder).bytes)
    except FolderError:
        return False


def _lane(_: Sandbox) -> bool:
    try:
        return emulated().name == "emulated"
    except LaneNotReady:
        return False


def _progress(_: Sandbox) -> bool:
    known = store.load()
    assert not known.note
    return known.done == {"02.1"}


LABKIT = {
    "report": Subject(
        argv=("labkit", "report", "result.json", "--out", "report.html"),
        whole=_report,
        makes="report.html",
    ),
    "probe": Subject(
        argv=("labkit", "probe", SCENE, "--question", QUESTION, "--out", "probed"),
        whole=_probe,
        makes="probed",
        steps=(1, 12),
        limits=(0, 8),
    ),
    "fetch": Subject(
        argv=("labkit", "fetch", LoopbackHub.hub_id, "--yes"),
        whole=_fetch,
        keeps="../home/cache/hub",
        steps=(2, 40),
        moments=(1, 12),
    ),
    "progress store": Subject(
        argv=("from labkit.lessons import store; print(store.record('02.1').note)",),
        whole=_progress,
        steps=(3, 40),
        keeps="../home/progress/progress.json",
    ),
    "convert": Subject(
        argv=("labkit", "convert", "mini", "--out", "model"),
        whole=_convert,
        makes="model",
        steps=(0, 6),
        moments=(1, 10),
        limits=(0, 6),
    ),
    "prepare": Subject(
        argv=("labkit", "prepare", "--shared", "class", "--lessons", "00_start_here"),
        whole=_prepare,
        makes="class",
        mark="class/shared.json",
        stays=r"out/class/(cache/logs.*|progress|results)",
        steps=(0, 8),
        moments=(0, 8),
        limits=(0, 4),
    ),
    "lane setup": Subject(
        argv=("labkit", "lane", "setup", "emulated"),
        stays=r"home/cache/lanes/emulated\.part.*",
        whole=_lane,
        keeps="../home/cache/lanes",
        steps=(0, 4),
        moments=(0, 8),
        limits=(0, 4),
    ),
}


def furnish(place: Sandbox, name: str, model: Path, result: str) -> None:
    """Put there what the command needs: a converted model, a result."""
    if name == "probe":
        shutil.copytree(model, place.home / "cache" / "models" / model.name)
    if name == "report":
        (place.out / "result.json").write_text(result, encoding="utf-8")
