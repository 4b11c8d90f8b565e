"""A peer of MNN, in a Python of its own: transformers on the CPU, as a user would call it.

Started as a script by `labkit.bench.peers`; behind the engine's protocol it loads a checkpoint and
answers, and gives the seconds of each part.
"""

import time
from importlib.metadata import version
from typing import Any

from labkit.engine.protocol import Values
from labkit.engine.worker import Worker, main


class Clock:
    """Notes when each token comes; ``generate`` calls it as a streamer, first with the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        """Another token."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """The last one."""


class Peer(Worker):
    """transformers behind the engine's protocol."""

    def hello(self) -> Values:
        """Versions of this process."""
        return {name: version(name) for name in ("transformers", "torch")}

    def load_chat(
        self, *, directory: str, threads: int = 1, precision: str = "float32", **_: Any
    ) -> Values:
        """Load a checkpoint; ``precision`` is a dtype of torch."""
        import torch
        import transformers

        torch.set_num_threads(threads)
        start = time.perf_counter()
        kind = transformers.Qwen2VLForConditionalGeneration
        self.model = kind.from_pretrained(directory, dtype=precision, attn_implementation="sdpa")
        self.model.eval()
        self.model.generation_config = transformers.GenerationConfig(pad_token_id=0)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        self.processor = transformers.Qwen2VLImageProcessor.from_pretrained(directory)
        self.model.model.visual.register_forward_hook(self._seen)
        return {"load_s": time.perf_counter() - start}

    def _seen(self, *_: Any) -> None:
        self.vision_over = time.perf_counter()

    def ask(self, *, question: str, image: Any = None, max_new_tokens: int = 1, **_: Any) -> Values:
        """Answer greedily with so many tokens; vision includes making the picture ready.

        The first token comes with the prompt: decode is what the others took, for all of them.
        """
        import torch

        start = time.perf_counter()
        picture = self.processor(images=image, return_tensors="pt").to(self.model.dtype)
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        visual = int(picture["image_grid_thw"].prod()) // 4
        text = text.replace("<|image_pad|>", "<|image_pad|>" * visual, 1)
        prompt, clock = self.tokenizer(text, return_tensors="pt"), Clock()
        counts = {"max_new_tokens": max_new_tokens, "min_new_tokens": max_new_tokens}
        with torch.inference_mode():
            made = self.model.generate(
                **prompt, **picture, **counts, do_sample=False, use_cache=True, streamer=clock
            )
        ids = prompt["input_ids"][0].tolist()
        first, last = clock.times[1], clock.times[-1]
        return {
            "prompt": ids,
            "tokens": made[0, len(ids) :].tolist(),
            "times": {
                "vision_s": self.vision_over - start,
                "prefill_s": first - self.vision_over,
                "decode_s": (last - first) / max(1, max_new_tokens - 1) * max_new_tokens,
            },
        }


if __name__ == "__main__":
    main(Peer)
