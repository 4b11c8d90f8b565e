"""The engine's worker: ``python -m labkit.engine.worker`` with frames on stdin and stdout.

It imports NumPy and MNN and nothing else, so that the same file runs in this
interpreter, under emulation, and on another machine. MNN prints to stdout from native
code; that goes to stderr here, and the frames keep a descriptor of their own.

A request is ``{"op": …}``; the reply is any number of ``{"event": …}`` frames and then
one with ``"done": true`` or ``"error"``.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from labkit.engine.protocol import Arrays, read_frame, write_frame

CPU_ENABLE_KLEIDIAI = 16  # Interpreter::HintMode in MNN 3.6.1's include/MNN/Interpreter.hpp
MEMORY = {
    "normal": 0,
    "high": 1,
    "low": 2,
}  # BackendConfig::MemoryMode; the module API takes ints and ignores strings silently
PRECISION = {"normal": 0, "high": 1, "low": 2}
SNAPSHOT = 0x4C41424B  # "LABK": the system call getpgid of this number means "write down" to labkit/counting.c
Reply = tuple[dict[str, Any], Arrays]


def chat_config(directory: str, *, threads: int, precision: str, memory: str) -> dict[str, Any]:
    """What MNN-LLM is opened with: a converted model's own ``config.json``, with these options for both of its parts, greedy."""
    options = {
        "thread_num": threads,
        "precision": precision,
        "memory": memory,
        "backend_type": "cpu",
    }
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        config: dict[str, Any] = json.load(file)
    # The vision part's options are read only here: set_config({"mllm": …}) is ignored.
    # async off: vision is over when its time is taken.
    return config | {
        **options,
        "mllm": options,
        "base_dir": directory + "/",
        "async": False,
        "sampler_type": "greedy",
    }


class Worker:
    """What is loaded, and one method per request."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.send = send
        self.chat: Any = None
        self.modules: dict[str, Any] = {}
        self.keep: list[Any] = []

    def hello(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Versions and machine, as this process sees them."""
        import MNN

        return {
            "mnn": MNN.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "pid": os.getpid(),
        }, {}

    # ---- MNN-LLM: the whole model, with its KV cache

    def load_chat(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Open a converted model for chatting; threads, precision and memory hold for both of its parts."""
        import MNN.llm

        config = chat_config(
            request["directory"],
            threads=request["threads"],
            precision=request["precision"],
            memory=request["memory"],
        )
        folder = tempfile.TemporaryDirectory()  # not beside the model, which may be read only
        path = os.path.join(folder.name, "config.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.keep.append(folder)
        start = time.perf_counter()
        self.chat = MNN.llm.create(path)
        if not self.chat._c_obj.load():
            raise RuntimeError(f"MNN could not load {request['directory']}")
        return {"load_s": time.perf_counter() - start}, {}

    def ask(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Answer one question about one picture (or none), greedily, piece by piece.

        The picture comes as (height, width, 3) uint8 RGB at the size at which it is to be seen.
        With ``"positions": "mrope"`` each token stands where Qwen2-VL puts it, right after the largest position
        so far; ``"mnn"`` leaves it where MNN-LLM 3.6.1 does: text after a picture right after its last column,
        and new tokens at the number of tokens so far.
        """
        import MNN.expr as F

        model, llm = self.chat, self.chat._c_obj
        llm.reset()
        llm.generate_init()
        start = time.perf_counter()
        image = arrays.get("image")
        if image is None:
            ids = model.tokenizer_encode(model.apply_chat_template(request["question"]))
        else:
            bgr = np.ascontiguousarray(image[:, :, ::-1])  # what MNN's image path expects
            data = F.const(bgr, list(bgr.shape), F.NHWC, F.uint8)
            text = model.apply_chat_template("<img>image_0</img>" + request["question"])
            ids = model.tokenizer_encode(
                {
                    "text": text,
                    "images": [{"data": data, "height": bgr.shape[0], "width": bgr.shape[1]}],
                }
            )
        vision_s = time.perf_counter() - start
        visual = sum(token == request["image_pad"] for token in ids)
        rows, cols = (0, 0) if image is None else (image.shape[0] // 28, image.shape[1] // 28)
        if visual != rows * cols:
            raise RuntimeError(
                f"expected {rows * cols} visual tokens for this picture, MNN made {visual}"
            )
        start = time.perf_counter()
        mrope = request["positions"] == "mrope"
        position = len(ids) - (visual - max(rows, cols) if mrope else 0)
        logits = self._prefill(
            ids, position, request["image_pad"] if mrope and rows > cols else None
        )
        prefill_s = time.perf_counter() - start
        prompt = [int(token) for token in ids]
        pieces = [_token_bytes(llm, token).decode("utf-8", "replace") for token in prompt]
        self.send(
            {
                "event": "prompt",
                "tokens": prompt,
                "pieces": pieces,
                "vision_s": vision_s,
                "prefill_s": prefill_s,
            }
        )
        first = logits
        tokens: list[int] = []
        text, finished, decoder = "", False, codecs.getincrementaldecoder("utf-8")("replace")
        start = time.perf_counter()
        while len(tokens) < request["max_new_tokens"]:
            token = int(logits.argmax())
            if token in request["stop"]:
                finished = True
                break
            tokens.append(token)
            piece = decoder.decode(_token_bytes(llm, token))
            text += piece
            self.send({"event": "piece", "token": token, "text": piece})
            llm.set_context({"all_seq_len": position})
            logits = self._logits(llm.forward([token]))
            position += 1
        decode_s = time.perf_counter() - start
        rest = decoder.decode(b"", True)
        if rest:
            self.send({"event": "piece", "token": None, "text": rest})
        numbers = {
            "prompt": prompt,
            "visual_tokens": visual,
            "vision_s": vision_s,
            "prefill_s": prefill_s,
            "decode_s": decode_s,
        }
        return {"text": text + rest, "tokens": tokens, "finished": finished, **numbers}, {
            "first_logits": first
        }

    def _prefill(self, ids: list[int], position: int, tall: int | None) -> np.ndarray:
        """The logits after a prompt whose next token stands at ``position``; ``tall`` is the id of a tall picture's tokens.

        MNN-LLM 3.6.1 goes on from a picture's last column, not from its longer side, so text after a tall one is placed here.
        The mark that ends the picture stays where MNN puts it: a forward pass that ends within a picture would repeat its text.
        """
        llm = self.chat._c_obj
        if tall is not None:
            after = len(ids) - ids[::-1].index(tall) + 1
            llm.forward(ids[:after])
            ids = ids[after:]
            llm.set_context({"all_seq_len": position - len(ids)})
        return self._logits(llm.forward(ids))

    @staticmethod
    def _logits(variable: Any) -> np.ndarray:
        values: np.ndarray = np.asarray(variable.read(), np.float32)
        last: np.ndarray = values.reshape(-1, values.shape[-1])[-1].copy()
        return last

    # ---- the two parts as plain modules: any tensor can be an output

    def load_module(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Load one .mnn file under a key, with its inputs and outputs by name."""
        from MNN import nn

        if not os.path.exists(request["file"]):
            raise FileNotFoundError(request["file"])
        options = {
            "backend": 0,
            "precision": PRECISION[request["precision"]],
            "memory": MEMORY[request["memory"]],
            "numThread": request["threads"],
        }
        start = time.perf_counter()
        runtime = nn.create_runtime_manager((options,))
        runtime.set_hint(CPU_ENABLE_KLEIDIAI, int(request["kleidiai"]))
        module = nn.load_module_from_file(
            request["file"], request["inputs"], request["outputs"], runtime_manager=runtime
        )
        self.modules[request["key"]] = (module, request["inputs"], request["outputs"], runtime)
        return {"load_s": time.perf_counter() - start}, {}

    def forward(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Run a module; its outputs by name, and the seconds of each repetition."""
        import MNN.expr as F

        module, inputs, outputs, _ = self.modules[request["key"]]
        kinds = {"f": F.float, "i": F.int}
        given = [
            F.const(a, list(a.shape), F.NCHW, kinds[a.dtype.kind])
            for a in (np.ascontiguousarray(arrays[name]) for name in inputs)
        ]
        elapsed_s, results = [], []
        for _ in range(request["repeat"]):
            start = time.perf_counter()
            results = module.forward(given)
            for variable in results:
                variable.read()  # computed only when it is read
            elapsed_s.append(time.perf_counter() - start)
        return {"elapsed_s": elapsed_s}, {
            name: np.array(F.convert(v, F.NCHW).read())
            for name, v in zip(outputs, results, strict=True)
        }

    def graph(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """The operators of one .mnn file: type, name, and the names of its input and output tensors."""
        import _tools  # MNN's own converter, without the Python wrapper around it that reports each use

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "graph.json")
            _tools.mnnconvert(["", "-f", "MNN", "--modelFile", request["file"], "--JsonFile", path])
            with open(path, encoding="utf-8") as file:
                dump = json.load(file)
        names = dump["tensorName"]
        ops = [
            {"type": op["type"], "name": op.get("name", ""), "inputs": [names[i] for i in op.get("inputIndexes", [])],
             "outputs": [names[i] for i in op.get("outputIndexes", [])], "external": (op.get("main") or {}).get("external"),
             "layer": _layer(op)}
            for op in dump["oplists"]
        ]  # fmt: skip
        return {"ops": ops}, {}

    def snapshot(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Ask the plugin that counts instructions to write down what it has; says where libraries lie in memory."""
        with contextlib.suppress(
            OSError
        ):  # no such process group, which the plugin knows for its signal
            os.getpgid(SNAPSHOT)
        with open("/proc/self/maps", encoding="utf-8") as file:
            return {"maps": file.read()}, {}

    def release(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Forget a module."""
        self.modules.pop(request["key"], None)
        return {}, {}

    def memory(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """The most memory this process has held, in bytes."""
        status = "/proc/self/status"
        if os.path.exists(
            status
        ):  # Linux, where getrusage would count the parent's memory from before this program began
            with open(status, encoding="utf-8") as file:
                return {
                    "peak_bytes": next(
                        int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM")
                    )
                }, {}
        import resource

        return {
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        }, {}  # bytes on macOS


def _layer(op: dict[str, Any]) -> dict[str, Any] | None:
    """Shape and quantisation of a layer with weights; ``blocks`` is how many scales one output has."""
    if op["type"] != "Convolution":
        return None
    common, main = op["main"]["common"], op["main"]
    quantised, external = main.get("quanParameter") or {}, main.get("external") or [0, 0, 0]
    asymmetric = bool(quantised.get("readType"))
    return {
        "columns": common["inputCount"] * common["kernelX"] * common["kernelY"], "rows": common["outputCount"], "group": common["group"],
        "kernel": [common["kernelY"], common["kernelX"]], "bits": quantised.get("aMaxOrBits"), "asymmetric": asymmetric,
        "blocks": external[2] // (8 if asymmetric else 4) // common["outputCount"],
    }  # fmt: skip


def _token_bytes(llm: Any, token: int) -> bytes:
    try:
        return str(llm.tokenizer_decode(token)).encode()
    except UnicodeDecodeError as error:  # a token may be part of a character
        return bytes(error.object)


OPERATIONS = (
    "hello",
    "load_chat",
    "ask",
    "load_module",
    "forward",
    "graph",
    "snapshot",
    "release",
    "memory",
)


def serve(requests: BinaryIO, replies: BinaryIO, kind: type[Worker] = Worker) -> None:
    """Answer requests until the other side is gone."""
    worker = kind(lambda header: write_frame(replies, header))
    while True:
        try:
            request, arrays = read_frame(requests)
        except EOFError:
            return
        try:
            if request.get("op") not in OPERATIONS:
                raise ValueError(
                    f"expected one of {', '.join(OPERATIONS)}, received {request.get('op')!r}"
                )
            header, results = getattr(worker, request["op"])(request, arrays)
        except Exception as error:
            write_frame(replies, {"error": {"type": type(error).__name__, "message": str(error)}})
        else:
            write_frame(replies, {**header, "done": True}, results)


def main(kind: type[Worker] = Worker) -> None:
    """Give the frames descriptors of their own, then serve; ``kind`` may be another engine behind the same protocol."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(requests, replies, kind)


if __name__ == "__main__":
    main()
