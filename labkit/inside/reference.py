"""The original: the checkpoint in transformers, stage by stage, to compare with.

The only module, beside training, that loads torch.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.base.errors import CheckpointError
from labkit.engine.protocol import Arrays
from labkit.engine.worker import Reply, Worker, main
from labkit.inside.probes import Look, Reading, Tokens
from labkit.model.checkpoints import Checkpoint, resolve
from labkit.model.images import ImageLike, load_rgb, prepare
from labkit.model.vision import to_grid

STAGES = ("pixel_values", "patch_embeddings", "image_embeds", "first_logits")


@dataclass(frozen=True, kw_only=True)
class ReferenceAnswer:
    """What transformers answers."""

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    visual_tokens: int
    elapsed_s: float


class Reference:
    """A Qwen2-VL checkpoint in transformers on the CPU.

    Parameters
    ----------
    checkpoint
        From `labkit.model.checkpoints.resolve`.
    dtype
        ``"float32"`` or ``"bfloat16"``.
    """

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "float32") -> None:
        import torch
        from transformers import (
            AutoTokenizer,
            Qwen2VLForConditionalGeneration,
            Qwen2VLImageProcessor,
        )
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = str(checkpoint.folder)
        self.checkpoint = checkpoint
        self._torch: Any = torch
        try:
            self.model: Any = Qwen2VLForConditionalGeneration.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True
            ).eval()
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"transformers could not load {folder}: {error}") from error
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.processor: Any = Qwen2VLImageProcessor.from_pretrained(folder, local_files_only=True)

    def inputs(self, image: ImageLike, question: str) -> dict[str, Any]:
        """Token ids, pixel values and grid, as transformers prepares them."""
        torch = self._torch
        picture = self.processor(images=load_rgb(image), return_tensors="pt")
        visual = int(picture["image_grid_thw"].prod()) // 4
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        ids = self.tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * visual, 1))[
            "input_ids"
        ]
        return {
            "input_ids": torch.tensor([ids]),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
            "pixel_values": picture["pixel_values"].to(self.model.dtype),
            "image_grid_thw": picture["image_grid_thw"],
        }

    def stages(self, image: ImageLike, question: str) -> dict[str, np.ndarray]:
        """What stands after each stage, for one picture and question.

        Returns
        -------
        dict of numpy.ndarray
            All float32, in the model's own order (2×2 merge blocks): ``pixel_values`` (n_patches, 1176),
            ``patch_embeddings`` (n_patches, d_vision), ``image_embeds`` (n_visual_tokens, d_model),
            ``first_logits`` (vocabulary,).
        """
        seen: dict[str, Any] = {}

        def keep(name: str) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                seen[name] = output.detach().float().numpy()

            return hook

        tower = self.model.model.visual
        hooks = [
            tower.patch_embed.register_forward_hook(keep("patch_embeddings")),
            tower.register_forward_hook(keep("image_embeds")),
        ]
        inputs = self.inputs(image, question)
        try:
            with self._torch.no_grad():
                logits = self.model(**inputs, logits_to_keep=1).logits
        finally:
            for hook in hooks:
                hook.remove()
        return {
            "pixel_values": inputs["pixel_values"].float().numpy(),
            "patch_embeddings": seen["patch_embeddings"],
            "image_embeds": seen["image_embeds"],
            "first_logits": logits[0, -1].float().numpy(),
        }

    def ask(self, image: ImageLike, question: str, *, max_new_tokens: int = 64) -> ReferenceAnswer:
        """The greedy answer."""
        inputs = self.inputs(image, question)
        start = time.perf_counter()
        with self._torch.no_grad():
            whole = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        elapsed_s = time.perf_counter() - start
        prompt = inputs["input_ids"].shape[1]
        tokens = [int(t) for t in whole[0, prompt:] if int(t) not in self.checkpoint.stop]
        return ReferenceAnswer(
            text=self.tokenizer.decode(tokens),
            tokens=tuple(tokens),
            prompt_tokens=prompt,
            visual_tokens=int((inputs["input_ids"] == self.checkpoint.image_pad).sum()),
            elapsed_s=elapsed_s,
        )


class ReferenceProbe:
    """The looks of `labkit.inside.probes.Probe` into the original: Q and K are taken where transformers' own rotation returns them.

    To compare, give it the picture as the converted model saw it (``look.pixels``) and the tokens that it said (``reading.tokens``).
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.name = f"{str(reference.model.dtype).removeprefix('torch.')} in transformers"

    def look(self, image: ImageLike, *, layers: Sequence[int] | None = None) -> Look:
        """As `labkit.inside.probes.Probe.look`; every layer runs, ``layers`` are kept."""
        inputs = self.reference.inputs(image, "-")
        rows, cols = (int(side) for side in inputs["image_grid_thw"][0, 1:])
        tower = self.reference.model.model.visual
        hidden: list[np.ndarray] = []
        hooks = [
            part.register_forward_pre_hook(
                lambda _, given: hidden.append(to_grid(given[0].float().numpy(), rows, cols))
            )
            for part in (*tower.blocks, tower.merger)
        ]
        try:
            with self._rotated("apply_rotary_pos_emb_vision") as pairs:
                embeds = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
        finally:
            for hook in hooks:
                hook.remove()
        kept = range(len(pairs)) if layers is None else sorted(layers)
        q, k = (
            {i: to_grid(pairs[i][side].transpose(1, 0, 2), rows, cols, axis=1) for i in kept}
            for side in (0, 1)
        )
        return Look(
            name=self.name, layers=len(pairs), pixels=self._seen(image), patch_embeddings=hidden[0], q=q, k=k,
            hidden={i: x for i, x in enumerate(hidden) if i in kept or i in (0, len(pairs))}, image_embeds=embeds.float().numpy(),
        )  # fmt: skip

    def read(
        self, image: ImageLike, tokens: Tokens, *, layers: Sequence[int] | None = None
    ) -> Reading:
        """Where each of these words looks: the tokens of `labkit.inside.probes.Reading`, through the original."""
        import torch

        inputs = self.reference.inputs(image, "-")
        ids = torch.tensor([tokens.ids])
        with self._rotated("apply_multimodal_rotary_pos_emb") as pairs:
            self.reference.model(
                **inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                use_cache=False,
            )
        kept = range(len(pairs)) if layers is None else sorted(layers)
        q = {i: pairs[i][0][0] for i in kept}
        k = {i: np.repeat(pairs[i][1][0], len(q[i]) // len(pairs[i][1][0]), axis=0) for i in kept}
        return Reading(
            name=self.name, layers=len(pairs), pixels=self._seen(image), tokens=tokens, q=q, k=k
        )

    def _seen(self, image: ImageLike) -> np.ndarray:
        size = self.reference.processor.size
        return prepare(image, min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"])

    @contextlib.contextmanager
    def _rotated(self, name: str) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Q and K of each layer, float32, as this function of transformers returns them while the block runs."""
        import torch
        from transformers.models.qwen2_vl import modeling_qwen2_vl

        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        rotate = getattr(modeling_qwen2_vl, name)

        def noted(*given: Any, **named: Any) -> Any:
            q, k = rotate(*given, **named)
            pairs.append((q.float().numpy(), k.float().numpy()))
            return q, k

        setattr(modeling_qwen2_vl, name, noted)
        try:
            with torch.inference_mode():
                yield pairs
        finally:
            setattr(modeling_qwen2_vl, name, rotate)


class OriginalWorker(Worker):
    """The engine's protocol with transformers behind it: same requests, same arrays, same work, without a KV cache.

    ``file`` of ``load_module`` is the checkpoint's folder and ``precision`` a dtype of torch.
    """

    model: Any = None

    def hello(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Versions of this process."""
        import torch
        import transformers

        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        }, {}

    def load_module(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Load the checkpoint, once, whichever part is asked for."""
        import torch

        torch.set_num_threads(request["threads"])
        start = time.perf_counter()
        self.model = (
            self.model or Reference(resolve(request["file"]), dtype=request["precision"]).model
        )
        return {"load_s": time.perf_counter() - start}, {}

    def forward(self, request: dict[str, Any], arrays: Arrays) -> Reply:
        """Run the part that these arrays are for (`labkit.model.parts`)."""
        import torch

        model, given = (
            self.model,
            {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
        )
        elapsed_s = []
        with torch.inference_mode():
            for _ in range(request["repeat"]):
                start = time.perf_counter()
                if request["key"] == "vision":
                    rows, cols = given["position_ids"].amax(1).tolist()
                    out = model.model.visual(
                        given["patches"].to(model.dtype),
                        grid_thw=torch.tensor([[1, rows + 1, cols + 1]]),
                    )
                else:
                    embeds, places = (
                        given["input_ids"].transpose(0, 1).to(model.dtype),
                        given["position_ids"][:, None].long(),
                    )
                    hidden = model.model.language_model(
                        inputs_embeds=embeds, position_ids=places, use_cache=False
                    ).last_hidden_state
                    out = model.lm_head(hidden[:, -1:])
                result = out.float().numpy()
                elapsed_s.append(time.perf_counter() - start)
        return {"elapsed_s": elapsed_s}, {
            "image_embeds" if request["key"] == "vision" else "logits": result
        }


if __name__ == "__main__":
    main(OriginalWorker)
