"""A peer of MNN, in a Python of its own: llama.cpp, from the wheel of xllamacpp.

Started as a script by `labkit.bench.peers`: with two folders it converts the first into the second;
without, it answers behind the engine's protocol.
"""

import base64
import ctypes
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.bench import to_gguf
from labkit.engine.protocol import Values
from labkit.engine.worker import Worker, main

# What llama.cpp's tools/mtmd says before and after the tower runs.
BEGUN, OVER = b"mtmd_batch_encode_impl: encoding batch", b"clip_encode: output embedding"
# ggml_log_callback in llama.cpp's ggml/include/ggml.h
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Peer(Worker):
    """llama.cpp's server, within this process, behind the engine's protocol."""

    def hello(self) -> Values:
        """Versions of this process, and the instructions that llama.cpp was built for."""
        import xllamacpp

        built = xllamacpp.get_system_info().replace(" = 1 |", "").partition(" : ")[2]
        return {"xllamacpp": version("xllamacpp"), "llama.cpp built for": built.strip()}

    def load_chat(self, *, directory: str, threads: int = 1, **_: Any) -> Values:
        """Load what `convert` made; all on the CPU, and no prompt remembered."""
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(Path(directory, to_gguf.LANGUAGE))
        params.mmproj.path = str(Path(directory, to_gguf.TOWER))
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_ctx, params.n_gpu_layers, params.mmproj_use_gpu = 4096, 0, False
        params.cache_prompt, params.cache_ram_mib = False, 0
        start = time.perf_counter()
        self.server = xllamacpp.Server(params)
        load_s = time.perf_counter() - start
        self.seen: dict[bytes, float] = {}
        self.log = LOG(self._note)  # llama.cpp keeps no reference to it
        to_gguf.library().mtmd_helper_log_set(self.log, None)
        return {"load_s": load_s}

    def _note(self, _: int, text: bytes, __: Any) -> None:
        self.seen |= {words: time.perf_counter() for words in (BEGUN, OVER) if words in text}

    def ask(self, *, question: str, image: Any = None, max_new_tokens: int = 1, **_: Any) -> Values:
        """Answer greedily with so many tokens; seconds by llama.cpp's own clocks.

        What it does before the prompt, such as making the picture ready, belongs to vision. The
        first token comes with the prompt: decode is what the others took, for all of them.
        """
        height, width, _channels = image.shape
        file = base64.b64encode(b"P6 %d %d 255\n" % (width, height) + image.tobytes())
        url = {"url": f"data:image/x-portable-pixmap;base64,{file.decode()}"}
        content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": question}]
        self.seen.clear()
        start = time.perf_counter()
        made = self.server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": content}],
                "max_tokens": max_new_tokens,
                "temperature": 0,
                "ignore_eos": True,
            }
        )
        took = time.perf_counter() - start
        if len(self.seen) < 2:
            raise RuntimeError(f"llama.cpp did not look at the picture: {made}")
        clocks, usage = made["timings"], made["usage"]
        tower = self.seen[OVER] - self.seen[BEGUN]
        prompt, decode = clocks["prompt_ms"] / 1e3, clocks["predicted_ms"] / 1e3
        tokens = usage["completion_tokens"]
        return {
            "prompt": [0] * usage["prompt_tokens"],
            "tokens": [0] * tokens,
            "text": made["choices"][0]["message"]["content"],
            "times": {
                "vision_s": took - prompt - decode + tower,
                "prefill_s": prompt - tower,
                "decode_s": decode / max(1, tokens - 1) * tokens,
            },
        }


if __name__ == "__main__":
    if sys.argv[1:]:
        to_gguf.convert(*map(Path, sys.argv[1:]))
    else:
        main(Peer)
