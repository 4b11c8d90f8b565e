"""Measure MNN and its peers at the real size, and write data/real_size.json, or another record.

Type ``python tests/benchmarks/record_real_size.py`` on a quiet machine, after ``labkit peer setup``
of each peer; what is not converted yet is converted first. It takes about five minutes an engine,
can be stopped at any time, and goes on from the last round that was whole. The machine's peaks are
measured before and after, and the higher ones kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from labkit.base import files, hardware, paths
from labkit.base.records import to_json
from labkit.bench import rounds, work
from labkit.bench.comparisons import PEERS
from labkit.bench.plan import BenchPlan
from labkit.bench.work import RealSize
from labkit.engine.lanes import native
from labkit.engine.mnn_llm import MORE
from labkit.kernels import roof
from labkit.model import checkpoints, manifest, tuned
from labkit.proof.ready import folder_of


def say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="twin:2b")
    parser.add_argument("--peer", nargs="+", default=tuple(PEERS), choices=PEERS)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--side", type=int, default=336, help="of the picture, in pixels")
    parser.add_argument("--build", type=Path, help="an own build of MNN, in place of the wheel")
    parser.add_argument("--threads", type=int, default=hardware.default_threads())
    parser.add_argument("--name", default="real_size", help="of the record in data/")
    args = parser.parse_args()
    model = folder_of(args.model, on_stage=say)
    about, visual = manifest.read(model), (args.side // 28) ** 2
    chosen = {} if args.build else tuned.read(about)
    plan = BenchPlan(
        model=model,
        comparisons=tuple(args.peer),
        pairs=args.pairs,
        image=(args.side, args.side),
        prompt_tokens=visual + 48,
        threads=args.threads,
        tuned={name: value for name, value in chosen.items() if name in MORE},
        checkpoint=about.source["name"],
        build=native(args.build).build,
    )
    before = roof.measure(plan.threads)
    say(before)
    result = rounds.run(plan, on_step=lambda done, total, what: say(f"{done} of {total}", what))
    after = roof.measure(plan.threads)
    best = max(before, after, key=lambda measured: measured.compute)
    config = checkpoints.resolve(plan.checkpoint).config
    recorded = RealSize(result=result, roof=best, done=tuple(work.achieved(result, config)))
    files.write(paths.data_dir() / f"{args.name}.json", to_json(recorded))
    print(f"{result}\n\n{best}\n{work.table(best, recorded.done)}")


if __name__ == "__main__":
    main()
