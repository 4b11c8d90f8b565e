"""Measure finished builds and write data/builds/.

Type ``python tests/benchmarks/record_builds.py --arm DIR DIR … --own DIR --wide MODEL``. The
folders are those of ``labkit build``. For each build what came out; for the first two of ``--arm``,
baseline and accelerated, the instructions of ``llm_demo`` in the emulated lane; for ``--own``, a
native build with the Python module, its times against the stock wheel's, on the embedded model and
on a wide one (the converted ``twin:2b/8``).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from labkit.base import files, hardware, paths
from labkit.base.records import to_json
from labkit.bench import builds, measure
from labkit.bench.plan import BenchPlan
from labkit.building.record import BuildRecord, read_record
from labkit.engine import lanes
from labkit.proof.ready import cached

QUESTION = "Describe the image."


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def without_folders(record: BuildRecord) -> BuildRecord:
    """What the lesson shows of a build: nothing of this machine's folders."""
    inside = {name: value for name, value in record.options.items() if not value.startswith("/")}
    return replace(record, options=inside, folder=Path())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", nargs="+", type=Path, required=True)
    parser.add_argument("--own", type=Path, required=True)
    parser.add_argument("--wide", type=Path, required=True)
    args = parser.parse_args()
    out, mini, lane = paths.data_dir() / "builds", cached(), lanes.emulated("max")
    out.mkdir(exist_ok=True)
    arm = [read_record(folder) for folder in args.arm]
    machine = hardware.describe()
    asked = {"picture": paths.data_dir() / "scenes" / "cat_and_pizza.png", "question": QUESTION}

    def counted(records: list[BuildRecord], model: Path) -> tuple[builds.Demo, ...]:
        return tuple(
            builds.demo_of(record, model, **asked, lane=lane, on_step=say) for record in records
        )

    recorded = builds.Recorded(
        machine={"cpu": machine.cpu, "cores": machine.logical_cores},
        question=QUESTION,
        lane=lane.label,
        builds=tuple(map(without_folders, [*arm, read_record(args.own)])),
        demos=counted(arm, mini),
        wide_demos=counted(arm[:2], args.wide),
    )
    files.write(out / "builds.json", to_json(recorded))
    for name, model in (("embedded", mini), ("wide", args.wide)):
        plan = BenchPlan(model=model, comparisons=("build",), threads=1, build=args.own)
        result = measure.run(
            plan, on_step=lambda done, total, words: say(f"{words} {done}/{total}")
        )
        files.write(out / f"own-build-{name}.json", to_json(result))
        say(str(result))


if __name__ == "__main__":
    main()
