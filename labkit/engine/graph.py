"""The operators of a .mnn file, by MNN's own converter.

The worker imports this: it must not import anything but MNN that is not Python's own.
"""

import json
import tempfile
from pathlib import Path
from typing import Any


def operators(file: str) -> list[dict[str, Any]]:
    """What a graph is made of, in its order.

    Returns
    -------
    list of dict
        ``type``, ``name``, names of ``inputs`` and ``outputs``, ``external`` (where its weights lie
        in the file beside: offset and bytes), and ``layer``, which is None without weights.
    """
    import _tools  # without the Python wrapper around it, which reports each use

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.json")
        _tools.mnnconvert(["", "-f", "MNN", "--modelFile", file, "--JsonFile", str(path)])
        dump = json.loads(path.read_text(encoding="utf-8"))
    names = dump["tensorName"]
    return [
        {
            "type": op["type"],
            "name": op.get("name", ""),
            "inputs": [names[i] for i in op.get("inputIndexes", [])],
            "outputs": [names[i] for i in op.get("outputIndexes", [])],
            "external": (op.get("main") or {}).get("external"),
            "layer": _layer(op["main"]) if op["type"] == "Convolution" else None,
        }
        for op in dump["oplists"]
    ]


def weights_bytes(file: str) -> int:
    """How long the file of weights beside a graph has to be: where the last operator's end."""
    return max((sum(op["external"]) for op in operators(file) if op["external"]), default=0)


def _layer(main: dict[str, Any]) -> dict[str, Any]:
    """Shape and quantisation of a layer, as `labkit.arm.rules.Layer`."""
    common, quantised = main["common"], main.get("quanParameter") or {}
    asymmetric, rows = bool(quantised.get("readType")), common["outputCount"]
    columns = common["inputCount"] * common["kernelX"] * common["kernelY"]
    scales_bytes = (main.get("external") or [0, 0, 0])[2]
    blocks = scales_bytes // (8 if asymmetric else 4) // rows  # how many scales one output has
    return {
        "rows": rows,
        "columns": columns,
        "kernel": [common["kernelY"], common["kernelX"]],
        "group": common["group"],
        "bits": quantised.get("aMaxOrBits"),
        "block_size": columns // blocks if blocks > 1 else 0,
        "asymmetric": asymmetric,
    }
