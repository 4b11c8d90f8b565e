"""``labkit ask`` and ``labkit probe``: a model's answer to a picture, and what stands inside it."""

import re
import sys
from argparse import ArgumentTypeError, Namespace
from functools import partial

from labkit.cli.shared import (
    MAX_PIXELS,
    MODEL,
    THREADS,
    as_json,
    command,
    flag,
    number,
    option,
    path,
    say,
    show,
)


@command(
    "ask",
    option("image", "a picture: PNG, JPEG, WebP, TIFF, GIF, …"),
    option("question", 'in plain words, e.g. "What is left of the pizza?"'),
    MODEL,
    number("--max-new-tokens", 64, "where to stop at the latest"),
    THREADS,
    MAX_PIXELS,
    as_json("text, tokens, counts and times"),
    epilog="The embedded model is converted at first use.",
)
def ask(args: Namespace) -> None:
    """Print the answer as it comes, and what it took on stderr."""
    from labkit.proof.ready import open_model

    with open_model(
        args.model, threads=args.threads, max_pixels=args.max_pixels, on_stage=say
    ) as model:
        answer = model.ask(
            args.image,
            args.question,
            max_new_tokens=args.max_new_tokens,
            on_text=None if args.json else partial(print, end="", flush=True),
        )
    names = ("text", "tokens", "prompt_tokens", "visual_tokens", "finished", "times")
    show(args, {name: getattr(answer, name) for name in names}, "")  # the text is there already
    if args.json:
        return
    times = answer.times
    print(
        f"{answer.visual_tokens} visual of {answer.prompt_tokens} prompt tokens; "
        f"load {times.load_s:.2f} s, vision {times.vision_s:.3f} s, "
        f"prefill {times.prefill_s:.3f} s, "
        f"decode {times.decode_s:.3f} s for {len(answer.tokens)} tokens",
        file=sys.stderr,
    )
    if not answer.finished:
        cut = f"cut off after {args.max_new_tokens} tokens; --max-new-tokens allows more"
        print(cut, file=sys.stderr)


def _heads(text: str) -> tuple[tuple[int, int], ...]:
    if not re.fullmatch(r"\s*L\d+H\d+\s*(,\s*L\d+H\d+\s*)*", text):
        raise ArgumentTypeError(f"expected heads such as L0H3,L2H1, received {text!r}")
    return tuple((int(layer), int(head)) for layer, head in re.findall(r"L(\d+)H(\d+)", text))


@command(
    "probe",
    path("image", None, "a picture file"),
    option("--question", "also follow a question and its answer word by word"),
    flag("--reference", "the same from the original in transformers, beside it"),
    path("--out", "DIR", "folder to write; must not exist yet", required=True),
    MODEL,
    option(
        "--checkpoint",
        "what it was converted from, for --reference (default: mini)",
        default="mini",
    ),
    option(
        "--heads",
        "patterns of these heads only (needed for large pictures)",
        type=_heads,
        default=(),
        metavar="L0H3,…",
    ),
    MAX_PIXELS,
)
def probe(args: Namespace) -> None:
    """Look, read and write, with the original beside if asked."""
    from labkit.inside import probe_files
    from labkit.inside.probes import Probe
    from labkit.model import checkpoints
    from labkit.proof.ready import open_model

    layers = sorted({layer for layer, _ in args.heads}) or None
    probe_files.require_free(args.out)
    with (
        open_model(args.model, max_pixels=args.max_pixels, on_stage=say) as model,
        Probe(model) as inside,
    ):
        print(inside.cost(args.image))
        look = inside.look(args.image, layers=layers)
        reading = inside.read(args.image, args.question) if args.question else None
        reference = None
        if args.reference:
            from labkit.inside.reference import Reference

            original = Reference(checkpoints.resolve(args.checkpoint))
            reference = (
                original.look(look.pixels, layers=layers),
                reading and original.read(reading),
            )
        answer = reading and reading.answer
        about = {"model": look.name, "question": args.question, "answer": answer}
        probe_files.write(
            args.out, look, reading, reference=reference, heads=args.heads, **about
        )
    if reading:
        print(f"{args.question} {answer}")
    print(f"{args.out}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")
