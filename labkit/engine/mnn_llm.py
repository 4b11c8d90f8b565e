"""What MNN-LLM has to be told: its configuration, and where each token of a prompt stands.

The worker imports this: it must not import anything that is not Python's own.
"""

import json
from pathlib import Path
from typing import Any

MORE = {"attention": "attention_mode", "rounding": "dynamic_option", "mmap": "tmp_path"}
"""What else `labkit tune` may choose, and MNN-LLM's names for it."""


def chat_config(
    directory: str, *, threads: int, precision: str, memory: str, **more: Any
) -> dict[str, Any]:
    """What MNN-LLM is opened with: a converted model's ``config.json``, with these options, greedy.

    The options hold for both of its parts; ``more`` are some of `MORE`, of which ``mmap`` is a
    folder (`labkit.model.laid`).
    """
    options = {
        **{MORE[name]: value for name, value in more.items()},
        "use_mmap": "mmap" in more,
        "thread_num": threads,
        "precision": precision,
        "memory": memory,
        "backend_type": "cpu",
    }
    text = Path(directory, "config.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    # The vision part's options are read only here: set_config({"mllm": …}) is ignored.
    # async off: vision is over when its time is taken.
    own = {"mllm": options, "base_dir": f"{directory}/", "async": False, "sampler_type": "greedy"}
    return config | options | own


def passes(
    ids: list[int], grid: tuple[int, int], image_pad: int, positions: str
) -> tuple[list[tuple[list[int], int]], int]:
    """How MNN-LLM is given a prompt, so that each token stands where it belongs.

    MNN-LLM keeps one number, ``all_seq_len``: the position of the first token of a forward pass,
    after which it grows by the tokens of the pass. But a picture's tokens stand at its rows and
    columns, so the picture takes only max(rows, columns) positions, and what is right from then on
    has to be set before each pass. Within a pass MNN-LLM 3.6.1 goes on from a picture's last
    column, which is wrong where the picture is taller than wide: what follows a tall one is given
    in a pass of its own. The mark that ends the picture stays with it, where MNN puts it, because a
    pass that ends within a picture would repeat its text.

    Parameters
    ----------
    ids
        The prompt, with one ``image_pad`` for each visual token.
    grid
        Rows and columns of visual tokens; (0, 0) without a picture.
    positions
        "mrope" counts as Qwen2-VL does; "mnn" as MNN-LLM 3.6.1 does if it is left alone.

    Returns
    -------
    tuple
        (tokens, position of the first) of each pass, and the position after the prompt.

    Examples
    --------
    >>> passes([7, 0, 0, 8, 9], (2, 1), 0, "mrope")
    ([([7, 0, 0, 8], 0), ([9], 4)], 5)
    >>> passes([7, 0, 0, 8, 9], (1, 2), 0, "mrope")
    ([([7, 0, 0, 8, 9], 0)], 5)
    """
    rows, cols = grid
    if positions == "mnn":
        return [(ids, 0)], len(ids)
    end = len(ids) - rows * cols + max(rows, cols)
    if rows <= cols:
        return [(ids, 0)], end
    split = len(ids) - ids[::-1].index(image_pad) + 1
    return [(ids[:split], 0), (ids[split:], end - len(ids[split:]))], end
