"""What the parts of an answer have to do at least, counted: operations, and bytes from memory.

Beside the seconds that they took, and the peaks of the machine (`labkit.kernels.roof`), it says
how much is still to be had.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import ResultError
from labkit.base.records import from_json
from labkit.base.show import Table
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.results import BenchResult
from labkit.bench.rows import amount
from labkit.kernels.roof import Roof, giga
from labkit.model.plan import OPTIONS

CACHE_BYTES = 2  # of a number in the KV cache
RUNTIMES = {"chat", "peer"}  # with a KV cache


@frozen
class Work:
    """Operations, a multiply-add being two, and bytes."""

    operations: float
    bytes: float

    @property
    def intensity(self) -> float:
        """Operations to a byte."""
        return self.operations / self.bytes


@frozen
class Achieved:
    """What one engine took for one part."""

    engine: str
    part: str
    work: Work
    seconds: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.work.operations / self.seconds


@frozen
class RealSize:
    """MNN and its peers at the real size, measured once: beside the machine's peaks of that day."""

    result: BenchResult
    roof: Roof
    done: tuple[Achieved, ...]

    @property
    def where(self) -> str:
        """That it was recorded, of what and where, and what went on beside it."""
        warnings = dict.fromkeys(text for row in self.result.rows for text in row.warnings)
        busy = "".join(f"\n{text}" for text in warnings if text.startswith("busy"))
        return f"recorded: {self.result.what}\non {self.result.where}{busy}"


def real_size(name: str = "real_size") -> RealSize:
    """What ``data/NAME.json`` holds, a record of the real size."""
    return from_json(RealSize, (paths.data_dir() / f"{name}.json").read_bytes())


def work(
    config: Mapping[str, Any],
    *,
    image: tuple[int, int],
    prompt_tokens: int,
    context: int = 0,
    bits: tuple[float, ...] = (16, 16),
) -> dict[str, Work]:
    """Operations and bytes of vision, prefill, and decode of one token.

    Counted are linear layers and attention, each weight and each number of the KV cache read once;
    of the head one row of logits. What is left out is small: norms, activations, softmax.

    Parameters
    ----------
    config
        A checkpoint's ``config.json``.
    image
        Height and width in pixels.
    prompt_tokens
        Visual tokens among them.
    context
        Tokens in the KV cache when one more is decoded.
    bits
        To a weight of the language model and of the tower, scales included; and of the head, where
        that differs from its model.
    """
    v, t = config["vision_config"], config["text_config"]
    width, patch, merge = v["embed_dim"], v["patch_size"], v["spatial_merge_size"]
    patches = image[0] * image[1] // patch**2
    mlp = 2 * int(width * v["mlp_ratio"])
    embed = v["in_channels"] * v["temporal_patch_size"] * patch**2
    each = v["depth"] * (4 * width + mlp) * width + embed * width
    joined = width * merge**2
    merger = joined * (joined + v["hidden_size"])
    attention = 2 * v["depth"] * patches**2 * width
    macs = patches * each + patches // merge**2 * merger + attention
    tower = Work(operations=2 * macs, bytes=(each + merger) * bits[1] / 8)

    wide, heads = t["hidden_size"], t["num_attention_heads"]
    keys = wide // heads * t["num_key_value_heads"]
    layer = 2 * wide * (wide + keys) + 3 * wide * t["intermediate_size"]
    head, layers = wide * t["vocab_size"], t["num_hidden_layers"]
    weights = (layers * layer * bits[0] + head * (bits[2] if bits[2:] else bits[0])) / 8

    def language(tokens: int, before: int) -> Work:
        seen = tokens * before + tokens * (tokens + 1) // 2  # pairs of a query and a key
        return Work(
            operations=2.0 * (layers * (tokens * layer + 2 * seen * wide) + head),
            bytes=weights + 2 * layers * keys * (before + tokens) * CACHE_BYTES,
        )

    return {
        "vision": tower,
        "prefill": language(prompt_tokens, 0),
        "decode": language(1, context),
    }


def achieved(result: BenchResult, config: Mapping[str, Any]) -> list[Achieved]:
    """What every side of a result did: its median against the work, each side and part once.

    Raises
    ------
    ResultError
        If the result does not say which picture was looked at.
    """
    if "image" not in result.plan:
        raise ResultError(
            "expected a result of labkit bench, received one of labkit demo, which does not say "
            "how large its picture was. Measure one: labkit bench"
        )
    prompts = {row.name: row.tokens for row in result.rows if row.part == "prefill"}
    done = {}
    for row in result.rows:
        for measured in row.both:
            prompt = prompts.get(row.name) or result.plan["prompt_tokens"]
            parts = work(
                config,
                image=tuple(result.plan["image"]),
                prompt_tokens=prompt,
                context=prompt if measured.side.runtime in RUNTIMES else 0,
                bits=bits_of(measured.side, result),
            )
            if row.part in parts:
                one = Achieved(
                    engine=measured.side.label,
                    part=row.part,
                    work=parts[row.part],
                    seconds=measured.median_s,
                )
                done[one.part, one.engine] = one
    return sorted(done.values(), key=lambda one: PARTS.index(one.part))


def bits_of(side: Side, result: BenchResult) -> tuple[float, ...]:
    """As `work` takes them: how a side keeps weights in memory."""
    if known := result.plan.get("engines", {}).get(side.label, {}).get("bits"):
        return tuple(known)
    if side.runtime == "transformers":
        return (32, 32) if side.precision == "float32" else (16, 16)
    if side.memory == "normal":
        return 32, 32
    chosen = ([result.model["options"][name] for name in names] for names in OPTIONS.values())
    language, vision = (
        bits + ((32 if symmetric else 64) / block if block and bits < 16 else 0)
        for bits, block, symmetric in chosen
    )
    return language, vision


def table(roof: Roof, done: Sequence[Achieved]) -> Table:
    """Of each part and engine: the work, how fast it was done, and the share of the roof."""
    rows = [
        (
            one.part,
            one.engine,
            amount(one.seconds),
            f"{one.work.operations / 1e9:,.3g}",
            f"{one.work.bytes / 1e6:,.0f}",
            giga(one.rate),
            f"{one.work.bytes / one.seconds / 1e9:.2g}",
            f"{one.rate / roof.at(one.work.intensity):.0%}",
        )
        for one in done
    ]
    header = ("part", "engine", "one pass", "GOP", "MB at least", "GOP/s", "GB/s", "of the roof")
    return Table(header, rows)
