"""Count one vision and one language block at the real width, and write data/real_width.json.

Type ``python tests/benchmarks/record_real_width.py``: the block twin is written and converted if it
is not there, then counted in the emulated lane with KleidiAI off and on. Minutes; any machine with
the emulated lane gives the same counts to half a percent, however busy it is.
"""

from __future__ import annotations

import sys
from importlib import metadata

from labkit.arm import counting, recorded
from labkit.base import files, paths
from labkit.base.records import to_json
from labkit.model.parts import all_parts
from labkit.proof.ready import cached

MODEL = "twin:2b/block"


def say(words: object) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parts = all_parts(cached(MODEL, on_stage=say, checked=False))
    rungs = counting.ladder(parts, rungs=counting.RUNGS[-2:], on_step=say)
    kept = recorded.record(MODEL, metadata.version("mnn"), parts, rungs)
    files.write(paths.data_dir() / recorded.FILE, to_json(kept))


if __name__ == "__main__":
    main()
