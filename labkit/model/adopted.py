"""Models that others converted to MNN: what can be known of them, written as a manifest."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labkit.base.errors import ModelError
from labkit.base.records import from_json
from labkit.engine.client import EngineProcess
from labkit.model import checkpoints, manifest
from labkit.model.manifest import Manifest
from labkit.model.plan import OPTIONS


def require_usable(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Check a model's configuration, before its weights are there.

    Parameters
    ----------
    folder
        With ``config.json`` and ``llm_config.json``.
    names
        All files that the model has, or will have.

    Returns
    -------
    dict
        What ``llm_config.json`` says.

    Raises
    ------
    ModelError
        If it is not a whole Qwen2-VL that MNN-LLM 3.6.1 and labkit can use.
    """
    if missing := manifest.required(folder) - set(names):
        raise ModelError(
            f"expected {', '.join(sorted(missing))} beside llm.mnn, found none: not a whole vision "
            "language model. Convert the checkpoint yourself: labkit convert CHECKPOINT --out DIR"
        )
    manifest.require_inside(folder)
    about = from_json(dict[str, Any], (folder / "llm_config.json").read_bytes())
    kind, image_pad = about.get("model_type", "qwen2_vl"), about.get("image_pad")
    if kind != "qwen2_vl" or type(image_pad) is not int:
        raise ModelError(
            f"expected model_type 'qwen2_vl' and the id 'image_pad' in {folder}'s llm_config.json, "
            f"found {kind!r} and {image_pad!r}: another model, or an exporter too old. "
            "Convert the checkpoint yourself: labkit convert CHECKPOINT --out DIR"
        )
    return about


def adopt(folder: Path, *, name: str, revision: str) -> Manifest:
    """Write the manifest of a model that others converted: read from its files, no parity.

    Raises
    ------
    ModelError, EngineError
        As `require_usable`; or a file cannot be read by MNN.
    """
    about = require_usable(folder, [path.name for path in folder.iterdir()])
    options, parameters = _weights(folder)
    picture = folder / "preprocessor_config.json"
    stated = from_json(dict[str, Any], picture.read_bytes()) if picture.is_file() else {}
    origin = {"name": name, "sha256": revision, "parameters": parameters, "converted": "by others"}
    written = Manifest(
        source=origin,
        tools={},
        options=options,
        image=checkpoints.picture_bounds(stated),
        image_pad=about["image_pad"],
        stop=stop_tokens(folder / manifest.tokenizer(folder)),
        files=manifest.describe_files(folder),
        elapsed_s=0,
    )
    manifest.write(folder, written)
    return manifest.read(folder)


def _weights(folder: Path) -> tuple[dict[str, Any], int]:
    """How most layers of each part are quantised, and how many weights there are."""
    options: dict[str, Any] = {}
    parameters = 0
    with EngineProcess() as engine:
        for file, names in OPTIONS.items():
            ops = engine.request("graph", file=folder / file)["ops"]
            layers = [op["layer"] for op in ops if op["layer"] and op["external"]]
            if not layers:
                raise ModelError(f"expected layers with weights in {folder / file}, found none.")
            parameters += sum(layer["rows"] * layer["columns"] for layer in layers)
            most = Counter((layer["bits"] or 16, not layer["asymmetric"]) for layer in layers)
            bits, symmetric = most.most_common(1)[0][0]
            block = max(layer["block_size"] for layer in layers)  # 0: all within one block
            options |= zip(names, (bits, block, symmetric), strict=True)
    return options, parameters


def stop_tokens(tokenizer: Path) -> tuple[int, ...]:
    """The tokens that end an answer, from the first lines of MNN's tokenizer file.

    They are: a magic number and a kind; how many special, stop and prefix tokens; their ids.
    """
    with tokenizer.open("rb") as opened:
        magic, counts, ids = (opened.readline(1 << 16).split() for _ in range(3))
    try:
        special, stop = int(counts[0]), int(counts[1])
        tokens = tuple(int(token) for token in ids[special : special + stop])
    except (IndexError, ValueError):
        tokens = ()
    if magic[:1] != [b"430"] or not tokens:
        raise ModelError(
            f"expected one of MNN's tokenizers in {tokenizer}, with tokens that end an answer, "
            "found none. Convert the checkpoint yourself: labkit convert CHECKPOINT --out DIR"
        )
    return tokens
