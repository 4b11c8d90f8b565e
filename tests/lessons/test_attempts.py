"""A learner's function, whatever it does, becomes an answer or a diagnosis."""

from __future__ import annotations

import re
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from learner import written

from labkit.lessons import exercise
from labkit.lessons.catalogue import EXERCISES
from labkit.lessons.diagnosis import Diagnosis, Untried
from labkit.lessons.exercise import Attempt, is_empty


def test_an_exception_names_itself_and_the_learners_line() -> None:
    answer = written(
        "def helper(x):\n    return x / 0\n\ndef answer(x):\n    y = x + 1\n    return helper(y)\n"
    )
    with pytest.raises(Diagnosis) as caught:
        Attempt(answer, "answer(x)")(3)
    assert caught.value.text == (
        "`answer(3)` stopped with `ZeroDivisionError`: division by zero, "
        "in line 2 of your cell: `return x / 0`."
    )


def test_an_exception_inside_numpy_points_at_the_learners_line() -> None:
    answer = written(
        "def answer(x):\n    y = x + 1\n"
        "    return np.zeros(2).reshape(7, 7) + np.linalg.inv(np.zeros((2, 3)))\n"
    )
    with pytest.raises(Diagnosis, match=r"`ValueError`.*in line 3 of your cell: `return np\.zeros"):
        Attempt(answer, "answer(x)")(3)
    answer = written("def answer(x):\n    return np.linalg.inv(np.zeros((2, 3)))\n")
    with pytest.raises(Diagnosis, match=r"`LinAlgError`.*in line 2 of your cell"):
        Attempt(answer, "answer(x)")(3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise ValueError", "`ValueError`, in line 2"),
        ("raise ValueError('first\\nsecond')", "`ValueError`: first, in line 2"),
        ("raise KeyError(object())", "0x…"),
        ("raise SystemExit(3)", "`SystemExit`"),
        ("exit()", "`SystemExit`|`NameError`"),
        ("return answer(x)", "`RecursionError`"),
        ("assert x == 4, 'no'", "`AssertionError`: no"),
        ("return missing", "`NameError`: name 'missing' is not defined"),
        ("raise BaseException('odd')", "`BaseException`: odd"),
    ],
)
def test_whatever_is_raised_becomes_a_diagnosis(body: str, expected: str) -> None:
    answer = written(f"def answer(x):\n    {body}\n")
    with pytest.raises(Diagnosis, match=expected) as caught:
        Attempt(answer, "answer(x)")(3)
    assert caught.value.kind == "raised"
    assert not re.search(r"0x[0-9a-f]{4}", caught.value.text)


def test_the_stop_button_ends_in_a_diagnosis() -> None:
    answer = written("def answer(x):\n    raise KeyboardInterrupt\n")
    with pytest.raises(
        Diagnosis, match=r"You stopped it: `answer\(3\)` had not returned"
    ) as caught:
        Attempt(answer, "answer(x)")(3)
    assert caught.value.kind == "endless"


@pytest.mark.parametrize(
    "body",
    [
        "while True: x += 1",
        "while True:\n        try: x += 1\n        except Exception: pass",
        "while True:\n        with contextlib.suppress(ValueError): x += 1",
    ],
)
def test_an_endless_loop_ends_by_itself(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "LIMIT_S", 0.2)
    answer = written(f"import contextlib\ndef answer(x):\n    {body}\n")
    with pytest.raises(Diagnosis, match="A loop ends when its condition becomes false") as caught:
        Attempt(answer, "answer(x)")(3)
    assert caught.value.kind == "endless"
    assert "You stopped it" not in caught.value.text


def test_a_time_limit_gives_an_alarm_back_to_whom_it_belongs() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with exercise.time_limit(5):
            pass
        deadline = time.monotonic() + 5
        while not rung and time.monotonic() < deadline:
            time.sleep(0.01)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *left)


def test_beside_the_main_thread_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "LIMIT_S", 0.05)
    answer = written("import time\ndef answer(x):\n    time.sleep(0.2)\n    return x\n")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(Attempt(answer, "answer(x)")(3)))
    thread.start()
    thread.join()
    assert answers == [3]


def test_parameters_are_checked_before_the_call() -> None:
    with pytest.raises(
        Diagnosis, match=r"called as `answer\(x, y\)`, received one with the parameters `\(x\)`"
    ):
        Attempt(lambda x: x, "answer(x, y)")(1, 2)
    assert Attempt(lambda *anything: 7, "answer(x, y)")(1, 2) == 7
    assert Attempt(max, "answer(x, y)")(1, 2) == 2  # tells no signature


def test_not_implemented_later_is_a_diagnosis() -> None:
    attempt = Attempt(
        written(
            "def answer(x):\n    if x == 1:\n        return 1\n    raise NotImplementedError\n"
        ),
        "answer(x)",
    )
    assert attempt(1) == 1
    with pytest.raises(Diagnosis, match="NotImplementedError"):
        attempt(2)
    attempt = Attempt(written("def answer(x):\n    if x == 1:\n        return 1\n"), "answer(x)")
    assert attempt(1) == 1
    with pytest.raises(Diagnosis, match="Does every branch"):
        attempt(2)
    with pytest.raises(Untried):
        Attempt(written("def answer(x):\n    raise NotImplementedError\n"), "answer(x)")(1)


def test_a_learner_cannot_change_our_data() -> None:
    block = np.arange(4.0)
    Attempt(written("def answer(x):\n    x[:] = 0\n    return 1\n"), "answer(x)")(block)
    assert block.tolist() == [0, 1, 2, 3]


def test_warnings_are_kept_and_not_shown() -> None:
    attempt = Attempt(
        written("def answer(x):\n    return np.float64(x) / np.float64(0)\n"), "answer(x)"
    )
    attempt(1)  # pytest turns a warning that gets out into a failure
    assert any("divide" in warning for warning in attempt.warnings)


def test_empty_bodies_are_recognised() -> None:
    for body in ("...", "pass", "'''text'''", "'''text'''\n    ...", "return None", "return ..."):
        assert is_empty(written(f"def answer(x):\n    {body}\n")), body
    for body in ("y = x", "return x", "print(x)"):
        assert not is_empty(written(f"def answer(x):\n    {body}\n")), body
    assert not is_empty(max)


def test_a_judge_never_raises() -> None:
    def broken(attempt: Attempt) -> None:
        raise RuntimeError("a fault of ours")

    verdict = replace(EXERCISES["00.1"], examine=broken).judge(max)
    assert (verdict.status, verdict.kind) == ("wrong", "unreadable")


@pytest.mark.parametrize("name", ["__str__", "__class__", "__eq__", "__len__", "__array__"])
@pytest.mark.parametrize("number", ["00.1", "02.1", "03.1"])
def test_an_answer_cannot_end_the_kernel_when_it_is_looked_at(name: str, number: str) -> None:
    def leave(*_: object) -> None:
        raise SystemExit

    hostile = type("Answer", (), {name: property(leave) if name == "__class__" else leave})
    verdict = EXERCISES[number].judge(lambda *_: hostile())
    assert verdict.status == "wrong"


def test_a_usual_mistake_must_explain_every_answer() -> None:
    mistakes = {
        "double": ("return 2 * x", "You double."),
        "other": ("return 0", "For {x} you give {answer}."),
        "float": ("return x / 1", ""),
    }
    attempt = Attempt(max, "answer(x)", mistakes)
    cases = [(1,), (2,), (3,)]
    with pytest.raises(Diagnosis, match="You double") as caught:
        attempt.misses(cases, [2, 4, 6], [1, 2, 3])
    assert caught.value.kind == "double"
    assert attempt.misses(cases, [2, 4, 7], [1, 2, 3]) == [((1,), 2, 1), ((2,), 4, 2), ((3,), 7, 3)]
    assert attempt.misses(cases, [0, 2, 0], [1, 2, 3]) == [((1,), 0, 1), ((3,), 0, 3)]
    assert attempt.misses(cases, [2, 4, 6], [2, 4, 6]) == []  # right answers are never a mistake
    assert str(attempt.wrong("other", x=1, answer=0)) == "For 1 you give 0."
