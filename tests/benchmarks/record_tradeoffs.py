"""Measure every point of notebook 07 and write data/tradeoffs.json.

Type ``python tests/benchmarks/record_tradeoffs.py``, or one for ``language`` and one for ``vision``
at once; it takes about an hour, can be stopped at any time, and goes on from where it was. What it
has so far stands in the cache.

A file of weights depends on its own part's options only: so one conversion serves a point of each
part, its file put beside the other part's at 16 bits. Scenes are asked about in rounds, every point
in each: whatever time there is, all points have seen the same scenes (``--scenes``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import astuple, replace
from pathlib import Path

from labkit.arm.kleidiai import taken
from labkit.base import files, hardware, paths
from labkit.base.records import from_json, to_json
from labkit.engine.client import EngineProcess
from labkit.model import checkpoints, manifest
from labkit.model.chat import Model
from labkit.model.convert import convert
from labkit.model.plan import ConversionPlan
from labkit.proof import tradeoffs
from labkit.proof.evaluate import Case, held_out_cases, score_model
from labkit.proof.parity import compare
from labkit.proof.tradeoffs import GRAPHS, Measured, Point, Recorded

ROUND = 100
HOME = paths.cache_dir() / "tradeoffs"
MINI = checkpoints.resolve("mini")


def say(words: str) -> None:
    print(time.strftime("%H:%M:%S"), words, file=sys.stderr, flush=True)


def name_of(point: Point) -> str:
    return "-".join(map(str, astuple(point)))


def converted(name: str, options: dict[str, object]) -> Path:
    """A conversion that nothing compared yet."""
    out = HOME / name
    if not out.exists():
        say(f"convert {name}")
        convert(ConversionPlan(checkpoint=MINI, out=out, **options))
    return out


def folder_of(point: Point) -> Path:
    """The point's file of weights, the other part at 16 bits."""
    plain = converted("float16", Point(part="language").options)
    if point.bits == 16:
        return plain
    out = HOME / name_of(point)
    if not out.exists():
        both = {k: v for p in GRAPHS for k, v in replace(point, part=p).options.items() if v != 16}
        source = converted(name_of(replace(point, part="both")), both)
        with files.new_folder(out) as new:
            shutil.copytree(plain, new, dirs_exist_ok=True)
            for name in (GRAPHS[point.part], f"{GRAPHS[point.part]}.weight"):
                shutil.copy(source / name, new)
            old = manifest.read(plain)
            known = {"files": manifest.describe_files(new), "options": old.options | point.options}
            manifest.write(new, replace(old, **known))
    return out


def first_look(point: Point, cases: list[Case]) -> Measured:
    """A point that was not measured yet: scenes, attention, layers, parity."""
    folder = folder_of(point)
    with EngineProcess() as engine:
        layers = taken(engine, folder / GRAPHS[point.part])
    row = tradeoffs.measure(point, folder, MINI, cases, layers)
    return replace(row, departs=compare(folder, MINI).first_departure or "")


def more(row: Measured, cases: list[Case]) -> Measured:
    """The same point, asked about more scenes."""
    with Model(folder_of(row.point)) as model:
        outcomes = score_model(model, cases).outcomes
    missed = tuple(row.scenes + number for number, o in enumerate(outcomes) if not o.right)
    return replace(row, scenes=row.scenes + len(cases), wrong=row.wrong + missed)


def weights_of(point: Point) -> str:
    """The weights of the point's part, byte for byte (graphs carry a number of their run)."""
    written = manifest.read(folder_of(point)).files
    return written[f"{GRAPHS[point.part]}.weight"].sha256


def measure(part: str, cases: list[Case]) -> None:
    """Round by round, every point of a part; points whose files are the same are measured once."""
    kept, points = HOME / f"{part}.json", tradeoffs.grid(part)
    known = from_json(tuple[Measured, ...], kept.read_bytes()) if kept.exists() else ()
    rows = {row.point: row for row in known}
    for start in range(0, len(cases), ROUND):
        seen: dict[str, Measured] = {}
        for point in points:
            some, same = cases[start : start + ROUND], weights_of(point)
            if point not in rows or rows[point].scenes <= start:
                if same in seen:
                    rows[point] = replace(seen[same], point=point)
                else:
                    rows[point] = (
                        more(rows[point], some) if point in rows else first_look(point, some)
                    )
                say(f"{part} {point}: {rows[point].right} of {rows[point].scenes}")
                files.write(kept, to_json([rows[p] for p in points if p in rows]))
            seen[same] = rows[point]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=tuple(GRAPHS))
    parser.add_argument("--scenes", type=int, default=1000)
    args = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        measure(part, held_out_cases(args.scenes))
    write()


def write() -> None:
    """The recorded file: of every point what all have seen."""
    texts = [(HOME / f"{part}.json").read_bytes() for part in GRAPHS]
    rows = [row for text in texts for row in from_json(tuple[Measured, ...], text)]
    scenes = min(row.scenes for row in rows)
    cut = [
        replace(row, scenes=scenes, wrong=tuple(n for n in row.wrong if n < scenes)) for row in rows
    ]
    machine = hardware.describe()
    recorded = Recorded(
        machine=f"{machine.cpu}, {machine.architecture}, {machine.logical_cores} cores",
        date=time.strftime("%Y-%m-%d"),
        tools=manifest.read(HOME / "float16").tools,
        rows=tuple(cut),
    )
    files.write(paths.data_dir() / "tradeoffs.json", to_json(recorded))


if __name__ == "__main__":
    main()
