"""``labkit bench``, ``roofline``, ``report``: ways to run, in pairs; the roof; one page."""

import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from labkit.bench.comparisons import COMPARISONS, PARTS, PEERS
from labkit.cli.shared import LEVELS, progress, say, say_tuned, show


def _size(text: str) -> tuple[int, int]:
    if size := re.fullmatch(r"(\d+)x(\d+)", text):
        return int(size[1]), int(size[2])
    raise ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 112x112, received {text!r}")


def bench(
    *,
    model: str = "mini",
    compare: Annotated[Sequence[str] | None, COMPARISONS] = None,
    peer: Annotated[Sequence[str] | None, PEERS] = None,
    parts: Annotated[Sequence[str], PARTS] = PARTS,
    pairs: int = 9,
    threads: int | None = None,
    precision: Annotated[str | None, LEVELS] = None,
    memory: Annotated[str | None, LEVELS] = None,
    image: Annotated[tuple[int, int], _size] = (112, 112),
    prompt_tokens: int = 48,
    checkpoint: str | None = None,
    build: Path | None = None,
    against: Path | None = None,
    lane: str = "native",
    count: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Time in pairs, or count; print the result and keep it.

    Parameters
    ----------
    compare : NAME
        which (default: what fits this machine; one for a large model)
    peer : NAME
        other engines, set up by `labkit peer setup NAME`: all and MNN in one interleaved run
    parts
        what to measure (default: all)
    pairs
        pairs of each comparison, at least 9 (default %(default)s)
    image : HxW
        picture, multiples of 28 (default 112x112)
    prompt_tokens
        length of the prompt (default %(default)s)
    checkpoint
        what the model was converted from, for transformers and peers (default: as it says)
    build : DIR
        your own build of MNN, for the comparison 'build'
    against : DIR
        another conversion of the same checkpoint, for the comparison 'conversion'
    count
        count instructions, not time, on each CPU of the ladder; emulated lane only
    out : FILE
        the result's file (default: a new one in labkit's results folder)
    json
        print the result as JSON
    """
    from labkit.base.errors import CountingFailed
    from labkit.bench import results, rounds
    from labkit.bench.measure import run
    from labkit.bench.plan import BenchPlan, default_comparisons, require_timed
    from labkit.engine import known, lanes
    from labkit.engine.mnn_llm import MORE
    from labkit.model import manifest, tuned
    from labkit.proof.ready import folder_of

    size: dict[str, Any] = {"image": image, "prompt_tokens": prompt_tokens}
    if out:
        results.require_free(out)
    if count:
        if lane != "emulated":
            raise CountingFailed(
                "instructions are counted in the emulated lane. "
                "Type: labkit bench --lane emulated --count"
            )
        _count(model, parts, size, out, json)
        return
    place = lanes.Lane(name=lane) if lane == "emulated" else known.lane(lane)
    require_timed(place)
    folder = folder_of(model, on_stage=say)
    about = manifest.read(folder)
    chosen = {} if build or place != lanes.native() else tuned.read(about)
    usual = tuned.usual(place) | chosen
    threads = threads or usual["threads"]
    say_tuned(chosen)
    plan = BenchPlan(
        model=folder,
        comparisons=tuple(peer or compare or default_comparisons(threads, about, place)),
        parts=tuple(parts),
        pairs=pairs,
        **size,
        threads=threads,
        precision=precision or usual["precision"],
        memory=memory or usual["memory"],
        tuned={name: value for name, value in chosen.items() if name in MORE},
        checkpoint=checkpoint or about.source["name"],
        lane=place,
        build=lanes.native(build).build,
        against=against,
    )
    with progress("pairs") as on_step:
        result = (
            rounds.run(plan, on_step=on_step) if peer else run(plan, on_step=on_step, on_words=say)
        )
    saved = results.save(result, out)
    show(json, result, result)
    print(f"{saved}\nAs a page: labkit report {saved} --out page.html", file=sys.stderr)


def _count(
    model: str,
    names: Sequence[str],
    size: dict[str, Any],
    out: Path | None,
    as_json: bool,
) -> None:
    """Executed instructions of each part, on each CPU of the ladder."""
    from labkit.arm import counting
    from labkit.arm.counts import CLASSES
    from labkit.arm.figures import top_functions
    from labkit.base.records import to_json
    from labkit.base.show import Table
    from labkit.bench import results
    from labkit.model.parts import all_parts
    from labkit.proof.ready import folder_of

    every = all_parts(folder_of(model, on_stage=say), **size)
    chosen = [part for part in every if part.name in names]
    rungs = counting.ladder(chosen, on_step=say)
    content = [rung.to_dict() for rung in rungs]
    if out:
        results.write(out, to_json(content))
    text = ["Executed instructions of one forward pass on one thread. They are not time."]
    for part in chosen:
        counts = {rung.label: rung.counts[part.name] for rung in rungs}
        mix = [
            (
                label,
                f"{c.total:,.0f}",
                f"{c.share('kai_'):.1%}",
                *(f"{n / c.total:.1%}" for n in c.by_class().values()),
            )
            for label, c in counts.items()
        ]
        table = Table(("CPU", "total", "kai_*", *CLASSES), mix)
        text.append(f"{part.name}, {part.size}\n{table}")
        for label, c in counts.items():
            text.append(f"{part.name}, {label}: top functions\n{top_functions(c)}")
    show(as_json, content, "\n\n".join(text))


def roofline(
    results: tuple[str, ...] = (),
    *,
    checkpoint: str | None = None,
    threads: int | None = None,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Measure the peaks; set what results reached beside them.

    Parameters
    ----------
    results : FILE
        what labkit bench wrote on this machine
    checkpoint
        what the models were converted from (default: the one that each result names)
    out : PICTURE
        draw it into a PNG file; must not exist yet
    json
        print the peaks, and what was reached, as JSON
    """
    from labkit.base import files
    from labkit.bench import work
    from labkit.bench.figures import roofline as drawn
    from labkit.bench.results import read, require_free
    from labkit.bench.watch import Watch
    from labkit.cli.shared import resolved
    from labkit.kernels import roof

    if out:
        require_free(out)
    every, done = [read(Path(result)) for result in results], []
    for result in every:
        done += work.achieved(result, resolved(checkpoint or result.model["name"]).config)
    watch = Watch()
    peaks = roof.measure(threads)
    for warning in watch.warnings():
        say(warning)
    text = f"{peaks}\n\n{work.table(peaks, done)}" if done else peaks
    show(json, {"roof": peaks, "achieved": done}, text)
    if out:
        files.write(out, drawn(peaks, done).png)
        say(out)


def tune(
    *,
    model: str = "mini",
    pairs: int = 9,
    write: bool = False,
    undo: bool = False,
    json: bool = False,
) -> None:
    """Try MNN's options on whole answers, in pairs, and show what each brings.

    Parameters
    ----------
    pairs
        of each option's comparison, at least 9 (default %(default)s)
    write
        keep the best: labkit runs this model so on this machine
    undo
        measure nothing; take out what was kept
    json
        print what was tried as JSON

    Notes
    -----
    An option is taken only if the whole 95 % interval says faster and the answer stays the same.
    """
    from labkit.model import laid, manifest, tuned
    from labkit.proof.ready import folder_of

    folder = folder_of(model, on_stage=say)
    about = manifest.read(folder)
    if undo:
        laid.free(about)
        print("untuned" if tuned.undo(about) else "was not tuned here")
        return
    from labkit.bench.tune import tune as measure

    with progress("options") as on_step:
        found = measure(folder, pairs=pairs, on_step=on_step, on_words=say)
    show(json, found, found)
    if write:
        say(f"kept in {tuned.write(about, found.best)}; labkit tune --undo takes it out")
    if not tuned.read(about).get("mmap"):
        laid.free(about)


def report(results: Sequence[Path], *, out: Path, allow_mixed: bool = False) -> None:
    """Write the page.

    Parameters
    ----------
    results : FILE
        what labkit bench or labkit sweep wrote
    out : PAGE
        the page; must not exist yet
    allow_mixed
        results of different machines, each in a section of its own
    """
    from labkit.bench.report import page
    from labkit.bench.results import require_free, write
    from labkit.bench.swept import read

    require_free(out)
    write(out, page(list(map(read, results)), allow_mixed=allow_mixed))
    print(out)
