"""The scene composer: place emoji by mouse or keyboard, ask about them, see the answer stream.

All rules live here, in Python: the browser sends commands ("move object 3 there"), and
gets back the new state and the picture drawn by `labkit.mini.world`, so what the learner
sees is, pixel by pixel, what the model gets. It works without a browser as well:

>>> composer = Composer(model.ask)                                      # doctest: +SKIP
>>> composer.ask_now("left_of", "pizza").text                           # doctest: +SKIP
'A cat.'
"""

from __future__ import annotations

import base64
import contextlib
import io
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from labkit.asking import LABELS, Ask, facts, judge, needs_subject, wordings
from labkit.errors import ComposerBusy, LabkitError, SceneError
from labkit.mini.sprites import NAMES, SPRITES
from labkit.mini.world import MAX_SIDE, MIN_SIDE, SIZES, TASKS, Scene, article, render, wording
from labkit.staging import (
    BACKGROUNDS,
    FULL,
    MOST,
    Stage,
    add,
    clear,
    grow,
    in_words,
    nudge,
    paint,
    place,
    remove,
    resize,
    stage_of,
    to_state,
)

SCALE = 3
"""Screen pixels per picture pixel."""
_STEPS_KEPT = 100
_LONGEST_QUESTION = 400
_Gesture = tuple[str, int, object]


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


class Composer(anywidget.AnyWidget):
    """A picture to arrange and a model to ask about it.

    Parameters
    ----------
    ask
        Called as ``ask(picture, question, on_text=piece_arrived)``, for example ``model.ask``.
        The picture is a PIL image; the result carries ``.text`` and, where known,
        ``.tokens``, ``.visual_tokens`` and ``.times``.
    scene
        What to start with; an empty picture if None.
    height, width
        Size in pixels of the empty picture; one of `labkit.mini.world.SIZES`.

    Raises
    ------
    SceneError
        For a scene of more than four objects, or with an object or size the world has not.
    """

    _esm = _beside("composer_page.js") + _beside("composer.js")
    _css = _beside("composer.css")

    stage = traitlets.Dict().tag(sync=True)
    """The scene as drawn in the browser. Written here only; `scene` is the one to use."""
    reply = traitlets.Dict().tag(sync=True)
    """The state of the question asked last."""

    def __init__(self, ask: Ask, scene: Scene | None = None, *, height: int = 140, width: int = 140) -> None:
        self._ask = ask
        self._gate = threading.RLock()  # commands may arrive in another thread than the cell's
        self._stage = stage_of(scene or Scene(height=height, width=width, objects=()))
        self._past: list[Stage] = []
        self._gesture: _Gesture | None = None
        self._numbers = len(self._stage.ids)
        self._ticks = 0
        self._revision = 0
        self._runs = 0
        self._thread: threading.Thread | None = None
        self._answer: Any = None
        super().__init__(stage=self._shown(""), reply={"run": 0, "status": "idle"})
        self.on_msg(self._on_message)

    # ---- the scene

    @property
    def scene(self) -> Scene:
        """The scene as it stands. Assigning another one can be undone."""
        return self._stage.scene

    @scene.setter
    def scene(self, scene: Scene) -> None:
        self._change(lambda _: self._renumbered(stage_of(scene)), lambda s: f"A new scene: {in_words(s.scene)}.")

    @property
    def answer(self) -> Any:
        """The latest answer, as `ask` returned it; None before the first, and after a failed one."""
        return self._answer

    def picture(self) -> Image.Image:
        """The picture that the model gets: RGB, ``scene.width`` × ``scene.height`` pixels."""
        return render(self.scene)

    def add(self, name: str) -> int:
        """Put one more object at a free place; returns its number.

        Raises
        ------
        SceneError
            If four objects stand there, or the name is unknown.
        """
        with self._gate:
            number = self._numbers + 1
            self._change(lambda s: add(s, name, number), partial(self._added, name))
            self._numbers = number
            return number

    def move(self, number: int, x: int, y: int, side: int | None = None, *, gesture: object = None) -> None:
        """Put an object's top left corner at column ``x``, row ``y``, as far as it stays in the picture."""
        self._change(
            lambda s: place(s, number, x=x, y=y, side=s.placed(number).side if side is None else side),
            lambda s: self._where(s, number),
            ("move", number, gesture),
        )

    def nudge(self, number: int, dx: int = 0, dy: int = 0, *, gesture: object = None) -> None:
        """Move an object by some pixels."""
        self._change(lambda s: nudge(s, number, dx=dx, dy=dy), lambda s: self._where(s, number), ("nudge", number, gesture))

    def grow(self, number: int, by: int, *, gesture: object = None) -> None:
        """Make an object wider, or with a negative number narrower, by some pixels."""
        self._change(lambda s: grow(s, number, by), lambda s: self._where(s, number), ("grow", number, gesture))

    def remove(self, number: int) -> None:
        """Take an object away."""
        with self._gate:
            name = self._stage.placed(number).name
            self._change(lambda s: remove(s, number), lambda s: f"The {name} is removed. {_count(s)}")

    def clear(self) -> None:
        """Take all objects away."""
        self._change(clear, lambda _: "The scene is empty.")

    def resize(self, height: int, width: int) -> None:
        """Change the picture's size to one of `labkit.mini.world.SIZES`."""
        self._change(lambda s: resize(s, height, width), lambda _: f"The picture is {width} × {height} pixels now.")

    def paint(self, background: str) -> None:
        """Change the background to one of `labkit.staging.BACKGROUNDS`."""
        self._change(lambda s: paint(s, background), lambda _: f"Background: {background}.")

    def undo(self) -> bool:
        """Take the last change back; False if there is none."""
        with self._gate:
            if not self._past:
                self._tell("There is nothing to undo.")
                return False
            self._stage = self._past.pop()
            self._gesture = None
            self._revision += 1
            self._tell(f"Undone. {_count(self._stage)}")
            return True

    def _change(self, step: Callable[[Stage], Stage], said: Callable[[Stage], str], gesture: _Gesture | None = None) -> None:
        """Make one step. Steps of one gesture (a key held down) are undone together."""
        with self._gate:
            new = step(self._stage)
            if new != self._stage:
                same = gesture is not None and gesture[2] is not None and gesture == self._gesture
                if not same:
                    self._past = [*self._past, self._stage][-_STEPS_KEPT:]
                self._gesture = gesture
                self._stage = new
                self._revision += 1
            self._tell(said(new))

    def _renumbered(self, stage: Stage) -> Stage:
        first = self._numbers + 1
        self._numbers += len(stage.ids)
        return Stage(scene=stage.scene, ids=tuple(range(first, first + len(stage.ids))))

    def _added(self, name: str, stage: Stage) -> str:
        words = article(name)
        return f"{words[0].upper()}{words[1:]} stands in the scene. {_count(stage)}"

    def _where(self, stage: Stage, number: int) -> str:
        o = stage.placed(number)
        return f"{o.name.capitalize()}: column {o.x}, row {o.y}, {o.side} pixels wide."

    # ---- asking

    def ask_now(self, task: str, subject: str | None = None) -> Any:
        """Ask one of the world's questions and wait for the answer.

        Parameters
        ----------
        task
            One of `labkit.mini.world.TASKS`, such as ``"left_of"``.
        subject
            The object asked about; not needed for ``"describe"`` and ``"which"``.

        Raises
        ------
        SceneError
            For an unknown task, or a task without the subject it needs.
        ComposerBusy
            If another answer is still on its way.
        """
        if task not in TASKS:
            raise SceneError(f"{task!r} is not one of the tasks. Choose one of: {', '.join(TASKS)}.")
        if needs_subject(task) and subject not in NAMES:
            raise SceneError(f"The task {task!r} asks about one object, but {subject!r} came. Give the name of one, such as 'cat'.")
        return self.ask_words(wording(task, subject))

    def ask_words(self, question: str) -> Any:
        """Ask in your own words and wait for the answer. Raises what `ask` raises."""
        return self._run(*self._begin(question))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a question asked in the browser; False if it is still unanswered."""
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _begin(self, question: str) -> tuple[str, Scene]:
        question = " ".join(question.split())
        if not question:
            raise SceneError("The question is empty. Press one of the question buttons, or type one.")
        if len(question) > _LONGEST_QUESTION:
            raise SceneError(f"A question has at most {_LONGEST_QUESTION} characters, this one has {len(question)}. Make it shorter.")
        with self._gate:
            if self.reply["status"] == "thinking":
                raise ComposerBusy("The answer to the question before is still on its way. Wait for it, then ask again.")
            self._runs += 1
            self._answer = None
            self.reply = {"run": self._runs, "status": "thinking", "question": question, "revision": self._revision}
            return question, self.scene

    def _run(self, question: str, scene: Scene) -> Any:
        run, sent = self._runs, 0

        def piece(text: str) -> None:
            nonlocal sent
            with self._gate:
                self.send({"kind": "piece", "run": run, "index": sent, "text": text})
                sent += 1

        try:
            answer = self._ask(render(scene), question, on_text=piece)
            text = str(getattr(answer, "text", answer))
            verdict = judge(scene, question, text)
            shown = {"text": text, "facts": [list(row) for row in facts(answer)], "verdict": verdict.word, "because": verdict.sentence}
        except BaseException as error:  # also an interrupt must set the Ask button free again
            message = str(error).strip() or type(error).__name__
            self._finish({"status": "failed", "error": message})
            raise
        self._finish({"status": "done", **shown}, answer)
        return answer

    def _finish(self, result: dict[str, Any], answer: Any = None) -> None:
        with self._gate:
            self._answer = answer
            self.reply = {**self.reply, **result}

    def _run_quietly(self, question: str, scene: Scene) -> None:
        with contextlib.suppress(Exception):  # _run has shown its message; a traceback helps no learner
            self._run(question, scene)

    # ---- talking with the browser

    def _shown(self, notice: str) -> dict[str, Any]:
        return {
            **to_state(self._stage),
            "tick": self._ticks,
            "revision": self._revision,
            "undo": len(self._past),
            "notice": notice,
        }

    def _tell(self, notice: str) -> None:
        """Send the picture, then the state that belongs to it."""
        with self._gate:
            self._ticks += 1
            self._send_picture()
            self.stage = self._shown(notice)

    def _send_picture(self) -> None:
        scene = self.scene
        ground = render(Scene(height=scene.height, width=scene.width, objects=(), background=scene.background))
        size = {"height": scene.height, "width": scene.width}
        self.send({"kind": "picture", "revision": self._revision, **size}, [_rgba(render(scene)), _rgba(ground)])

    def _send_library(self) -> None:
        library = {
            "kind": "library",
            "model": self.model_id,
            "names": NAMES,
            "tasks": [{"task": task, "label": LABELS[task], "subject": needs_subject(task)} for task in TASKS],
            "wordings": wordings(),
            "sizes": [list(size) for size in SIZES],
            "backgrounds": list(BACKGROUNDS),
            "limits": {"most": MOST, "smallest": MIN_SIDE, "largest": MAX_SIDE, "scale": SCALE, "full": FULL},
        }
        self.send(library, [(SPRITES / f"{name}.png").read_bytes() for name in NAMES])

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        """One command from the browser; whatever is wrong with it is said in the widget."""
        try:
            self._obey(content)
        except LabkitError as error:
            self._tell(str(error))
        except (KeyError, TypeError, ValueError) as error:
            self._tell(f"The browser sent a command that makes no sense here ({error!r}). Run the cell again.")

    def _obey(self, content: dict[str, Any]) -> None:
        command = {key: value for key, value in content.items() if key != "do"}
        do = content["do"]
        if do == "hello":
            with self._gate:
                self._send_library()
                self._send_picture()
        elif do == "ask":
            question, scene = self._begin(str(command["question"]))
            # A thread of its own: pieces reach the browser while the kernel serves cells and other widgets.
            self._thread = threading.Thread(target=self._run_quietly, args=(question, scene), name="composer-ask", daemon=True)
            self._thread.start()
        elif do in ("add", "move", "nudge", "grow", "remove", "clear", "resize", "paint", "undo"):
            getattr(self, do)(**command)
        else:
            raise KeyError(do)

    # ---- without a browser

    def __repr__(self) -> str:
        return f"Scene composer, {self.scene.width} × {self.scene.height} pixels: {in_words(self.scene)}."

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget; where none can be shown, the picture; where no picture can, a line of text."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        large = self.picture().resize((self.scene.width * SCALE, self.scene.height * SCALE), Image.Resampling.NEAREST)
        png = io.BytesIO()
        large.save(png, "PNG", optimize=True)
        return {**data, "image/png": base64.b64encode(png.getvalue()).decode()}, metadata


def _count(stage: Stage) -> str:
    return f"{len(stage.ids)} of {MOST} objects."


def _rgba(picture: Image.Image) -> bytes:
    return np.asarray(picture.convert("RGBA")).tobytes()
