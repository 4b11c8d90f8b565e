"""The command ``labkit``: everything the notebooks do, from a shell."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError
from labkit.cli import build


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn named failures into one message on stderr.

    Returns
    -------
    int
        0 done; 1 a named failure or a check that does not hold; 2 wrong usage; 130 interrupted.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except (LabkitError, OSError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("labkit: interrupted; nothing half-written is left", file=sys.stderr)
        return 130


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labkit", description="Qwen2-VL on MNN: convert, ask, check, measure."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Any, summary: str, **more: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=summary, description=more.pop("description", summary), **more
        )
        sub.set_defaults(run=run)
        return sub

    _ask_command(add)

    convert = add(
        "convert",
        _convert,
        "convert a Qwen2-VL checkpoint to MNN",
        epilog="Without a network: 'mini', or the folder of a checkpoint.",
    )
    convert.add_argument(
        "checkpoint",
        help="'mini', a folder, or a hub id such as Qwen/Qwen2-VL-2B-Instruct (is downloaded)",
    )
    convert.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the converted model; must not exist yet",
    )
    _conversion_options(convert)
    convert.add_argument(
        "--replace",
        action="store_true",
        help="replace a converted model at DIR once the new one is whole",
    )
    convert.add_argument(
        "--no-parity",
        dest="parity",
        action="store_false",
        help="do not compare with the original afterwards",
    )
    convert.add_argument("--dry-run", action="store_true", help="print the plan and stop")

    verify = add("verify", _verify, "check every file of a converted model against its SHA-256")
    verify.add_argument("model", type=Path, metavar="DIR")

    parity = add("parity", _parity, "compare a converted model with its original, stage by stage")
    parity.add_argument(
        "model",
        type=Path,
        metavar="DIR",
        nargs="+",
        help="one folder, or several conversions with --layers",
    )
    parity.add_argument(
        "--layers",
        action="store_true",
        help="compare attention layer by layer and say how far each head moved",
    )
    parity.add_argument(
        "--checkpoint", default="mini", help="what it was converted from (default: mini)"
    )

    _probe_command(add)

    score = add(
        "eval",
        _eval,
        "score the embedded checkpoint on held-out scenes, in transformers and in MNN",
    )
    score.add_argument(
        "--checkpoint",
        default="mini",
        help="a checkpoint of the emoji world (default: the embedded one)",
    )
    score.add_argument(
        "--scenes", type=_count, default=2000, metavar="N", help="how many (default 2000)"
    )
    score.add_argument(
        "--engine",
        choices=("both", "transformers", "mnn"),
        default="both",
        help="which to score (default both)",
    )
    _conversion_options(score)
    score.add_argument(
        "--json", action="store_true", help="print the scores and every wrong answer as JSON"
    )

    lane = add("lane", _lane, "show, set up or remove the lanes: where the engine can run")
    lane.add_argument("action", choices=("status", "setup", "remove"), help="what to do")
    lane.add_argument(
        "name", nargs="?", choices=("emulated",), help="which lane to set up or remove"
    )
    lane.add_argument("--json", action="store_true", help="print the status as JSON")

    kleidiai = add("kleidiai", _kleidiai, "find out whether KleidiAI is built, enabled and running, with evidence",
                   epilog="Exits with 1 when KleidiAI does not run.")  # fmt: skip
    _lane_options(kleidiai)
    kleidiai.add_argument(
        "--build",
        type=Path,
        metavar="DIR",
        help="your own build of MNN (labkit build --python), in place of the wheel",
    )
    kleidiai.add_argument(
        "--model",
        default="mini",
        metavar="DIR",
        help="folder of a converted model (default: the embedded one)",
    )
    kleidiai.add_argument(
        "--off", action="store_true", help="leave MNN's runtime hint unset, as MNN-LLM does"
    )
    kleidiai.add_argument(
        "--memory",
        choices=("low", "normal", "high"),
        default="low",
        help="MNN's memory mode (default low)",
    )
    kleidiai.add_argument(
        "--precision",
        choices=("low", "normal", "high"),
        default="normal",
        help="MNN's precision (default normal)",
    )
    kleidiai.add_argument("--json", action="store_true", help="print the report as JSON")

    _bench_commands(add)

    _kernels_command(add)

    build.add_command(add)

    doctor = add(
        "doctor", _doctor, "look at this machine: what works, what does not, and what to do"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")

    clean = add("clean", _clean, "show what labkit keeps outside the repository, and free it")
    clean.add_argument(
        "what", nargs="*", help="what to free, by the names shown; nothing frees nothing"
    )
    return parser


def _ask_command(add: Any) -> None:
    ask = add(
        "ask",
        _ask,
        "ask a converted model about a picture",
        description="Ask a converted model about a picture. The embedded one is converted at first use.",
    )
    ask.add_argument("image", help="a picture: PNG, JPEG, WebP, TIFF, GIF, …")
    ask.add_argument("question", help='in plain words, e.g. "What is left of the pizza?"')
    ask.add_argument(
        "--model",
        default="mini",
        metavar="DIR",
        help="folder of a converted model (default: the embedded one)",
    )
    ask.add_argument(
        "--max-new-tokens",
        type=_count,
        default=64,
        metavar="N",
        help="where to stop at the latest (default 64)",
    )
    ask.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads (default: up to four)"
    )
    ask.add_argument(
        "--max-pixels",
        type=_count,
        default=1280 * 28 * 28,
        metavar="N",
        help="shrink larger pictures to this area (default 1,003,520)",
    )
    ask.add_argument(
        "--json", action="store_true", help="print text, tokens, counts and times as JSON"
    )


def _kernels_command(add: Any) -> None:
    kernels = add(
        "kernels",
        _kernels,
        "compile our int4 kernels for Arm, check them, count instructions, model cycles, beside KleidiAI's",
    )
    kernels.add_argument("action", choices=("bench",), help="what to do")
    for name, value in zip(("rows", "outputs", "width"), (64, 256, 1024), strict=True):
        kernels.add_argument(
            f"--{name}",
            type=_count,
            default=value,
            metavar="N",
            help=f"of the product (default {value})",
        )
    kernels.add_argument("--json", action="store_true", help="print counts and models as JSON")


def _probe_command(add: Any) -> None:
    probe = add(
        "probe",
        _probe,
        "write what stands inside the converted model for one picture: pictures and arrays",
    )
    probe.add_argument("image", type=Path, help="a picture file")
    probe.add_argument("--question", help="also follow a question and its answer word by word")
    probe.add_argument(
        "--reference",
        action="store_true",
        help="the same from the original in transformers, beside it",
    )
    probe.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; must not exist yet"
    )
    probe.add_argument(
        "--model",
        default="mini",
        metavar="DIR",
        help="folder of a converted model (default: the embedded one)",
    )
    probe.add_argument(
        "--checkpoint",
        default="mini",
        help="what it was converted from, for --reference (default: mini)",
    )
    probe.add_argument(
        "--heads",
        type=_heads,
        default=(),
        metavar="L0H3,…",
        help="patterns of these heads only (needed for large pictures)",
    )
    probe.add_argument(
        "--max-pixels",
        type=_count,
        default=1280 * 28 * 28,
        metavar="N",
        help="shrink larger pictures to this area",
    )


def _bench_commands(add: Any) -> None:
    from labkit.bench.measure import COMPARISONS
    from labkit.bench.results import PARTS

    listed = "\n".join(f"  {name:18}{words}" for name, words in COMPARISONS.items())
    bench = add(
        "bench", _bench, "time two ways to run a model in pairs, with intervals and verdicts", epilog=f"comparisons:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    bench.add_argument(
        "--model",
        default="mini",
        metavar="DIR",
        help="folder of a converted model (default: the embedded one)",
    )
    bench.add_argument(
        "--compare",
        nargs="+",
        choices=tuple(COMPARISONS),
        metavar="NAME",
        help="which (default: what fits this machine)",
    )
    bench.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)"
    )
    bench.add_argument(
        "--pairs",
        type=_count,
        default=9,
        metavar="N",
        help="pairs of each comparison, at least 9 (default 9)",
    )
    bench.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads (default: up to four)"
    )
    bench.add_argument(
        "--precision",
        choices=("low", "normal", "high"),
        default="normal",
        help="MNN's precision (default normal)",
    )
    bench.add_argument(
        "--memory",
        choices=("low", "normal", "high"),
        default="low",
        help="MNN's memory mode (default low)",
    )
    bench.add_argument(
        "--image",
        type=_size,
        default=(112, 112),
        metavar="HxW",
        help="picture, multiples of 28 (default 112x112)",
    )
    bench.add_argument(
        "--prompt-tokens",
        type=_count,
        default=48,
        metavar="N",
        help="length of the prompt (default 48)",
    )
    bench.add_argument(
        "--checkpoint",
        default="mini",
        help="what the model was converted from, for transformers (default mini)",
    )
    bench.add_argument(
        "--build",
        type=Path,
        metavar="DIR",
        help="your own build of MNN, for the comparison 'build'",
    )
    bench.add_argument(
        "--lane",
        choices=("native", "emulated"),
        default="native",
        help="where to run (default: this machine)",
    )
    bench.add_argument(
        "--count",
        action="store_true",
        help="count instructions, not time, on each CPU of the ladder; emulated lane only",
    )
    bench.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the result's file (default: a new one in labkit's results folder)",
    )
    bench.add_argument("--json", action="store_true", help="print the result as JSON")

    report = add("report", _report, "make one HTML page of benchmark results")
    report.add_argument(
        "results", nargs="+", type=Path, metavar="FILE", help="what labkit bench wrote"
    )
    report.add_argument(
        "--out", type=Path, required=True, metavar="PAGE", help="the page; must not exist yet"
    )
    report.add_argument(
        "--allow-mixed",
        action="store_true",
        help="results of different machines, each in a section of its own",
    )


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"expected HEIGHTxWIDTH in pixels, such as 112x112, received {text!r}"
        )
    return int(height), int(width)


def _conversion_options(parser: argparse.ArgumentParser) -> None:
    from labkit.model.plan import BITS, BLOCKS, MEANING

    parser.add_argument(
        "--weight-bits", type=int, choices=BITS, default=4, help=MEANING["weight_bits"]
    )
    parser.add_argument(
        "--block-size", type=int, choices=BLOCKS, default=64, help=MEANING["block_size"]
    )
    parser.add_argument("--symmetric", action="store_true", help=MEANING["symmetric"])
    parser.add_argument(
        "--vision-bits", type=int, choices=BITS, default=4, help=MEANING["vision_bits"]
    )
    parser.add_argument(
        "--vision-block", type=int, choices=BLOCKS, default=128, help=MEANING["vision_block"]
    )
    parser.add_argument("--vision-symmetric", action="store_true", help=MEANING["vision_symmetric"])


def _lane_options(parser: argparse.ArgumentParser) -> None:
    from labkit.engine.lanes import CPUS

    parser.add_argument(
        "--lane",
        choices=("native", "emulated"),
        default="native",
        help="where to run (default: this machine)",
    )
    parser.add_argument("--cpu", choices=tuple(CPUS), help="the emulated CPU (default max)")


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    from labkit.model.plan import MEANING

    return {name: getattr(args, name) for name in MEANING}


def _say_stage(stage: Any) -> None:
    print(f"  {stage}", file=sys.stderr, flush=True)


def _ask(args: argparse.Namespace) -> None:
    from labkit.proof.ready import open_model

    def on_text(piece: str) -> None:
        print(piece, end="", flush=True)

    with open_model(
        args.model, threads=args.threads, max_pixels=args.max_pixels, on_stage=_say_stage
    ) as model:
        answer = model.ask(
            args.image,
            args.question,
            max_new_tokens=args.max_new_tokens,
            on_text=None if args.json else on_text,
        )
    if args.json:
        content = asdict(answer) | {"prompt_tokens": answer.prompt_tokens}
        del content["first_logits"], content["prompt"]
        print(json.dumps(content))
        return
    print()
    t = answer.times
    print(
        f"{answer.visual_tokens} visual of {answer.prompt_tokens} prompt tokens; load {t.load_s:.2f} s, vision {t.vision_s:.3f} s, "
        f"prefill {t.prefill_s:.3f} s, decode {t.decode_s:.3f} s for {len(answer.tokens)} tokens",
        file=sys.stderr,
    )
    if not answer.finished:
        print(
            f"cut off after {args.max_new_tokens} tokens; --max-new-tokens allows more",
            file=sys.stderr,
        )


def _convert(args: argparse.Namespace) -> None:
    from labkit.model import checkpoints
    from labkit.model.convert import convert
    from labkit.model.plan import ConversionPlan
    from labkit.proof.parity import Parity
    from labkit.proof.ready import convert_checked

    plan = ConversionPlan(
        checkpoint=checkpoints.resolve(args.checkpoint), out=args.out, **_chosen(args)
    )
    print(plan)
    if args.dry_run:
        return
    begun = time.perf_counter()
    run = convert_checked if args.parity else convert
    result = run(plan, on_stage=_say_stage, replace=args.replace)
    if result.parity:
        print(Parity.from_dict(result.parity))
    peak = f", at most {result.peak_bytes / 2**30:.1f} GiB of memory" if result.peak_bytes else ""
    print(
        f"{args.out}: {result.total_bytes / 1e6:.1f} MB in {time.perf_counter() - begun:.0f} s{peak}. "
        f"Ask it: labkit ask PICTURE QUESTION --model {args.out}"
    )


def _verify(args: argparse.Namespace) -> int:
    from labkit.model import manifest

    found = manifest.verify(args.model)
    for name, same in found.items():
        print(f"{'same   ' if same else 'CHANGED'}  {name}")
    if all(found.values()):
        print("every file is as it was written")
        return 0
    print(
        "labkit: the model was changed after its conversion; convert the checkpoint again with --replace",
        file=sys.stderr,
    )
    return 1


def _parity(args: argparse.Namespace) -> int:
    from labkit.model import checkpoints
    from labkit.proof.parity import compare, compare_layers, layers_table

    checkpoint = checkpoints.resolve(args.checkpoint)
    if args.layers:
        print(layers_table(compare_layers(args.model, checkpoint)))
        return 0
    departed = False
    for folder in args.model:
        report = compare(folder, checkpoint)
        print(report)
        departed |= bool(report.first_departure)
    return int(departed)


def _heads(text: str) -> tuple[tuple[int, int], ...]:
    found = [re.fullmatch(r"L(\d+)H(\d+)", name.strip()) for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected heads such as L0H3,L2H1, received {text!r}")
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def _probe(args: argparse.Namespace) -> None:
    from labkit.inside import probe_files
    from labkit.inside.probes import Probe
    from labkit.model import checkpoints
    from labkit.proof.ready import open_model

    layers = sorted({layer for layer, _ in args.heads}) or None
    probe_files.require_free(args.out)
    with (
        open_model(args.model, max_pixels=args.max_pixels, on_stage=_say_stage) as model,
        Probe(model) as probe,
    ):
        print(probe.cost(args.image))
        look = probe.look(args.image, layers=layers)
        reading = probe.read(args.image, args.question) if args.question else None
        reference = None
        if args.reference:
            from labkit.inside.reference import Reference, ReferenceProbe

            original = ReferenceProbe(Reference(checkpoints.resolve(args.checkpoint)))
            reference = (
                original.look(look.pixels, layers=layers),
                original.read(look.pixels, reading.tokens) if reading else None,
            )
        about = {
            "model": look.name,
            "question": args.question,
            "answer": reading.answer if reading else None,
        }
        probe_files.write(
            args.out, look, reading, reference=reference, heads=args.heads, about=about
        )
    if reading:
        print(f"{args.question} {reading.answer}")
    print(f"{args.out}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")


def _eval(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from labkit.model import checkpoints
    from labkit.model.chat import Model
    from labkit.proof import evaluate
    from labkit.proof.ready import cached

    cases, scores = evaluate.held_out_cases(args.scenes), []
    if args.engine != "mnn":
        from labkit.inside.reference import Reference

        reference = Reference(checkpoints.resolve(args.checkpoint))
        with tqdm(total=len(cases), desc="transformers", unit=" scenes") as bar:
            scores.append(
                evaluate.score_reference(reference, cases, on_case=lambda n: _advance(bar, n))
            )
    if args.engine != "transformers":
        with (
            Model(cached(args.checkpoint, on_stage=_say_stage, **_chosen(args))) as model,
            tqdm(total=len(cases), desc="MNN", unit=" scenes") as bar,
        ):
            scores.append(evaluate.score_model(model, cases, on_case=lambda n: _advance(bar, n)))
    print(json.dumps([s.to_dict() for s in scores]) if args.json else evaluate.table(scores))


def _advance(bar: Any, done: int) -> None:
    bar.update(done - bar.n)


def _say(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)


def _lane(args: argparse.Namespace) -> None:
    from labkit.engine import lanes

    if args.action != "status" and args.name is None:
        raise LabkitError(f"expected the name of a lane. Type: labkit lane {args.action} emulated")
    if args.action == "setup":
        lanes.setup_emulated(on_stage=_say_stage)
    elif args.action == "remove":
        _say(f"freed {lanes.remove_emulated():,} bytes")
    rows = lanes.status()
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        print(
            f"{row.name:10}{'works' if row.works else 'no':7}{row.found}"
            + (f"  ({row.bytes / 1e6:.0f} MB)" if row.bytes else "")
        )
        if row.todo:
            print(f"{'':17}→ {row.todo}")


def _kleidiai(args: argparse.Namespace) -> int:
    from labkit.arm import kleidiai
    from labkit.engine import lanes
    from labkit.proof.ready import folder_of

    lane = lanes.lane(args.lane, args.cpu, args.build)
    model = folder_of(args.model, _say_stage)
    report = kleidiai.examine(
        model, lane, hint=not args.off, memory=args.memory, precision=args.precision, on_step=_say
    )
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0 if report.running else 1


def _kernels(args: argparse.Namespace) -> None:
    from labkit.kernels import report

    made = report.measure(args.rows, args.outputs, args.width, on_step=_say)
    if args.json:
        print(json.dumps(made.to_dict()))
        return
    print(f"{made.label}\n\nExecuted instructions. They are not time.\n{made.counts_table()}")
    print(
        f"\nMultiply-adds to a cycle, by llvm-mca: a static model, not a measurement.\n{made.models_table()}"
    )
    print("\n".join(f"\nNot here: {what}" for what in made.missing))


def _bench(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from labkit.base import hardware
    from labkit.base.show import Table
    from labkit.bench import measure, results
    from labkit.engine import lanes
    from labkit.proof.ready import folder_of

    if args.out:
        results.require_free(args.out)
    if args.count:
        _bench_count(args)
        return
    lane = lanes.Lane(name=args.lane, cpu=None if args.lane == "native" else "max")
    measure.require_timed(lane)
    threads = args.threads or hardware.default_threads()
    model = folder_of(args.model, _say_stage)
    plan = measure.BenchPlan(
        model=model, comparisons=tuple(args.compare or measure.default_comparisons(threads)), parts=tuple(args.parts), pairs=args.pairs,
        image=args.image, prompt_tokens=args.prompt_tokens, threads=threads, precision=args.precision, memory=args.memory,
        checkpoint=args.checkpoint, lane=lane, build=lanes.native(args.build).build,
    )  # fmt: skip
    with tqdm(total=plan.pairs * len(plan.comparisons), unit=" pairs") as bar:

        def on_step(done: int, _: int, words: str) -> None:
            bar.set_description(words)
            bar.update(done - bar.n)

        result = measure.run(plan, on_step=on_step)
    path = results.save(result, args.out)
    if args.json:
        print(result.to_json(), end="")
    for told in () if args.json else map(results.section, result.groups()):
        print(f"{told.name}: {measure.COMPARISONS[told.name]}\n{Table(told.header, told.cells)}")
        print(
            "\n".join(
                [
                    *(f"  {note}" for note in told.notes),
                    *(f"  doubtful: {text}" for text in told.warnings),
                ]
            ),
            end="\n\n",
        )
    if not args.json:
        print(f"{result.where}\n{result.what}")
    print(f"{path}\nAs a page: labkit report {path} --out page.html", file=sys.stderr)


def _bench_count(args: argparse.Namespace) -> None:
    from labkit.arm import counting
    from labkit.arm.figures import top_functions
    from labkit.base.errors import CountingFailed
    from labkit.base.show import Table
    from labkit.bench import results
    from labkit.model import parts
    from labkit.proof.ready import folder_of

    if args.lane != "emulated":
        raise CountingFailed(
            "instructions are counted in the emulated lane. Type: labkit bench --lane emulated --count"
        )
    model = folder_of(args.model, _say_stage)
    made = parts.all_parts(model, image=args.image, prompt_tokens=args.prompt_tokens)
    chosen = [part for part in made if part.name in args.parts]
    rungs = counting.ladder(chosen, on_step=_say)
    content = json.dumps([rung.to_dict() for rung in rungs], indent=1)
    if args.out:
        results.write(args.out, content + "\n")
    if args.json:
        print(content)
        return
    print("Executed instructions of one forward pass on one thread. They are not time.")
    header = ("CPU", "total", "kai_*", *counting.CLASSES)
    for number, part in enumerate(chosen):
        counts = [rung.counts[number] for rung in rungs]
        mix = [
            (
                rung.label,
                f"{c.total:,.0f}",
                f"{c.share('kai_'):.1%}",
                *(f"{n / c.total:.1%}" for n in c.by_class().values()),
            )
            for rung, c in zip(rungs, counts, strict=True)
        ]
        print(f"\n{part.name}, {part.size}\n{Table(header, mix)}")
        for rung, c in zip(rungs, counts, strict=True):
            print(f"\n{part.name}, {rung.label}: top functions\n{top_functions(c)}")


def _report(args: argparse.Namespace) -> None:
    from labkit.bench import report, results

    results.require_free(args.out)
    results.write(
        args.out,
        report.page([results.read(path) for path in args.results], allow_mixed=args.allow_mixed),
    )
    print(args.out)


def _doctor(args: argparse.Namespace) -> int:
    from labkit.cli import doctor

    return doctor.run(json=args.json)


def _clean(args: argparse.Namespace) -> None:
    from labkit.base import paths

    if args.what:
        print(f"freed {paths.free(args.what):,} bytes of {', '.join(args.what)}")
    for row in paths.usage():
        print(f"{row.what:12}{row.bytes / 1e6:10.1f} MB  {row.path}  {row.why}")
    if not args.what:
        print("To free some: labkit clean NAME …")
