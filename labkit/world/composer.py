"""The scene composer: place emoji by mouse or keyboard, ask about them, see the answer stream.

All rules live in Python: the browser sends commands ("move object 3 there"), and gets back
the new state and the picture drawn by `labkit.world.scenes`, so what the learner sees is, pixel
by pixel, what the model gets. It works without a browser as well: see `Composer.ask_now`.
"""

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from labkit.base.errors import LabkitError, SceneError
from labkit.base.show import data_url, enlarged
from labkit.world.questions import LABELS, judge, wording, wordings
from labkit.world.scenes import MAX_SIDE, MIN_SIDE, MOST, NAMES, SPRITES, Scene, render
from labkit.world.staging import BACKGROUNDS, FULL, PICTURES, STEPS, Stage, in_words, stage_of

SCALE = 3  # screen pixels per picture pixel
_STEPS_KEPT = 100
_LONGEST_QUESTION = 400


class Composer(anywidget.AnyWidget):
    """A picture to arrange and a model to ask about it.

    Parameters
    ----------
    ask
        Called as ``ask(picture, question, on_text=piece_arrived)``, for example ``model.ask``.
        The picture is a PIL image; the result carries ``.text`` and, where known,
        ``.tokens``, ``.visual_tokens`` and ``.times`` (as `facts` shows them).
    scene
        What to start with; an empty picture if None. One that the world cannot hold is a
        SceneError.
    height, width
        Size in pixels of the empty picture; one of `labkit.world.scenes.SIZES`.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")

    # The scene as drawn in the browser, written here only: `scene` is the one to use.
    stage = traitlets.Dict().tag(sync=True)
    reply = traitlets.Dict().tag(sync=True)  # the state of the question asked last

    def __init__(
        self,
        ask: Callable[..., Any],
        scene: Scene | None = None,
        *,
        height: int = 140,
        width: int = 140,
    ) -> None:
        self._ask = ask
        self._gate = threading.RLock()  # commands may arrive in another thread than the cell's
        self._stage = stage_of(scene or Scene(height=height, width=width))
        self._past: deque[Stage] = deque(maxlen=_STEPS_KEPT)
        self._undone: deque[Stage] = deque()
        self._gesture: object = None
        self._ticks, self._revision = itertools.count(), 0
        self._idle = threading.Event()  # set while no answer is on its way
        self._idle.set()
        # The latest, as `ask` returned it; None before the first, and after a failed one.
        self.answer: Any = None
        super().__init__(stage=self._shown(""), reply={"run": 0, "status": "idle"})
        self.on_msg(self._on_message)

    # ---- the scene

    @property
    def scene(self) -> Scene:
        """The scene as it stands. Assigning another one can be undone."""
        return self._stage.scene

    @scene.setter
    def scene(self, scene: Scene) -> None:
        with self._gate:
            self._become(stage_of(scene, self._stage.last))

    def picture(self) -> Image.Image:
        """The picture that the model gets: RGB, ``scene.width`` × ``scene.height`` pixels."""
        return render(self.scene)

    def do(self, step: str, *, gesture: object = None, **how: Any) -> None:
        """Take one of `labkit.world.staging.STEPS`, such as ``do("add", name="cat")``.

        Steps of one gesture (a key held down) are undone together.
        """
        with self._gate:
            self._become(STEPS[step](self._stage, **how), gesture)

    def _become(self, new: Stage, gesture: object = None) -> None:
        if new != self._stage:
            if gesture is None or gesture != self._gesture:
                self._past.append(self._stage)
            self._undone.clear()
            self._stage, self._gesture = new, gesture
            self._revision += 1
        self._tell(new.said)

    def undo(self) -> bool:
        """Take the last change back; False if there is none."""
        return self._go("undo", self._past, self._undone, "Undone.")

    def redo(self) -> bool:
        """Make the change again that was taken back last; False if there is none."""
        return self._go("redo", self._undone, self._past, "Done again.")

    def _go(self, what: str, source: deque[Stage], other: deque[Stage], done: str) -> bool:
        with self._gate:
            if not source:
                self._tell(f"There is nothing to {what}.")
                return False
            other.append(self._stage)
            # A number is never used twice.
            self._stage = replace(source.pop(), last=self._stage.last)
            self._gesture = None
            self._revision += 1
            self._tell(f"{done} {self._stage.count}")
            return True

    @property
    def code(self) -> str:
        """Python that makes the scene again."""
        return f"from labkit.world.scenes import Background, Placed, Scene\n\nscene = {self.scene}"

    # ---- asking

    def ask_now(self, task: str, subject: str | None = None) -> Any:
        """Ask one of `labkit.world.questions.TASKS`, such as ``"left_of"``; returns the answer.

        The tasks ``"describe"`` and ``"which"`` need no subject. An unknown task or a missing
        subject is a SceneError, and so is another answer that is still on its way.
        """
        return self.ask_words(wording(task, subject))

    def ask_words(self, question: str) -> Any:
        """Ask in your own words and wait for the answer. Raises what `ask` raises."""
        return self._answer(*self._begin(question))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a question asked in the browser; False if it is still unanswered."""
        return self._idle.wait(timeout_s)

    def _begin(self, question: str) -> tuple[str, Scene]:
        question = " ".join(question.split())
        if not question:
            raise SceneError(
                "The question is empty. Press one of the question buttons, or type one."
            )
        if len(question) > _LONGEST_QUESTION:
            raise SceneError(
                f"A question has at most {_LONGEST_QUESTION} characters, "
                f"this one has {len(question)}. Make it shorter."
            )
        with self._gate:
            if not self._idle.is_set():
                raise SceneError(
                    "The answer to the question before is still on its way. "
                    "Wait for it, then ask again."
                )
            self._idle.clear()
            run = self.reply["run"] + 1
            asked = {"question": question, "revision": self._revision}
            self.reply = {"run": run, "status": "thinking", **asked}
            return question, self.scene

    def _answer(self, question: str, scene: Scene) -> Any:
        numbers = itertools.count()

        def piece(text: str) -> None:
            place = {"run": self.reply["run"], "index": next(numbers)}
            self.send({"kind": "piece", **place, "text": text})

        self.answer = None
        result: dict[str, Any] = {}
        try:
            self.answer = self._ask(render(scene), question, on_text=piece)
            text = str(getattr(self.answer, "text", self.answer))
            word, because = judge(scene, question, text)
            seen = {"verdict": word, "because": because, "facts": facts(self.answer)}
            result = {"status": "done", "text": text, **seen}
        except BaseException as error:  # also an interrupt must set the Ask button free again
            result = {"status": "failed", "error": str(error).strip() or type(error).__name__}
            raise
        finally:
            with self._gate:
                self.reply = {**self.reply, **result}
                self._idle.set()
        return self.answer

    # ---- talking with the browser

    def _shown(self, notice: str) -> dict[str, Any]:
        """What the browser shows: the state; as RGBA, the model's picture and the bare ground."""
        scenes = {"picture": self.scene, "ground": self._stage.ground}
        pixels = {name: render(s).convert("RGBA").tobytes() for name, s in scenes.items()}
        steps = {"undo": len(self._past), "redo": len(self._undone)}
        numbers = {"tick": next(self._ticks), "revision": self._revision, **steps}
        told = {"notice": notice, "code": self.code}
        return {**self._stage.state(), **pixels, **numbers, **told}

    def _tell(self, notice: str) -> None:
        with self._gate:
            self.stage = self._shown(notice)

    def _send_library(self) -> None:
        self.send(
            {
                "kind": "library",
                "model": self.model_id,
                "sprites": {n: data_url((SPRITES / f"{n}.png").read_bytes()) for n in NAMES},
                "labels": LABELS,
                "wordings": wordings(),
                "sizes": PICTURES,
                "backgrounds": list(BACKGROUNDS),
                "limits": {"most": MOST, "smallest": MIN_SIDE, "largest": MAX_SIDE, "full": FULL},
            }
        )

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        """One command from the browser; whatever is wrong with it is said in the widget."""
        do, how = content.get("do"), {name: content[name] for name in content if name != "do"}
        try:
            if do == "hello":
                self._send_library()
            elif do == "ask":
                asked = self._begin(str(how["question"]))
                # A thread of its own: pieces reach the browser while the kernel serves others.
                threading.Thread(target=self._answer_quietly, args=asked, daemon=True).start()
            elif do in {"undo", "redo"}:
                getattr(self, do)()
            else:
                self.do(str(do), **how)
        except LabkitError as error:
            self._tell(str(error))
        except (KeyError, TypeError, ValueError) as error:
            self._tell(
                f"The browser sent a command that makes no sense here ({error!r}). "
                "Run the cell again."
            )

    def _answer_quietly(self, *asked: Any) -> None:
        # _answer has shown the error's message; a traceback helps no learner.
        with contextlib.suppress(Exception):
            self._answer(*asked)

    # ---- without a browser

    def __repr__(self) -> str:
        width, height = self.scene.width, self.scene.height
        return f"Scene composer, {width} × {height} pixels: {in_words(self.scene)}."

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; where none can be shown, the picture; where that cannot, a line of text."""
        data, about = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still, words = enlarged(self.picture(), repr(self), times=SCALE)._repr_mimebundle_()
        return still | data, words | about


def facts(answer: Any) -> list[tuple[str, str]]:
    """Names and values to show beside an answer; what the answer does not carry is left out.

    >>> from types import SimpleNamespace
    >>> facts(SimpleNamespace(visual_tokens=25, times=SimpleNamespace(vision_s=0.0213)))
    [('Visual tokens', '25'), ('Vision', '0.021 s')]
    """
    known = {"Visual tokens": getattr(answer, "visual_tokens", None)}
    if hasattr(answer, "tokens"):
        known = {"Tokens": len(answer.tokens), **known}
    for part in ("Vision", "Prefill", "Decode"):
        seconds = getattr(getattr(answer, "times", None), f"{part.lower()}_s", None)
        if seconds is not None:
            known[part] = f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    return [(name, str(value)) for name, value in known.items() if value is not None]
