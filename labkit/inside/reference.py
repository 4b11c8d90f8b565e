"""The original: the checkpoint in transformers, stage by stage, to compare with.

The only module, beside training, that loads torch.
"""

import pkgutil
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import CheckpointError
from labkit.engine.protocol import Values
from labkit.engine.worker import Worker, main
from labkit.inside.looks import Look, Reading, chosen
from labkit.model import mapped
from labkit.model.checkpoints import LARGE, Checkpoint, resolve
from labkit.model.images import ImageLike, load_rgb, prepare

CODE = "transformers.models.qwen2_vl.modeling_qwen2_vl"


@frozen
class ReferenceAnswer:
    """What transformers answers."""

    text: str
    tokens: tuple[int, ...]


class Reference:
    """A Qwen2-VL checkpoint in transformers on the CPU.

    Parameters
    ----------
    checkpoint
        From `labkit.model.checkpoints.resolve`.
    dtype
        ``"float32"`` or ``"bfloat16"``.
    layerwise
        Whether the weights stay in their files, and one layer at a time is widened to float32: in
        memory a layer instead of the model, the same numbers to the bit, and seconds for each
        token. By default, for more than `labkit.model.checkpoints.LARGE` in float32.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, dtype: str = "float32", layerwise: bool | None = None
    ) -> None:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self.checkpoint, self.torch = checkpoint, torch
        self.name, self.dtype = f"{dtype} in transformers", getattr(torch, dtype)
        stop = checkpoint.stop  # all that generation_config.json may say: the search is greedy
        greedy = transformers.GenerationConfig(eos_token_id=[*stop], pad_token_id=stop[0])
        if layerwise is None:
            layerwise = dtype == "float32" and checkpoint.parameters > LARGE

        def loaded(kind: Any, **options: Any) -> Any:
            return kind.from_pretrained(checkpoint.folder, local_files_only=True, **options)

        try:
            if layerwise:
                self.model = mapped.load(checkpoint.folder)
                mapped.compute_in_float32(self.model)
            else:
                kind = transformers.Qwen2VLForConditionalGeneration
                self.model = loaded(kind, dtype=dtype, generation_config=greedy).eval()
            self.tokenizer = loaded(transformers.AutoTokenizer)
            self.processor = loaded(transformers.Qwen2VLImageProcessor)
        except Exception as error:  # readers raise whatever they trip over
            raise CheckpointError(
                f"transformers could not load {checkpoint.folder}: {error}"
            ) from error
        self.model.generation_config = greedy

    def inputs(self, image: ImageLike, question: str) -> dict[str, Any]:
        """Token ids, pixel values and grid, as transformers prepares them."""
        picture = self.processor(images=load_rgb(image), return_tensors="pt").to(self.dtype)
        visual = int(picture["image_grid_thw"].prod()) // 4
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        text = prompt.replace("<|image_pad|>", "<|image_pad|>" * visual, 1)
        return {**self.tokenizer(text, return_tensors="pt"), **picture}

    def stages(self, image: ImageLike, question: str) -> dict[str, np.ndarray]:
        """What stands after each stage, for one picture and question.

        Returns
        -------
        dict of numpy.ndarray
            All float32, in the model's own order (2×2 merge blocks): ``pixel_values``
            (n_patches, 1176), ``patch_embeddings`` (n_patches, d_vision), ``image_embeds``
            (n_visual_tokens, d_model), ``first_logits`` (vocabulary,).
        """
        inputs = self.inputs(image, question)
        with (
            self._noted("PatchEmbed.forward") as embedded,
            self._noted("Qwen2VisionTransformerPretrainedModel.forward") as merged,
        ):
            logits = self.model(**inputs, logits_to_keep=1).logits[0, -1]
        stages = {
            "pixel_values": inputs["pixel_values"],
            "patch_embeddings": embedded[0],
            "image_embeds": merged[0],
            "first_logits": logits,
        }
        return {name: stage.float().numpy() for name, stage in stages.items()}

    def ask(
        self,
        image: ImageLike,
        question: str,
        *,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
    ) -> ReferenceAnswer:
        """The greedy answer; ``on_text`` is called with each word as it comes."""
        from transformers import TextStreamer

        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, **_: on_text(text) if on_text else None
        inputs = self.inputs(image, question) | {"streamer": streamer}
        with self.torch.no_grad():
            sequence = self.model.generate(**inputs, max_new_tokens=max_new_tokens)
        said = sequence[0, inputs["input_ids"].shape[1] :].tolist()
        tokens = tuple(token for token in said if token not in self.checkpoint.stop)
        return ReferenceAnswer(text=self.tokenizer.decode(tokens), tokens=tokens)

    def look(self, image: ImageLike, *, layers: Sequence[int] | None = None) -> Look:
        """As `labkit.inside.probes.Probe.look`; every layer runs, ``layers`` are kept.

        To compare, give it the picture as the converted model saw it: ``look.pixels``.
        """
        inputs, tower = self.inputs(image, "-"), self.model.model.visual
        with (
            self._noted("PatchEmbed.forward") as embedded,
            self._noted("Qwen2VLVisionBlock.forward") as states,
            self._noted("apply_rotary_pos_emb_vision") as pairs,
        ):
            embeds = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
        hidden = embedded + states
        kept, count = chosen(layers, len(pairs)), len(pairs)
        q, k = ({i: pairs[i][side].float().numpy().swapaxes(0, 1) for i in kept} for side in (0, 1))
        return Look.from_sequence(
            name=self.name,
            layers=count,
            pixels=prepare(image, **self.checkpoint.image),
            hidden={i: hidden[i].float().numpy() for i in sorted({0, *kept, count})},
            q=q,
            k=k,
            image_embeds=embeds.float().numpy(),
        )

    def read(self, reading: Reading) -> Reading:
        """Where the words of a reading look in the original: same picture, tokens and layers."""
        ids = self.torch.tensor([reading.ids])
        prompt = {"input_ids": ids, "attention_mask": ids.new_ones(ids.shape)}
        with self._noted("apply_multimodal_rotary_pos_emb") as pairs:
            self.model(**self.inputs(reading.pixels, "-") | prompt, use_cache=False)
        q, k = ({i: pairs[i][side][0].float().numpy() for i in reading.q} for side in (0, 1))
        return replace(reading, name=self.name, q=q, k=k)

    @contextmanager
    def _noted(self, name: str) -> Iterator[list[Any]]:
        """What transformers' function of this name returns, call by call."""
        results: list[Any] = []
        function = pkgutil.resolve_name(f"{CODE}.{name}")

        def noted(*given: Any, **named: Any) -> Any:
            results.append(function(*given, **named))
            return results[-1]

        with mock.patch(f"{CODE}.{name}", noted), self.torch.inference_mode():
            yield results


class OriginalWorker(Worker):
    """The engine's protocol with transformers behind it.

    Same requests, same arrays, same work, without a KV cache. ``file`` of ``load_module`` is the
    checkpoint's folder and ``precision`` a dtype of torch.
    """

    model: Any = None

    def hello(self) -> Values:
        """Versions of this process."""
        modules = ("torch", "transformers")
        return {"python": platform.python_version()} | {name: version(name) for name in modules}

    def load_module(
        self, *, file: str, threads: int = 1, precision: str = "float32", **_: Any
    ) -> Values:
        """Load the checkpoint, once, whichever part is asked for."""
        import torch

        torch.set_num_threads(threads)
        start = time.perf_counter()
        if self.model is None:
            self.model = Reference(resolve(file), dtype=precision, layerwise=False).model
        return {"load_s": time.perf_counter() - start}

    def forward(self, *, key: str, repeat: int = 1, **arrays: np.ndarray) -> Values:
        """Run the part that these arrays are for (`labkit.model.parts`)."""
        import torch

        given = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        run = self._vision if key == "vision" else self._language
        elapsed_s = []
        with torch.inference_mode():
            for _ in range(repeat):
                start = time.perf_counter()
                result = run(**given).float().numpy()
                elapsed_s.append(time.perf_counter() - start)
        return {"elapsed_s": elapsed_s, "image_embeds" if key == "vision" else "logits": result}

    def _vision(self, *, patches: Any, position_ids: Any, **_: Any) -> Any:
        rows, cols = (position_ids.amax(1) + 1).tolist()
        grid = position_ids.new_tensor([[1, rows, cols]]).long()
        return self.model.model.visual(patches.to(self.model.dtype), grid_thw=grid)

    def _language(self, *, input_ids: Any, position_ids: Any, **_: Any) -> Any:
        return self.model(
            inputs_embeds=input_ids.transpose(0, 1).to(self.model.dtype),
            position_ids=position_ids[:, None].long(),
            use_cache=False,
            logits_to_keep=1,
        ).logits


if __name__ == "__main__":
    main(OriginalWorker)
