"""What is compared with what: the comparisons by name, and the two sides of each.

The command line reads this for its help, so it imports nothing heavy.
"""

from functools import partial

from labkit.base.data import frozen

PARTS = ("load", "vision", "prefill", "decode")
COMPARISONS = {
    "kleidiai": "plain modules, MNN's own kernels against KleidiAI's (hint off, hint on)",
    "quantised": "plain modules, weights unpacked to float32 (memory normal) "
    "against kept in 4 or 8 bits (memory low)",
    "threads": "plain modules, one thread against all",
    "build": "plain modules, the stock wheel against your own build of MNN "
    "(--build DIR, made by labkit build --python)",
    "chat": "MNN-LLM end to end with its KV cache, one thread against all; "
    "the stock wheel never uses KleidiAI here",
    "transformers-fp32": "the original in transformers, float32, against MNN; "
    "decode without a KV cache on both sides",
    "transformers-bf16": "the original in transformers, bfloat16, against MNN; "
    "decode without a KV cache on both sides",
}
WORDS = {**COMPARISONS, "llm_demo": "two builds' llm_demo, end to end with its KV cache"}


@frozen
class Side:
    """One way to run the work.

    ``runtime`` is "modules", "build", "chat", "llm_demo" or "transformers".
    """

    label: str
    runtime: str = "modules"
    threads: int
    precision: str
    memory: str
    kleidiai: bool = False


def sides(
    name: str, *, bits: str, build: str, threads: int, precision: str, memory: str
) -> tuple[Side, Side]:
    """Baseline and candidate of one of `COMPARISONS`.

    Parameters
    ----------
    bits
        The model's weights, such as "int4".
    build
        The variant of the own build.
    threads, precision, memory
        What holds for both, unless the comparison changes it.
    """
    side = partial(Side, threads=threads, precision=precision, memory=memory)
    original, chat = partial(side, runtime="transformers"), partial(side, runtime="chat")
    mnn, all_threads = side(label=f"MNN {bits}"), f"{threads} threads"
    both = {
        "kleidiai": (side(label="KleidiAI off"), side(label="KleidiAI on", kleidiai=True)),
        "quantised": (
            side(label="unpacked to float32", memory="normal"),
            side(label=f"kept {bits}", memory="low"),
        ),
        "threads": (side(label="1 thread", threads=1), side(label=all_threads)),
        "build": (side(label="stock wheel"), side(label=f"own build, {build}", runtime="build")),
        "chat": (chat(label="chat, 1 thread", threads=1), chat(label=f"chat, {all_threads}")),
        "transformers-fp32": (original(label="transformers float32", precision="float32"), mnn),
        "transformers-bf16": (original(label="transformers bfloat16", precision="bfloat16"), mnn),
    }
    return both[name]
