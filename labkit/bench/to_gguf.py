"""A checkpoint as llama.cpp reads it: two GGUF files, the language model and the tower.

Runs in the Python of that peer, which has NumPy, gguf and xllamacpp. One tensor is in memory at a
time. ``to_gguf.json`` has what either file says of itself: what is the same for all checkpoints,
and what stands under which name in a checkpoint's own files.
"""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FACTS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
STORED = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
LANGUAGE, TOWER = "language.gguf", "tower.gguf"
ENDS = (".weight", ".bias", ".weight.1")
ROWS = 4096  # of a matrix, in memory as float32 at a time
LARGE = 256  # numbers to a block of Q6_K
Part = tuple[str, np.ndarray, str]  # a tensor's name, its numbers, as what they are kept


def library() -> ctypes.CDLL:
    """llama.cpp's functions, which xllamacpp's module exports."""
    import xllamacpp

    return ctypes.CDLL(xllamacpp.xllamacpp.__file__)


def convert(checkpoint: Path, out: Path) -> None:
    """Q4_0 for the language model and Q6_K for its head, as llama.cpp's own tool does; Q8_0 for
    the tower.
    """
    from gguf import SpecialVocab
    from gguf.utility import SafetensorsLocal

    about, picture, tokenizer = (
        json.loads((checkpoint / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("config", "preprocessor_config", "tokenizer")
    )
    tensors: dict[str, Any] = {}
    for file in checkpoint.glob("*.safetensors"):
        tensors |= SafetensorsLocal(file).tensors
    text = about.get("text_config", about)
    writer = _writer(out / LANGUAGE, "QWEN2VL", text)
    writer.add_rope_dimension_sections([*text["rope_scaling"]["mrope_section"], 0])
    words, kinds = zip(*_words(tokenizer, text["vocab_size"]), strict=True)
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    SpecialVocab(checkpoint, load_merges=True).add_to_gguf(writer)
    _fill(writer, "QWEN2VL", (one for one in parts(tensors) if not one[0].startswith("visual.")))
    writer = _writer(out / TOWER, "MMPROJ", picture | about["vision_config"])
    _fill(writer, "MMPROJ", (one for one in parts(tensors) if one[0].startswith("visual.")))


def _words(tokenizer: dict[str, Any], count: int) -> Iterator[tuple[str, int]]:
    """The vocabulary; a number that the tokenizer lacks gets a word that is never read."""
    from gguf import TokenType

    known = {n: (word, TokenType.NORMAL) for word, n in tokenizer["model"]["vocab"].items()}
    for one in tokenizer["added_tokens"]:
        known[one["id"]] = one["content"], TokenType.CONTROL
    return (known.get(n, (f"[PAD{n}]", TokenType.UNUSED)) for n in range(count))


def parts(tensors: dict[str, Any]) -> Iterator[Part]:
    """What is written: a tensor each of Q, K and V, and of both frames of a patch."""
    head = "lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight"
    for name, tensor in sorted(tensors.items()):
        stored = tensor.mmap_bytes().view(STORED[tensor.dtype]).reshape(tensor.shape)
        if ".qkv." in name:
            for letter, part in zip("qkv", np.split(stored, 3), strict=True):
                yield name.replace("qkv", letter), part, "Q8_0"
        elif stored.ndim > 2:
            yield name, stored[:, :, 0], "F16"
            yield f"{name}.1", stored[:, :, 1], "F16"
        elif name == head:
            yield name, stored, "Q8_0" if stored.shape[1] % LARGE else "Q6_K"
        else:
            yield name, stored, "Q8_0" if name.startswith("visual.") else "Q4_0"


def _writer(path: Path, arch: str, config: dict[str, Any]) -> Any:
    import gguf

    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[arch]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    same, named = FACTS[arch]
    for fact, value in (same | {fact: config[name] for fact, name in named.items()}).items():
        getattr(writer, f"add_{fact}")(value)
    return writer


def _fill(writer: Any, arch: str, tensors: Iterator[Part]) -> None:
    """What tensors there are comes first, then they themselves."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch], 99)  # of so many layers
    kept = []
    for name, stored, wanted in tensors:
        kind = gguf.GGMLQuantizationType[wanted if stored.ndim > 1 else "F32"]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if not (renamed := names.get_name(name, ENDS)):
            raise ValueError(f"expected the tensors of a Qwen2-VL, found {name} among them")
        count = stored.size // block * size
        writer.add_tensor_info(renamed, stored.shape, None, count, kind)
        kept.append((stored, kind, count // len(stored)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    while kept:  # what was written is no longer mapped into memory
        stored, kind, width = kept.pop(0)
        made = np.empty((len(stored), width), np.uint8)
        for first in range(0, len(stored), ROWS):
            quantise(stored[first : first + ROWS], kind, made[first : first + ROWS])
        writer.write_tensor_data(made)
    writer.close()


def quantise(stored: np.ndarray, kind: int, out: np.ndarray) -> None:
    """Write numbers as a checkpoint has them as bytes of a kind of ggml's, by its own code."""
    if stored.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    numbers = stored.astype(np.float32, order="C").reshape(len(stored), -1)
    source, to = (array.ctypes.data_as(ctypes.c_void_p) for array in (numbers, out))
    counts = map(ctypes.c_int64, (0, *numbers.shape))
    library().ggml_quantize_chunk(kind, source, to, *counts, None)
