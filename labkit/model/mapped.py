"""The original in transformers with its weights left in their files: mapped, read when used.

``from_pretrained`` copies every weight: 4.4 GB for 2.2 billion in bfloat16, 8.8 GB in
float32. Here a parameter *is* its place in the safetensors file, and what was read can be
forgotten again, so that what is resident at once is a layer, not a model.
"""

import ctypes
import mmap
import re
from pathlib import Path
from typing import Any

from labkit.model.checkpoints import weight_files

ROWS_BYTES = 64 * 2**20
"""Large matrices are worked on in groups of rows of about so many bytes in float32."""


def load(folder: Path) -> Any:
    """A ``Qwen2VLForConditionalGeneration`` in the checkpoint's own types, nothing of it read yet.

    Raises
    ------
    CheckpointError
        If a weight file is missing.
    RuntimeError
        If tensors are missing, too many, or of another shape, as transformers says it.
    """
    import torch
    from safetensors import safe_open
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    config = Qwen2VLConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = Qwen2VLForConditionalGeneration(config)
    state: dict[str, Any] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:  # the mapping outlives it, with its tensors
            names = opened.keys()
            state |= {_renamed(model, name): opened.get_tensor(name) for name in names}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    language, tower = model.model.language_model, model.model.visual
    language.rotary_emb = type(language.rotary_emb)(config.text_config)  # computed, not stored
    per_head = config.vision_config.embed_dim // config.vision_config.num_heads
    tower.rotary_pos_emb = type(tower.rotary_pos_emb)(per_head // 2)
    return model.eval().requires_grad_(False)


def _renamed(model: Any, name: str) -> str:
    """A tensor's name in transformers' module tree, by transformers' own table."""
    table: dict[str, str] = model._checkpoint_conversion_mapping  # noqa: SLF001 - no public name
    for pattern, now in table.items():
        renamed, hits = re.subn(pattern, now, name)
        if hits:
            return renamed
    return name


def groups(rows: int, columns: int) -> list[slice]:
    """The rows of a matrix in groups of `ROWS_BYTES`."""
    step = max(1, ROWS_BYTES // (4 * columns))
    return [slice(start, start + step) for start in range(0, rows, step)]


def forget(tensor: Any) -> None:
    """Give the pages of a mapped tensor back; what is in the file is read again when used."""
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + tensor.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        place, size = ctypes.c_void_p(start), ctypes.c_size_t(length)
        ctypes.CDLL(None).madvise(place, size, mmap.MADV_DONTNEED)


def compute_in_float32(model: Any) -> None:
    """Have a mapped model compute in float32, layer by layer: widened before, forgotten after."""
    language, tower = model.model.language_model, model.model.visual
    for part in (tower.patch_embed, *tower.blocks, tower.merger, *language.layers, language.norm):
        part.register_forward_pre_hook(_widen)
        part.register_forward_hook(_narrow)
    language.embed_tokens.register_forward_hook(lambda _, __, vectors: vectors.float())
    model.lm_head.forward = lambda hidden: _scores(hidden, model.lm_head.weight)
    wide = {"dtype": property(_float32), "get_dtype": _float32}
    tower.__class__ = type("WideTower", (type(tower),), wide)


def _float32(_: Any) -> Any:
    import torch

    return torch.float32


def _widen(part: Any, _: Any) -> None:
    part.narrow = [(parameter, parameter.data) for parameter in part.parameters()]
    for parameter, kept in part.narrow:
        parameter.data = kept.float()


def _narrow(part: Any, _: Any, __: Any) -> None:
    for parameter, kept in part.__dict__.pop("narrow"):
        parameter.data = kept
        forget(kept)


def _scores(hidden: Any, weight: Any) -> Any:
    """The language head, a group of words at a time."""
    import torch

    some = []
    for rows in groups(*weight.shape):
        some.append(hidden @ weight[rows].float().T)
        forget(weight[rows])
    return torch.cat(some, dim=-1)
