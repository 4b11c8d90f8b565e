"""The engine's worker: ``python -m labkit.engine.worker`` with frames on stdin and stdout.

It imports NumPy and MNN and nothing else, so that the same file runs in this interpreter, under
emulation, and on another machine. MNN prints to stdout from native code; that goes to stderr here,
and the frames keep a descriptor of their own.

A request is ``op``, the name of an operation, with its arguments by name. The reply is any number
of frames with an ``event``, and then one with what the operation returns, or with an ``error``.
"""

import codecs
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labkit.engine.graph import operators
from labkit.engine.mnn_llm import chat_config, passes
from labkit.engine.protocol import Values, read_frame, write_frame

# Interpreter::HintMode in MNN 3.6.1's include/MNN/Interpreter.hpp
CPU_ENABLE_KLEIDIAI = 16
# BackendConfig's PrecisionMode and MemoryMode: the module API takes ints and ignores words.
LEVELS = {"normal": 0, "high": 1, "low": 2}
# "LABK": the system call getpgid of this number means "write down" to labkit/arm/counting.c
SNAPSHOT = 0x4C41424B


class Worker:
    """What is loaded, and one method for each operation, named as a request names it."""

    def __init__(self, send: Callable[[Values], None]) -> None:
        self.send = send
        self.chat: Any = None
        self.modules: dict[str, Any] = {}

    def hello(self) -> Values:
        """Versions and machine, as this process sees them."""
        import MNN

        return {
            "mnn": MNN.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }

    # ---- MNN-LLM: the whole model, with its KV cache

    def load_chat(self, *, directory: str, **options: Any) -> Values:
        """Open a converted model for chatting; options as in `chat_config`."""
        import MNN.llm

        config = chat_config(directory, **options)
        with tempfile.TemporaryDirectory() as folder:  # the model's own may be read only
            file = Path(folder, "config.json")
            file.write_text(json.dumps(config), encoding="utf-8")
            start = time.perf_counter()
            self.chat = MNN.llm.create(str(file))
            if not self.chat._c_obj.load():
                raise RuntimeError(f"MNN could not load {directory}")
            return {"load_s": time.perf_counter() - start}

    def ask(
        self,
        *,
        question: str,
        image: np.ndarray | None = None,
        image_pad: int,
        stop: list[int],
        max_new_tokens: int,
        positions: str,
    ) -> Values:
        """Answer one question about one picture (or none), greedily, piece by piece.

        Parameters
        ----------
        image
            (height, width, 3) uint8 RGB at the size at which it is to be seen.
        image_pad, stop
            The id of a visual token, and of those that end an answer.
        positions
            As in `passes`.

        Events are ``vision`` with its ``size`` in patches, ``prefill`` with its ``size`` in tokens,
        each as it begins; ``prompt`` when both are over; and a ``piece`` for each token.
        """
        llm = self.chat._c_obj
        llm.reset()
        llm.generate_init()
        rows, cols = (0, 0) if image is None else (side // 28 for side in image.shape[:2])
        if image is not None:
            self.send({"event": "vision", "size": 4 * rows * cols})
        start = time.perf_counter()
        ids = self._encode(question, image)
        encoded = time.perf_counter()
        self.send({"event": "prefill", "size": len(ids)})
        visual = ids.count(image_pad)
        if visual != rows * cols:
            raise RuntimeError(
                f"expected {rows * cols} visual tokens for this picture, MNN made {visual}"
            )
        parts, position = passes(ids, (rows, cols), image_pad, positions)
        for part, first in parts:
            logits = self._logits(part, first)
        times = {"vision_s": encoded - start, "prefill_s": time.perf_counter() - encoded}
        reply = {"prompt": ids, "visual_tokens": visual, "first_logits": logits, "times": times}
        pieces = [self._bytes(token).decode("utf-8", "replace") for token in ids]
        self.send({"event": "prompt", "tokens": ids, "pieces": pieces, **times})

        tokens: list[int] = []
        text, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
        start = time.perf_counter()
        while len(tokens) < max_new_tokens and (token := int(logits.argmax())) not in stop:
            piece = decoder.decode(self._bytes(token))
            self.send({"event": "piece", "token": token, "text": piece})
            text += piece
            logits = self._logits([token], position + len(tokens))
            tokens.append(token)
        times["decode_s"] = time.perf_counter() - start
        if rest := decoder.decode(b"", True):  # of a character that was not finished
            self.send({"event": "piece", "token": None, "text": rest})
        finished = len(tokens) < max_new_tokens
        return {**reply, "tokens": tokens, "text": text + rest, "finished": finished}

    def look(self, *, image: np.ndarray) -> Values:
        """The seconds that the vision tower takes for a picture; nothing is asked."""
        start = time.perf_counter()
        self._encode("", image)
        return {"vision_s": time.perf_counter() - start}

    def _encode(self, question: str, image: np.ndarray | None) -> list[int]:
        """The prompt's tokens; the vision tower runs here."""
        import MNN.expr as F

        picture = "" if image is None else "<img>image_0</img>"
        prompt: Any = self.chat.apply_chat_template(f"{picture}{question}")
        if image is not None:
            bgr = np.ascontiguousarray(image[:, :, ::-1])  # what MNN's image path expects
            data = F.const(bgr, list(bgr.shape), F.NHWC, F.uint8)
            height, width, _ = bgr.shape
            images = [{"data": data, "height": height, "width": width}]
            prompt = {"text": prompt, "images": images}
        return [int(token) for token in self.chat.tokenizer_encode(prompt)]

    def _logits(self, tokens: list[int], position: int) -> np.ndarray:
        """Forward tokens of which the first stands at ``position``.

        Returns
        -------
        numpy.ndarray
            (vocabulary,) float32, after the last token.
        """
        llm = self.chat._c_obj
        llm.set_context({"all_seq_len": position})
        logits = llm.forward(tokens).read()
        return np.array(logits.reshape(-1, logits.shape[-1])[-1], np.float32)

    def _bytes(self, token: int) -> bytes:
        """UTF-8 of a token, which may be part of a character."""
        try:
            return str(self.chat._c_obj.tokenizer_decode(token)).encode()
        except UnicodeDecodeError as error:
            return bytes(error.object)

    # ---- the two parts as plain modules: any tensor can be an output

    def load_module(
        self,
        *,
        key: str,
        file: str,
        inputs: list[str],
        outputs: list[str],
        kleidiai: bool,
        threads: int = 1,
        precision: str = "normal",
        memory: str = "low",
    ) -> Values:
        """Load one .mnn file under a key, with its inputs and outputs by name."""
        from MNN import nn

        if not Path(file).exists():
            raise FileNotFoundError(file)
        options = {
            "backend": 0,
            "precision": LEVELS[precision],
            "memory": LEVELS[memory],
            "numThread": threads,
        }
        start = time.perf_counter()
        runtime = nn.create_runtime_manager((options,))
        runtime.set_hint(CPU_ENABLE_KLEIDIAI, int(kleidiai))
        module = nn.load_module_from_file(file, inputs, outputs, runtime_manager=runtime)
        self.modules[key] = (module, inputs, outputs, runtime)
        return {"load_s": time.perf_counter() - start}

    def forward(self, *, key: str, repeat: int = 1, **arrays: np.ndarray) -> Values:
        """Run a module on its inputs; its outputs by name, and the seconds of each repetition."""
        import MNN.expr as F

        module, inputs, outputs, _ = self.modules[key]
        kinds = {"f": F.float, "i": F.int}
        given = [
            F.const(array, list(array.shape), F.NCHW, kinds[array.dtype.kind])
            for array in (np.ascontiguousarray(arrays[name]) for name in inputs)
        ]
        elapsed_s = []
        for _ in range(repeat):
            start = time.perf_counter()
            results = module.forward(given)
            for variable in results:
                variable.read()  # computed only when it is read
            elapsed_s.append(time.perf_counter() - start)
        tensors = (np.array(F.convert(variable, F.NCHW).read()) for variable in results)
        return {"elapsed_s": elapsed_s, **dict(zip(outputs, tensors, strict=True))}

    def graph(self, *, file: str) -> Values:
        """The operators of one .mnn file (`labkit.engine.graph`)."""
        return {"ops": operators(file)}

    def snapshot(self) -> Values:
        """Have the plugin that counts instructions write down what it has.

        The reply says where libraries lie in memory.
        """
        with contextlib.suppress(OSError):  # no such process group: the plugin has heard it
            os.getpgid(SNAPSHOT)
        return {"maps": Path("/proc/self/maps").read_text(encoding="utf-8")}

    def mark(self, *, text: str) -> Values:
        """Write a text to the log: what was printed before stands before it."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        return {}

    def memory(self) -> Values:
        """The most memory this process has held, in bytes."""
        if platform.system() == "Linux":  # getrusage counts the parent's memory before this began
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            return {"peak_bytes": int(status.partition("VmHWM:")[2].split()[0]) * 1024}
        import resource

        return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}  # macOS: bytes


OPERATIONS = tuple(name for name in vars(Worker) if not name.startswith("_"))


def main(kind: type[Worker] = Worker) -> None:
    """Give the frames descriptors of their own, then answer until the other side is gone.

    Parameters
    ----------
    kind
        May be another engine behind the same protocol.
    """
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    worker = kind(lambda event: write_frame(replies, event))
    while True:
        try:
            request = read_frame(requests)
        except EOFError:
            return
        try:
            op = request.pop("op", None)
            if op not in OPERATIONS:
                raise ValueError(f"expected one of {', '.join(OPERATIONS)}, received {op!r}")
            reply = getattr(worker, op)(**request)
        except Exception as error:
            reply = {"error": {"type": type(error).__name__, "message": str(error)}}
        write_frame(replies, reply)


if __name__ == "__main__":
    main()
    os._exit(0)  # the system frees a model's gigabyte faster than its destructors
