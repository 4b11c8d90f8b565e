"""The scene composer without a browser: commands, undo, asking, and what is sent."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labkit.base.errors import SceneError
from labkit.world.composer import SCALE, Composer
from labkit.world.scenes import NAMES, Placed, Scene, render

CAT_AND_PIZZA = Scene(
    height=140,
    width=140,
    objects=(Placed(name="cat", x=10, y=50, side=40), Placed(name="pizza", x=90, y=52, side=40)),
)
PIECES = ("A ", "cat", ".")


def says_cat(
    image: Image.Image, question: str, /, *, on_text: Callable[[str], None]
) -> SimpleNamespace:
    for piece in PIECES:
        on_text(piece)
    return SimpleNamespace(
        text="A cat.",
        tokens=(32, 453, 13, 2),
        visual_tokens=25,
        times=SimpleNamespace(vision_s=0.02, prefill_s=0.04, decode_s=0.01),
    )


def breaks(
    image: Image.Image, question: str, /, *, on_text: Callable[[str], None]
) -> SimpleNamespace:
    on_text("A ")
    raise RuntimeError("The engine stopped. Open the model again.")


class Recorded(Composer):
    """A composer that keeps what it sends, in order: messages, and its state after each change."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[Any] = []
        super().__init__(*args, **kwargs)
        self.observe(lambda change: self.sent.append(change["new"]), names=["stage", "reply"])

    def send(self, content: dict[str, Any], buffers: Any = None) -> None:
        self.sent.append(content)

    def hears(self, **command: Any) -> None:
        """A command as the browser sends it."""
        self._on_message(self, command, [])

    def of_kind(self, kind: str) -> list[Any]:
        return [item for item in self.sent if item.get("kind") == kind]


@pytest.fixture
def composer() -> Iterator[Recorded]:
    made = Recorded(says_cat)
    yield made
    assert made.wait(30)
    made.close()


def _places(composer: Composer) -> list[tuple[str, int, int, int]]:
    return [(o.name, o.x, o.y, o.side) for o in composer.scene.objects]


def _add(composer: Composer, name: str) -> int:
    """Add one object; returns its number."""
    composer.do("add", name=name)
    return int(composer.stage["objects"][-1]["id"])


def test_state_follows_every_change(composer: Recorded) -> None:
    cat = _add(composer, "cat")
    pizza = _add(composer, "pizza")
    composer.do("move", number=cat, x=3, y=4)
    composer.do("move", number=pizza, x=500, y=500, side=50)
    composer.do("nudge", number=cat, dx=2, dy=-1)
    composer.do("nudge", number=cat, by=-4)
    composer.do("paint", background="Sky")
    assert _places(composer) == [("cat", 7, 5, 40), ("pizza", 90, 90, 50)]
    assert [(o["name"], o["x"], o["y"], o["side"]) for o in composer.stage["objects"]] == _places(
        composer
    )
    assert composer.stage["background"] == "Sky"
    composer.do("resize", height=112, width=168)
    assert composer.picture().size == (168, 112)
    composer.do("remove", number=cat)
    assert [o.name for o in composer.scene.objects] == ["pizza"]
    composer.do("clear")
    assert composer.scene.objects == ()


def test_each_change_sends_the_picture_of_the_model_with_its_state(composer: Recorded) -> None:
    composer.do("add", name="cat")
    (state,) = composer.sent
    shown = np.frombuffer(state["picture"], np.uint8).reshape(140, 140, 4)
    np.testing.assert_array_equal(shown[:, :, :3], np.asarray(render(composer.scene)))
    assert (shown[:, :, 3] == 255).all()
    ground = np.frombuffer(state["ground"], np.uint8).reshape(140, 140, 4)
    assert len(np.unique(ground.reshape(-1, 4), axis=0)) == 1


def test_undo_takes_back_one_step_at_a_time(composer: Recorded) -> None:
    seen = [composer.scene]
    cat = _add(composer, "cat")
    seen.append(composer.scene)
    composer.do("move", number=cat, x=0, y=0)
    seen.append(composer.scene)
    composer.do("move", number=cat, x=0, y=0)  # no change: no step
    composer.scene = CAT_AND_PIZZA
    seen.append(composer.scene)
    composer.do("clear")
    for expected in reversed(seen):
        assert composer.undo()
        assert composer.scene == expected
    assert not composer.undo()
    assert composer.stage["notice"] == "There is nothing to undo."
    assert composer.stage["undo"] == 0
    for expected in seen[1:]:
        assert composer.redo()
        assert composer.scene == expected
    composer.hears(do="redo")
    assert composer.scene.objects == ()
    assert not composer.redo()
    assert composer.stage["notice"] == "There is nothing to redo."
    composer.undo()
    _add(composer, "dog")  # from here on what was undone is gone
    assert composer.stage["redo"] == 0
    assert not composer.redo()


def test_the_code_makes_the_scene_again(composer: Recorded) -> None:
    composer.scene = CAT_AND_PIZZA
    composer.do("paint", background="Sky")
    made: dict[str, Any] = {}
    exec(composer.stage["code"], made)
    assert made["scene"] == composer.scene


def test_a_key_held_down_is_one_step(composer: Recorded) -> None:
    cat = _add(composer, "cat")
    start = composer.scene
    for _ in range(5):
        composer.do("nudge", number=cat, dx=1, gesture=7)
    assert composer.stage["undo"] == 2
    middle = composer.scene
    for _ in range(3):
        composer.do("nudge", number=cat, dx=1, gesture=8)
    composer.undo()
    assert composer.scene == middle
    composer.do("nudge", number=cat, dx=1, gesture=8)  # after an undo, a new step
    composer.undo()
    composer.undo()
    assert composer.scene == start


def test_numbers_are_never_used_twice(composer: Recorded) -> None:
    first = _add(composer, "cat")
    composer.do("remove", number=first)
    composer.scene = CAT_AND_PIZZA
    assert len({first, *(o["id"] for o in composer.stage["objects"]), _add(composer, "dog")}) == 4


def test_the_browser_is_told_when_the_scene_is_full_or_a_command_makes_no_sense(
    composer: Recorded,
) -> None:
    for name in ("cat", "dog", "bee", "bus", "fish"):
        composer.hears(do="add", name=name)
    assert len(composer.scene.objects) == 4
    assert "Remove one to add another" in composer.stage["notice"]
    with pytest.raises(SceneError):
        composer.do("add", name="fish")
    before = composer.scene
    far = {"do": "move", "number": 99, "x": 0, "y": 0}
    for nonsense in (
        {"do": "explode"},
        {},
        {"do": "move", "number": 1},
        far,
        {"do": "add", "name": "unicorn"},
    ):
        ticks = composer.stage["tick"]
        composer.hears(**nonsense)
        assert composer.stage["tick"] == ticks + 1
        assert composer.stage["notice"]
    assert composer.scene == before


def test_hello_brings_sprites_and_words_once(composer: Recorded) -> None:
    composer.hears(do="hello")
    (library,) = composer.of_kind("library")
    assert list(library["sprites"]) == list(NAMES)
    for url in library["sprites"].values():
        kind, _, data = url.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as sprite:
            assert sprite.size == (96, 96)
    assert library["wordings"]["left_of"]["pizza"][0] == "What is left of the pizza?"


def test_asking_streams_pieces_in_order_between_thinking_and_done() -> None:
    composer = Recorded(says_cat, CAT_AND_PIZZA)
    answer = composer.ask_now("left_of", "pizza")
    assert answer.text == "A cat."
    assert composer.answer is answer
    assert [item.get("status", item.get("kind")) for item in composer.sent] == [
        "thinking",
        "piece",
        "piece",
        "piece",
        "done",
    ]
    assert [(p["index"], p["text"]) for p in composer.of_kind("piece")] == list(enumerate(PIECES))
    reply = composer.reply
    assert (reply["question"], reply["text"], reply["verdict"]) == (
        "What is left of the pizza?",
        "A cat.",
        "Right",
    )
    assert ("Visual tokens", "25") in reply["facts"]


def test_the_model_gets_the_picture_and_the_question() -> None:
    got: list[Any] = []

    def look(
        image: Image.Image, question: str, /, *, on_text: Callable[[str], None]
    ) -> SimpleNamespace:
        got.extend((image, question))
        return SimpleNamespace(text="A dog.")

    composer = Composer(look, CAT_AND_PIZZA)
    composer.ask_words("  What is left\n of the pizza? ")
    np.testing.assert_array_equal(np.asarray(got[0]), np.asarray(render(CAT_AND_PIZZA)))
    assert got[0].mode == "RGB"
    assert got[1] == "What is left of the pizza?"
    assert composer.reply["verdict"] == "Wrong"


def test_a_failing_model_is_a_message_and_the_next_question_works() -> None:
    composer = Recorded(breaks, CAT_AND_PIZZA)
    composer.hears(do="ask", question="What do you see?")
    assert composer.wait(30)
    assert composer.reply["status"] == "failed"
    assert composer.reply["error"] == "The engine stopped. Open the model again."
    assert "Traceback" not in str(composer.sent)
    assert composer.answer is None
    with pytest.raises(RuntimeError, match="The engine stopped"):
        composer.ask_now("describe")
    composer._ask = says_cat
    assert composer.ask_now("describe").text == "A cat."
    assert composer.reply["status"] == "done"


def test_an_error_without_words_is_shown_by_its_name() -> None:
    def silent(
        image: Image.Image, question: str, /, *, on_text: Callable[[str], None]
    ) -> SimpleNamespace:
        raise KeyboardInterrupt

    composer = Composer(silent)
    with pytest.raises(KeyboardInterrupt):
        composer.ask_now("describe")
    assert composer.reply["error"] == "KeyboardInterrupt"


def test_while_one_answer_is_on_its_way_the_scene_moves_and_a_second_question_waits() -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(
        image: Image.Image, question: str, /, *, on_text: Callable[[str], None]
    ) -> SimpleNamespace:
        started.set()
        assert go_on.wait(30)
        return SimpleNamespace(text="A cat.")

    composer = Recorded(slow, CAT_AND_PIZZA)
    composer.hears(do="ask", question="What is left of the pizza?")
    assert started.wait(30)
    assert not composer.wait(0)
    composer.hears(do="ask", question="Where is the cat?")
    assert "still on its way" in composer.stage["notice"]
    with pytest.raises(SceneError, match="still on its way"):
        composer.ask_now("describe")
    composer.hears(do="clear")
    assert composer.scene.objects == ()
    go_on.set()
    assert composer.wait(30)
    assert composer.reply["question"] == "What is left of the pizza?"
    assert composer.reply["verdict"] == "Right"  # judged by the scene that was asked about
    assert composer.reply["revision"] != composer.stage["revision"]


@pytest.mark.parametrize(
    ("task", "subject", "complaint"),
    [
        ("draw", None, "'draw' is not one of the 9 tasks"),
        ("left_of", None, "asks about one object"),
        ("where", "unicorn", "'unicorn' came"),
    ],
)
def test_scripted_questions_are_checked(
    composer: Recorded, task: str, subject: str | None, complaint: str
) -> None:
    with pytest.raises(SceneError, match=complaint):
        composer.ask_now(task, subject)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [(" \n ", "The question is empty"), ("why " * 200, "at most 400 characters")],
)
def test_questions_in_own_words_are_checked(
    composer: Recorded, question: str, complaint: str
) -> None:
    with pytest.raises(SceneError, match=complaint):
        composer.ask_words(question)
    composer.hears(do="ask", question=question)
    assert complaint in composer.stage["notice"]
    assert composer.reply["status"] == "idle"


def test_without_a_live_kernel_the_picture_and_a_line_of_text_remain() -> None:
    composer = Composer(says_cat, CAT_AND_PIZZA)
    bundle = composer._repr_mimebundle_()
    assert bundle is not None
    data, _ = bundle
    assert data["text/plain"] == "Scene composer, 140 × 140 pixels: a cat and a pizza."
    assert "application/vnd.jupyter.widget-view+json" in data
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as large:
        small = large.convert("RGB").resize((140, 140), Image.Resampling.NEAREST)
        assert large.size == (140 * SCALE, 140 * SCALE)
    np.testing.assert_array_equal(np.asarray(small), np.asarray(composer.picture()))


def test_a_size_to_start_with() -> None:
    assert Composer(says_cat, height=84, width=168).picture().size == (168, 84)
    with pytest.raises(SceneError, match="at least 52 pixels"):
        Composer(says_cat, height=28, width=28)
