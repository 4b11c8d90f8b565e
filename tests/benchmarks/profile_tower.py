"""Where the vision tower's time goes at the real width, and what another conversion of it gives.

Type ``python tests/benchmarks/profile_tower.py``; it takes some minutes. Conversions of a twin of
one block of each part are timed in rounds, each once in a round, in random order; then Linux's
``perf``, where it is there, says which functions take the time in the first of them.
"""

from __future__ import annotations

import argparse
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import numpy as np

from labkit.base import command, files, paths
from labkit.base.show import Table
from labkit.engine.client import EngineProcess
from labkit.model import checkpoints, parts
from labkit.model.convert import convert
from labkit.model.plan import ConversionPlan

VARIANTS: dict[str, dict[str, object]] = {
    "int4, blocks of 128": {},
    "int4, rows": {"vision_block": 0},
    "int4, blocks of 32": {"vision_block": 32},
    "int8, rows": {"vision_bits": 8, "vision_block": 0},
    "int8, blocks of 128": {"vision_bits": 8},
    "int8, symmetric rows": {"vision_bits": 8, "vision_block": 0, "vision_symmetric": True},
}


def tower(name: str, source: str) -> Path:
    out = paths.cache_dir() / "towers" / f"{source.replace('/', '-')} {name}"
    if not out.exists():
        print("convert", name, flush=True)
        checkpoint = checkpoints.resolve(source)
        convert(ConversionPlan(checkpoint=checkpoint, out=out, **VARIANTS[name]))
    return out


def profile(engine: EngineProcess, part: parts.Part) -> None:
    """Shares of the functions in a pass, by ``perf``."""
    if not shutil.which("perf"):
        print("no perf on PATH: no shares by function")
        return
    with files.temporary("profile") as folder:
        data = str(folder / "perf.data")
        recorder = Popen(["perf", "record", "-q", "-F", "299", "-o", data, "-p", str(engine.pid)])
        time.sleep(1)
        part.forward(engine, repeat=3)
        recorder.terminate()
        recorder.wait()
        words = ["perf", "report", "-q", "-i", data, "--stdio", "--percent-limit", "0.5"]
        words += ["--fields", "overhead,symbol"]
        print("\n".join(command.run(words).lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="twin:2b/block")
    parser.add_argument("--side", type=int, default=420)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    towers = {name: tower(name, args.model) for name in VARIANTS}
    options = {"kleidiai": False, "threads": args.threads}
    ways = {(name, memory): folder for name, folder in towers.items() for memory in ("low",)}
    ways[next(iter(towers)), "normal"] = next(iter(towers.values()))  # unpacked to float32
    taken: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    rng = np.random.default_rng(0)
    with ExitStack() as stack:
        engines, towered = {}, {}
        for way, folder in ways.items():
            engines[way] = stack.enter_context(EngineProcess())
            towered[way] = parts.vision(folder, args.side, args.side)
            towered[way].load(engines[way], memory=way[1], **options)
            towered[way].forward(engines[way])
        for _ in range(args.rounds):
            for number in rng.permutation(len(ways)):
                way = list(ways)[number]
                taken[way] += towered[way].forward(engines[way])[0]
        first = next(iter(ways))
        rows = []
        for way, seconds in taken.items():
            ratios = np.sort(np.array(taken[first]) / np.array(seconds))
            interval = f"{np.median(ratios):.2f}× ({ratios[1]:.2f} to {ratios[-2]:.2f})"
            size = f"{(ways[way] / 'visual.mnn.weight').stat().st_size / 1e6:.1f} MB"
            rows.append((*way, size, f"{np.median(seconds):.3f} s", interval))
        print(Table(("tower", "memory", "weights", "a pass", "beside the first, pairwise"), rows))
        profile(engines[first], towered[first])


if __name__ == "__main__":
    main()
