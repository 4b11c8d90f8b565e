"""What labkit's harness itself costs: ``python tests/benchmarks/harness_overhead.py MODEL_DIR``.

The same forward pass is timed twice over: through labkit's worker (the clock that the benchmark
reads, `labkit.model.parts.Part.forward`) and through MNN's own Python module in a bare process that
imports nothing of labkit. Both processes live at once and take turns, in random order, and each
round has fresh ones, because two processes of one program differ too: how much is shown by a third
one, raw again. Use a model where a pass takes over 5 ms, such as the converted ``twin:2b/8``.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from labkit.base import stats
from labkit.engine.client import EngineProcess
from labkit.model import parts

BARE = """
import os, pickle, sys, time
replies = os.fdopen(os.dup(1), "wb"); os.dup2(2, 1)
import MNN.expr as F
from MNN import nn
file, inputs, outputs, threads, arrays = pickle.load(sys.stdin.buffer)
config = {"backend": 0, "precision": 0, "memory": 2, "numThread": threads}
manager = nn.create_runtime_manager((config,))
manager.set_hint(16, 0)
module = nn.load_module_from_file(file, inputs, outputs, runtime_manager=manager)
kinds = {"f": F.float, "i": F.int}
given = [F.const(a, list(a.shape), F.NCHW, kinds[a.dtype.kind]) for a in arrays]
while True:
    repeat = pickle.load(sys.stdin.buffer)
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        for v in module.forward(given):
            v.read()
        seconds.append(time.perf_counter() - start)
    pickle.dump(seconds, replies); replies.flush()
"""


class Bare:
    """A process with MNN alone."""

    def __init__(self, part: parts.Part, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BARE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.requests, self.replies = self.process.stdin, self.process.stdout
        arrays = [part.arrays[name] for name in part.inputs]
        pickle.dump(
            (str(part.file), list(part.inputs), list(part.outputs), threads, arrays), self.requests
        )

    def forward(self, repeat: int) -> float:
        """Mean seconds of a pass."""
        pickle.dump(repeat, self.requests)
        self.requests.flush()
        return statistics.fmean(pickle.load(self.replies))

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


class Through:
    """The same through labkit."""

    def __init__(self, part: parts.Part, threads: int) -> None:
        self.part, self.engine = part, EngineProcess()
        part.load(self.engine, kleidiai=False, threads=threads)

    def forward(self, repeat: int) -> float:
        """Mean seconds of a pass."""
        return statistics.fmean(self.part.forward(self.engine, repeat=repeat)[0])

    def close(self) -> None:
        """End it."""
        self.engine.close()


def measure(
    part: parts.Part, *, threads: int, rounds: int, values: int = 9
) -> dict[str, list[float]]:
    """Median seconds of a pass in each round of three fresh processes that take turns at random.

    "again" is raw a second time.
    """
    rng, medians = np.random.default_rng(0), {"raw": [], "labkit": [], "again": []}
    for _ in range(rounds):
        sides = {
            name: kind(part, threads)
            for name, kind in (("raw", Bare), ("labkit", Through), ("again", Bare))
        }
        try:
            repeat = max(1, round(0.06 / min(side.forward(3) for side in sides.values())))
            seen = {name: [] for name in sides}
            for _ in range(values):
                for name in rng.permutation(list(sides)):
                    seen[name].append(sides[name].forward(repeat))
        finally:
            for side in sides.values():
                side.close()
        for name, seconds in seen.items():
            medians[name].append(statistics.median(seconds))
    return medians


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of a converted model")
    parser.add_argument(
        "--rounds",
        type=int,
        default=25,
        metavar="N",
        help="rounds of fresh processes, at least 9 (default 25)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads of both (default 1)"
    )
    args = parser.parse_args(argv)
    for part in (parts.vision(args.model), parts.decode(args.model)):
        medians = measure(part, threads=args.threads, rounds=args.rounds)
        print(
            f"{part.name}, {part.size}, {args.rounds} rounds: "
            f"raw MNN {1000 * statistics.median(medians['raw']):.3f} ms a pass"
        )
        for name, words in (
            ("labkit", "through labkit"),
            ("again", "raw MNN again, in another process"),
        ):
            found = stats.ratio(medians[name], medians["raw"])
            cost, low, high = (
                100 * (value - 1) for value in (found.speedup, found.low, found.high)
            )
            print(f"  {words}: {cost:+.2f} % (95 % interval {low:+.2f} to {high:+.2f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
