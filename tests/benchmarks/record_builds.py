"""Measure finished builds and write data/builds/: ``python tests/benchmarks/record_builds.py --arm DIR DIR … --own DIR --wide MODEL``.

The folders are those of ``labkit build``. For each build what came out; for the first two of ``--arm``, baseline and
accelerated, the instructions of ``llm_demo`` in the emulated lane; for ``--own``, a native build with the Python
module, its times against the stock wheel's, on the embedded model and on a wide one (``made_up_model.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from labkit.base import hardware, paths
from labkit.bench import builds, measure, results
from labkit.building.record import BuildRecord, read_record
from labkit.engine import lanes
from labkit.proof.ready import cached

QUESTION = "Describe the image."


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def described(record: BuildRecord) -> dict[str, object]:
    """What the lesson shows of a build, without this machine's folders."""
    inside = {name: value for name, value in record.options.items() if not value.startswith("/")}
    return {
        "variant": record.variant, "target": record.target, "version": record.version, "compiler": record.compiler,
        "architecture": record.architecture, "options": inside, "seconds": record.seconds, "kernels": record.kernels,
        "default_on": record.default_on, "bytes": {Path(p.path).name: p.bytes for p in record.products},
    }  # fmt: skip


def demo(record: BuildRecord, model: Path, lane: lanes.Lane) -> dict[str, object]:
    """One answer, and the instructions of its phases."""
    picture = paths.data_dir() / "scenes" / "cat_and_pizza.png"
    made = builds.demo_of(record, model, picture, QUESTION, lane, on_step=say)
    phases = {
        phase: counts.to_dict() for phase, counts in zip(made.parts, made.counts, strict=True)
    }
    return {
        "variant": record.variant,
        "target": record.target,
        "answer": made.answer,
        "kleidiai": made.kleidiai,
        "phases": phases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", nargs="+", type=Path, required=True)
    parser.add_argument("--own", type=Path, required=True)
    parser.add_argument("--wide", type=Path, required=True)
    args = parser.parse_args()
    out, mini, lane = paths.data_dir() / "builds", cached(), lanes.emulated("max")
    out.mkdir(exist_ok=True)
    builds = [read_record(folder) for folder in args.arm]
    own, machine = read_record(args.own), hardware.describe()
    content = {
        "machine": {"cpu": machine.cpu, "cores": machine.logical_cores}, "question": QUESTION, "lane": lane.label,
        "builds": [described(record) for record in [*builds, own]], "demos": [demo(record, mini, lane) for record in builds],
        "wide_demos": [demo(record, args.wide, lane) for record in builds[:2]],
    }  # fmt: skip
    (out / "builds.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, model in (("embedded", mini), ("wide", args.wide)):
        plan = measure.BenchPlan(model=model, comparisons=("build",), threads=1, build=args.own)
        result = measure.run(
            plan, on_step=lambda done, total, words: say(f"{words} {done}/{total}")
        )
        (out / f"own-build-{name}.json").write_text(result.to_json(), encoding="utf-8")
        for cells in results.section(result.groups()[0]).cells:
            say(" | ".join(cells))


if __name__ == "__main__":
    main()
