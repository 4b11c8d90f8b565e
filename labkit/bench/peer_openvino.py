"""A peer of MNN, in a Python of its own: OpenVINO GenAI, converted by optimum-intel.

Started as a script by `labkit.bench.peers`: with two folders it converts the first into the second;
without, it answers behind the engine's protocol.
"""

import sys
import time
from importlib.metadata import version
from typing import Any

from labkit.engine.protocol import Values
from labkit.engine.worker import Worker, main


class Peer(Worker):
    """OpenVINO GenAI behind the engine's protocol."""

    def hello(self) -> Values:
        """Versions of this process."""
        import openvino_genai  # noqa: F401 - whether it can be loaded

        return {name: version(name) for name in ("openvino-genai", "openvino")}

    def load_chat(self, *, directory: str, threads: int = 1, **_: Any) -> Values:
        """Load what `convert` made."""
        import openvino_genai

        start = time.perf_counter()
        self.pipe = openvino_genai.VLMPipeline(directory, "CPU", INFERENCE_NUM_THREADS=threads)
        return {"load_s": time.perf_counter() - start}

    def ask(self, *, question: str, image: Any = None, max_new_tokens: int = 1, **_: Any) -> Values:
        """Answer greedily with so many tokens; seconds by OpenVINO's own clocks."""
        import openvino

        made = self.pipe.generate(
            question,
            images=[openvino.Tensor(image[None])],
            max_new_tokens=max_new_tokens,
            min_new_tokens=max_new_tokens,
            ignore_eos=True,
            do_sample=False,
        )
        clocks = made.perf_metrics
        vision_s = clocks.get_prepare_embeddings_duration().mean / 1e3
        tokens = clocks.get_num_generated_tokens()
        each_s = clocks.get_tpot().mean / 1e3 if tokens > 1 else 0.0
        return {
            "prompt": [0] * clocks.get_num_input_tokens(),
            "tokens": [0] * tokens,
            "times": {
                "vision_s": vision_s,
                "prefill_s": clocks.get_ttft().mean / 1e3 - vision_s,
                "decode_s": each_s * tokens,
            },
        }


def convert(checkpoint: str, out: str) -> None:
    """int4 for the language model, int8 for the rest: what optimum-intel does if asked for int4."""
    from optimum.commands.optimum_cli import main as optimum

    words = ["export", "openvino", "--model", checkpoint, "--task", "image-text-to-text"]
    sys.argv = ["optimum-cli", *words, "--weight-format", "int4", out]
    optimum()


if __name__ == "__main__":
    if sys.argv[1:]:
        convert(*sys.argv[1:])
    else:
        main(Peer)
