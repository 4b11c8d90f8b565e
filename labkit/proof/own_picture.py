"""Ask about a picture of one's own: the converted model's answer beside its original's.

The browser brings the picture (dropped, pasted, chosen or taken) and shows what Python says; it
works without a browser as well: see `OwnPicture.show` and `OwnPicture.ask`.
"""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from labkit.base import paths
from labkit.base.command import OnStage
from labkit.base.errors import ImageError, LabkitError, ModelError, QuestionError
from labkit.base.show import data_url, enlarged
from labkit.inside.reference import Reference
from labkit.model import checkpoints, hub, manifest
from labkit.model.checkpoints import LARGE, MINI, TWIN, Checkpoint
from labkit.model.images import ImageLike, load_rgb
from labkit.model.vision import MERGE_SIZE, PATCH_SIZE, grid
from labkit.proof.ready import folder_of, open_model
from labkit.proof.tradeoffs import stored
from labkit.world import composer

EMBEDDED = "the embedded model"
MOST_BYTES = 100_000_000


class OwnPicture(anywidget.AnyWidget):
    """A picture that you bring, a question, and two answers: of int4 in MNN, and of the original.

    Parameters
    ----------
    picture
        What to start with; anything that `labkit.model.images.load_rgb` takes.
    on_stage
        Called after each stage, if the embedded model is to be converted first.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = "".join(
        Path(module).with_suffix(".css").read_text(encoding="utf-8")
        for module in (composer.__file__, __file__)
    )

    models = traitlets.List(traitlets.Unicode()).tag(sync=True)
    model = traitlets.Unicode(EMBEDDED).tag(sync=True)  # which one is asked
    original = traitlets.Bool(True).tag(sync=True)  # whether it is asked, too
    seen = traitlets.Dict().tag(sync=True)  # the picture as the model sees it
    reply = traitlets.Dict().tag(sync=True)  # state of the question, its notice and its answers

    def __init__(self, picture: ImageLike | None = None, *, on_stage: OnStage = None) -> None:
        self._sources = sources(on_stage)
        self._image: Image.Image | None = None
        self._open: dict[str, Any] = {}  # the model that is open, and the original, by name
        self._bytes = bytearray()
        self._gate = threading.Lock()  # one question at a time
        super().__init__(
            models=list(self._sources), reply={"status": "idle", "notice": "", "answers": {}}
        )
        self.observe(lambda _: self._redraw(), "model")
        self.on_msg(self._on_message)
        if picture is not None:
            self.show(picture)

    def show(self, picture: ImageLike) -> None:
        """Take a picture, and show it as the chosen model will see it.

        Raises
        ------
        ImageError
            If it is none, or damaged.
        """
        self._image = load_rgb(picture)
        self._redraw()

    def ask(self, question: str, *, max_new_tokens: int = 64) -> dict[str, Any]:
        """Ask and wait: the answers by engine, "MNN" and, if it is asked, "transformers".

        Raises
        ------
        QuestionError, ImageError, ModelError, EngineError, EngineCrashed, CheckpointError
            There is no picture; another answer is on its way; or as `labkit.model.chat.Model.ask`
            and `labkit.inside.reference.Reference`.
        """
        if self._image is None:
            raise ImageError("expected a picture, there is none yet. Drop, paste or choose one.")
        if not self._gate.acquire(blocking=False):
            raise QuestionError("The answer before is still on its way. Wait for it.")
        try:
            self._say(status="thinking", question=question, notice="", answers={})
            return dict(self._answers(question, max_new_tokens))
        finally:  # also an interrupt must set the Ask button free again
            self._say(status="idle")
            self._gate.release()

    def close(self) -> None:
        """End the engine, too."""
        self._open_only()
        super().close()

    # ---- the models

    def _answers(self, question: str, most: int) -> Iterator[tuple[str, Any]]:
        options = {"max_new_tokens": most}
        with self._streaming("MNN") as (told, on_text):
            model = self._model()
            told["kind"] = f"{model.manifest.kind('weight_bits')} in MNN"
            answer = model.ask(self._image, question, on_text=on_text, **options)
            told |= {"text": answer.text, "facts": composer.facts(answer)}
        yield "MNN", answer
        if not self.original:
            return
        with self._streaming("transformers") as (told, on_text):
            original = self._original(model.manifest)
            told["kind"], start = f"the original, {original.name}", time.perf_counter()
            picture = model.prepare(self._image)  # both see the same pixels
            said = original.ask(picture, question, on_text=on_text, **options)
            whole = f"{time.perf_counter() - start:.2g} s"
            counted = composer.facts(SimpleNamespace(tokens=said.tokens))
            told |= {"text": said.text, "facts": [*counted, ("All together", whole)]}
        yield "transformers", said

    @contextmanager
    def _streaming(self, engine: str) -> Iterator[tuple[dict[str, Any], Callable[[str], None]]]:
        """What is told of one answer, shown as it grows."""
        told: dict[str, Any] = {"kind": engine, "text": "", "facts": []}

        def tell(text: str = "") -> None:
            told["text"] += text
            self._say(answers={**self.reply["answers"], engine: dict(told)})

        tell()
        yield told, tell
        tell()

    def _model(self) -> Any:
        name = self.model
        if name not in self._sources:
            raise ModelError(f"expected one of {', '.join(self._sources)}, received {name!r}")
        if name not in self._open:
            self._open_only()
            self._open[name] = open_model(self._sources[name])
        return self._open[name]

    def _original(self, described: manifest.Manifest) -> Reference:
        checkpoint = original_of(described)
        if checkpoint.name not in self._open:
            self._open[checkpoint.name] = Reference(checkpoint)
        reference: Reference = self._open[checkpoint.name]
        return reference

    def _open_only(self) -> None:
        for opened in self._open.values():
            if not isinstance(opened, Reference):
                opened.close()
        self._open.clear()

    # ---- talking with the browser

    def _redraw(self) -> None:
        model = self._model()
        self.original = model.manifest.source["parameters"] <= LARGE
        if self._image is None:
            return
        pixels: np.ndarray = model.prepare(self._image)
        file, (rows, columns) = io.BytesIO(), grid(pixels)
        Image.fromarray(pixels).save(file, format="png")
        width, height = self._image.size
        words = (
            f"{width}×{height} pixels, {model.budget.seen(self._image)}: {rows}×{columns} patches "
            f"of {PATCH_SIZE}×{PATCH_SIZE} pixels, {MERGE_SIZE}×{MERGE_SIZE} of them a token"
        )
        caveat = model.manifest.caveat
        url = data_url(file.getvalue())
        self.seen = {"url": url, "rows": rows, "columns": columns, "words": words, "but": caveat}

    def _say(self, **changes: Any) -> None:
        self.reply = {**self.reply, **changes}

    def _on_message(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        """A part of a picture, or a question; whatever is wrong is said in the widget."""
        try:
            if content.get("do") == "part":
                self._take(int(content["of"]), bool(content["first"]), buffers)
            elif content.get("do") == "ask":
                words = str(content["question"])
                threading.Thread(target=self._ask_quietly, args=(words,), daemon=True).start()
        except (LabkitError, KeyError, TypeError, ValueError) as error:
            self._say(notice=str(error))

    def _take(self, total: int, first: bool, buffers: list[memoryview]) -> None:
        """A message cannot be as large as a picture may be: it comes in parts."""
        if first:
            self._bytes.clear()
        if total > MOST_BYTES:
            raise ImageError(f"expected a file of at most {MOST_BYTES / 1e6:.0f} MB. Shrink it.")
        self._bytes += b"".join(buffers)
        if len(self._bytes) >= total:
            self._say(notice="")
            self.show(bytes(self._bytes))

    def _ask_quietly(self, question: str) -> None:
        try:
            self.ask(question)
        except Exception as error:  # noqa: BLE001 - whatever it is, a learner reads it in the widget
            self._say(notice=str(error).strip() or type(error).__name__)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; where none can be shown, the picture and a line of text."""
        data, about = super()._repr_mimebundle_(**kwargs) or ({}, {})
        if self._image is None:
            return {"text/plain": repr(self)} | data, about
        still, words = enlarged(self._image, repr(self), times=1)._repr_mimebundle_()
        return still | data, words | about

    def __repr__(self) -> str:
        seen = self.seen.get("words", "none yet: drop, paste or choose one")
        said = "".join(f"\n{a['kind']}: {a['text']}" for a in self.reply["answers"].values())
        return f"Your picture: {seen}.{said}"


def sources(on_stage: OnStage = None) -> dict[str, str | Path]:
    """Models that can be asked at once, by the name to show: where `open_model` finds each."""
    embedded = folder_of(MINI, on_stage)
    found: dict[str, str | Path] = {EMBEDDED: embedded}
    for places in (paths.kept("models"), paths.place("cache") / "models"):
        for folder in sorted({*places.glob("*")} - {embedded}):
            with suppress(ModelError):  # half-made, or of another labkit
                made = manifest.read(folder)
                found.setdefault(f"{made.source['name']}, {stored(made.options)}", folder)
    return found | {offer.hub_id: offer.hub_id for offer in hub.all_kept() if offer.converted}


def original_of(described: manifest.Manifest) -> Checkpoint:
    """The checkpoint that a model was made from, if it is on this machine.

    Raises
    ------
    ModelError
        If it is not.
    """
    name = described.source["name"]
    if not described.source.get("converted") and (
        name == MINI or name.startswith(TWIN) or hub.kept(name)
    ):
        return checkpoints.resolve(name)
    raise ModelError(f"The original of {name} is not on this machine: MNN answers alone.")
