"""llmexport in little memory: weights go from file to file, a few rows at a time.

Left alone, the exporter (llmexport 0.0.5) loads the checkpoint whole, turns the vision
tower into float32, writes that as ONNX and has MNN's converter read it again: 17 GiB for
2.2 billion parameters. It spares the language model the worst: there a linear layer is
exported as a custom operator, ``FakeLinear``, and quantised later, one by one. `install`
makes the same true of the tower, and has all weights mapped (`labkit.model.mapped`).

What comes out is the same: the language model's weight file byte for byte, and of the
tower the stored record of every layer. The tower's graph has fewer operators that only
compute shapes, and its layers stand in another order in their file.

Imported by `labkit.model.exporter` alone, when llmexport's folder is on the path.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import Linear
from transformers import Qwen2VLForConditionalGeneration
from utils.custom_op import FakeLinear  # type: ignore[import-not-found]
from utils.mnn_converter import MNNConverter  # type: ignore[import-not-found]
from utils.model import LlmModel  # type: ignore[import-not-found]
from utils.spinner import spinner_run  # type: ignore[import-not-found]
from utils.torch_utils import onnx_export, quant  # type: ignore[import-not-found]
from utils.vision import Vision  # type: ignore[import-not-found]

from labkit.model import mapped
from labkit.model.plan import dividing


def install(llmexport: Any) -> None:
    """Change the exporter, its main module given, for this process."""
    Qwen2VLForConditionalGeneration.from_pretrained = staticmethod(_load)
    Vision.float = lambda tower: tower  # its linear layers stay as they are, in their file
    LlmModel.cpu = lambda model: model  # it is there; copying would read it all
    llmexport.MNNConverter = RowsConverter
    llmexport.LlmExporter.export_vision = _export_tower


def _load(folder: str, **_: Any) -> Any:
    """In place of ``from_pretrained``: mapped; in float32 only what is small."""
    try:
        model = mapped.load(Path(folder))
    except Exception as error:  # else the exporter tries again, with less of an error
        raise SystemExit(f"could not load {folder}: {error}") from error
    words, tower = model.model.language_model.embed_tokens, model.model.visual
    words.__class__ = type("MappedEmbedding", (type(words),), {"float": lambda table: table})
    words.register_forward_hook(lambda _, __, vectors: vectors.float())
    tower.float = lambda: tower
    for part in tower.modules():
        if not isinstance(part, Linear):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return model


class RowsConverter(MNNConverter):  # type: ignore[misc]
    """The exporter's converter; it reads, quantises and writes a layer by groups of rows."""

    def quantised(self, rows: torch.Tensor, bits: int, block: int, symmetric: bool) -> Any:
        """Codes and scales by llmexport's own rule, in the weights' own type."""
        return quant(rows, bits, block, symmetric, False, False)

    def build_weight(self, linear: Linear, bits: int, block: int, symmetric: bool) -> Any:
        """Write one layer's record; returns where it is and what its operator has to know."""
        weight = linear.weight.data
        # A head tied to the embeddings is quantised from float32: the exporter widens embeddings.
        tied = weight.data_ptr() == self.exporter.model.embed.embed.weight.data_ptr()
        header, long_shape = (0, False)
        if bits < 16:
            header, long_shape = self.write_header(linear.in_features, linear.out_features, bits)
        codes, scales = header, []
        for some in mapped.groups(*weight.shape):
            rows = weight[some].float() if tied else weight[some]
            if bits == 16:
                codes += self.write_weight(rows.half())
            else:
                packed, scale = self.quantised(rows, bits, block, symmetric)
                codes += self.write_weight(packed)
                scales.append(scale)
            mapped.forget(weight[some])
        alpha = sum(self.write_weight(scale) for scale in scales)
        bias = 0 if linear.bias is None else self.write_weight(linear.bias.data.float())
        external = [self.mnn_weight_offset, codes, alpha, bias, 0]
        self.mnn_weight_offset += codes + alpha + bias
        return external, int(bits < 16), long_shape, header


class TowerConverter(RowsConverter):
    """The same for the tower by the rule of MNN's converter, which would have quantised it."""

    def write_header(self, columns: int, rows: int, bits: int) -> Any:
        """MNN's converter counts blocks where llmexport counts rows."""
        block = dividing(self.args.quant_block, columns)
        return super().write_header(block, rows * columns // block, bits)

    def quantised(self, rows: torch.Tensor, bits: int, block: int, symmetric: bool) -> Any:
        """In float32; halves go away from zero, and the least weight is kept, not the middle."""
        blocks = rows.float().reshape(-1, dividing(block, rows.shape[1]))
        top = 2 ** (bits - 1) - 1
        if symmetric:
            scale = blocks.abs().amax(1, keepdim=True) / top
            codes = _away(blocks / scale).clamp(-top, top) + top + 1
            alpha = scale
        else:
            least = blocks.amin(1, keepdim=True)
            scale = (blocks.amax(1, keepdim=True) - least) / (2 * top + 1)
            codes = _away((blocks - least) / scale).clamp(0, 2 * top + 1)
            alpha = torch.cat([least, scale], dim=1)
        packed = codes.to(torch.uint8).flatten()
        if bits == 4:
            high, low = packed.reshape(-1, 2).T
            packed = high * 16 + low
        return packed, alpha.flatten()

    def rebuild_linear(self, op: dict[str, Any], graph: dict[str, Any]) -> list[dict[str, Any]]:
        """The operators of one linear layer."""
        ops: list[dict[str, Any]] = super().rebuild_linear(op, graph)
        for made in ops:
            if made["type"] == "Convolution" and self.args.quant_bit < 16 and not self.args.sym:
                made["main"]["quanParameter"]["aMin"] = -(2 ** (self.args.quant_bit - 1))
            if made["name"].startswith("/merger/") and made["name"].endswith("/post_reshape"):
                made["main"]["dims"] = made["main"]["dims"][1:]  # tokens have no batch there
        return ops


def _away(values: torch.Tensor) -> torch.Tensor:
    """To the nearest whole number, halves away from zero, as C's ``roundf``."""
    return torch.trunc(values + torch.copysign(torch.tensor(0.5), values))


def _export_tower(exporter: Any) -> None:
    """In place of ``export_vision``: the graph first, without its linear layers, then those."""
    tower, args = exporter.visual, exporter.args
    mapped.forget(exporter.model.embed.embed.weight)  # read to see whether the head is tied to it
    linears = _taken_out(tower)
    options = {
        "quant_bit": args.visual_quant_bit,
        "quant_block": args.visual_quant_block,
        "sym": args.visual_sym,
    }
    language = {name: getattr(args, name) for name in options}
    vars(args).update(options)
    try:
        _convert(TowerConverter(exporter, linears), _graph(tower, exporter.onnx_path), args)
    finally:
        vars(args).update(language)


@spinner_run("export visual to ")  # type: ignore[untyped-decorator]
def _graph(tower: Any, folder: str) -> str:
    """The tower as ONNX, traced on 64 patches: 900 give the same graph and take a gigabyte more."""
    path, patches = f"{folder}/visual.onnx", 64
    example = (
        torch.randn(patches, 1176),
        torch.zeros(2, patches, dtype=torch.int32),
        torch.zeros(1, patches, patches),
    )
    sizes = {
        "patches": {0: "size"},
        "position_ids": {1: "size"},
        "attention_mask": {1: "size", 2: "size"},
    }
    names = {"input_names": list(sizes), "output_names": ["image_embeds"]}
    onnx_export(tower, example, path, dynamic_axes=sizes, **names)
    return path


def _taken_out(tower: Any) -> dict[str, Linear]:
    """The tower's linear layers by name, each replaced by the exporter's custom operator."""
    parts = {"/merger/mlp": tower.merger.mlp}
    for number, block in enumerate(tower.blocks):
        parts |= {f"/blocks.{number}/attn": block.self_attn, f"/blocks.{number}/mlp": block.mlp}
    linears = {}
    for place, part in parts.items():
        for name, child in list(part.named_children()):
            if isinstance(child, Linear):
                key, bias = f"{place}/{name}", child.bias is not None
                linears[key] = child
                setattr(part, name, FakeLinear(child.in_features, child.out_features, bias, key))
    return linears


@spinner_run("quant visual weight to ", True)  # type: ignore[untyped-decorator]
def _convert(converter: TowerConverter, onnx: str, args: Any) -> str:
    """From ONNX to MNN; the patch embedding stays as MNN's converter quantised it."""
    model = Path(args.dst_path) / "visual.mnn"
    weights, dump = Path(f"{model}.weight"), Path(f"{model}.json")
    bits, block = str(args.quant_bit), str(args.quant_block)
    how = ["--fp16"] if bits == "16" else ["--weightQuantBits", bits, "--weightQuantBlock", block]
    converter.onnx2mnn(onnx, str(model), how, weight_sym=args.sym)
    converter.mnn2json(str(model), str(dump))
    graph = json.loads(dump.read_text(encoding="utf-8"))
    converter.mnn_weight_offset = weights.stat().st_size
    with weights.open("ab") as converter.mnn_weight:
        graph["oplists"] = [
            rebuilt
            for op in graph["oplists"]
            for rebuilt in (converter.rebuild_linear(op, graph) if op["type"] == "Extra" else [op])
        ]
    dump.write_text(json.dumps(graph), encoding="utf-8")
    converter.json2mnn(str(dump), str(model))
    converter.removeDupOps(str(model))
    dump.unlink()
    return str(weights)
