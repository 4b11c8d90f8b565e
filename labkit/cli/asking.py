"""``labkit ask`` and ``labkit probe``: a model's answer to a picture, and what stands inside it."""

import os
import re
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from labkit.cli.shared import resolved, say, say_tuned, show

if TYPE_CHECKING:
    from labkit.model.budget import Seen


def ask(
    image: str,
    question: str,
    *,
    model: str = "mini",
    max_new_tokens: int = 64,
    threads: int | None = None,
    max_pixels: int | None = None,
    lane: str = "native",
    json: bool = False,
) -> None:
    """Print the answer as it comes; what it waits for, and what it took, on stderr.

    Parameters
    ----------
    image
        a picture: PNG, JPEG, WebP, GIF, TIFF, BMP, ICO, AVIF
    question
        in plain words, e.g. "What is left of the pizza?"
    max_new_tokens
        where to stop at the latest (default %(default)s)
    json
        print text, tokens, counts and times as JSON

    Notes
    -----
    The embedded model is converted at first use.
    """
    from labkit.engine import known
    from labkit.model.waiting import Waiting
    from labkit.proof.ready import open_model

    place = known.lane(lane)
    options = {"threads": threads, "max_pixels": max_pixels, "lane": place}
    with (
        open_model(model, on_stage=say, **options) as opened,
        Waiting() as waiting,
    ):
        if caveat := opened.manifest.caveat:
            print(caveat, file=sys.stderr)
        say_tuned(opened.tuned)
        answer = opened.ask(
            image,
            question,
            max_new_tokens=max_new_tokens,
            on_text=None if json else partial(print, end="", flush=True),
            on_event=None if json else waiting,
        )
    names = ("text", "tokens", "prompt_tokens", "visual_tokens", "finished", "times", "seen")
    show(json, {name: getattr(answer, name) for name in names}, "")  # the text is there already
    if json:
        return
    times = answer.times
    print(
        f"{answer.visual_tokens} visual of {answer.prompt_tokens} prompt tokens; "
        f"load {times.load_s:.2f} s, vision {times.vision_s:.3f} s, "
        f"prefill {times.prefill_s:.3f} s, "
        f"decode {times.decode_s:.3f} s for {len(answer.tokens)} tokens",
        file=sys.stderr,
    )
    _say_shrunk(answer.seen)
    if not answer.finished:
        cut = f"cut off after {max_new_tokens} tokens; --max-new-tokens allows more"
        print(cut, file=sys.stderr)


def _say_shrunk(seen: "Seen | None") -> None:
    """Tell how to show more of a picture that the default budget has shrunk."""
    if seen and seen.shrunk:
        print(str(seen).replace("max_pixels=", "--max-pixels "), file=sys.stderr)


Head = tuple[int, int]


def _heads(text: str) -> tuple[Head, ...]:
    if not re.fullmatch(r"\s*L\d+H\d+\s*(,\s*L\d+H\d+\s*)*", text):
        raise ArgumentTypeError(f"expected heads such as L0H3,L2H1, received {text!r}")
    return tuple((int(layer), int(head)) for layer, head in re.findall(r"L(\d+)H(\d+)", text))


def probe(
    image: Path,
    *,
    question: str | None = None,
    reference: bool = False,
    out: Path,
    model: str = "mini",
    checkpoint: str = "mini",
    heads: Annotated[Sequence[Head], _heads] = (),
    max_pixels: int | None = None,
) -> None:
    """Look, read and write, with the original beside if asked.

    Parameters
    ----------
    image
        a picture file
    question
        also follow a question and its answer word by word
    reference
        the same from the original in transformers, beside it
    out : DIR
        folder to write; must not exist yet
    checkpoint
        what it was converted from, for --reference (default: %(default)s)
    heads : L0H3,…
        patterns of these heads only (needed for large pictures)
    """
    from labkit.base import command
    from labkit.inside import probe_files
    from labkit.inside.probes import Probe
    from labkit.proof.ready import open_model

    begun = time.perf_counter()
    layers = sorted({layer for layer, _ in heads}) or None
    probe_files.require_free(out)
    with (
        command.memory(os.getpid()) as readings,
        open_model(model, max_pixels=max_pixels, on_stage=say) as opened,
        Probe(opened) as inside,
    ):
        print(inside.cost(image))
        _say_shrunk(opened.budget.seen(image))
        look = inside.look(image, layers=layers)
        reading = inside.read(image, question) if question else None
        beside = None
        if reference:
            from labkit.inside.reference import Reference

            original = Reference(resolved(checkpoint))
            beside = original.look(look.pixels, layers=layers), reading and original.read(reading)
        answer = reading and reading.answer
        about = {"model": look.name, "question": question, "answer": answer}
        probe_files.write(out, look, reading, reference=beside, heads=heads, **about)
    held = max(readings, default=0) / 2**30
    say(f"{time.perf_counter() - begun:.0f} s, at most {held:.1f} GiB of memory")
    if reading:
        print(f"{question} {answer}")
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
