"""Frames that survive anything, and a worker whose crash is an error, not the end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labkit.base.errors import CommandFailed, EngineCrashed, EngineError, EngineTimeout
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane, native
from labkit.engine.protocol import MAGIC, START, ProtocolError, read_frame, write_frame

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLAIN = st.dictionaries(st.text(), JSON, max_size=4)
KINDS = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.floating_dtypes()
    | hnp.complex_number_dtypes()
    | hnp.unicode_string_dtypes(max_len=3)
)
ARRAYS = st.dictionaries(
    st.text(max_size=5),
    hnp.arrays(KINDS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    max_size=3,
)


class Dribble(io.BytesIO):
    """A pipe that gives less than was asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 3) if size and size > 0 else size)


def imports(text: str) -> set[str]:
    """What `-X importtime` names."""
    return {
        line.rpartition("|")[2].strip()
        for line in text.splitlines()
        if line.startswith("import time:")
    }


def framed(**values: Any) -> bytes:
    stream = io.BytesIO()
    write_frame(stream, values)
    return stream.getvalue()


# ---- frames


@settings(max_examples=60)
@given(plain=PLAIN, arrays=ARRAYS)
def test_a_frame_comes_back_as_it_was(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    stream = Dribble(framed(**plain | arrays) + framed(next=1))
    values = read_frame(stream)
    assert values.keys() == {*plain, *arrays}
    for name, array in arrays.items():
        assert (values[name].dtype, values[name].shape) == (array.dtype, array.shape)
        assert values[name].tobytes() == array.tobytes()
    assert all(values[name] == value for name, value in plain.items() if name not in arrays)
    assert read_frame(stream) == {"next": 1}
    with pytest.raises(EOFError):
        read_frame(stream)


def test_orders_of_memory_and_bytes() -> None:
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "strided": np.arange(10)[::-3],
    }
    values = read_frame(io.BytesIO(framed(**arrays)))
    assert all(np.array_equal(values[name], array) for name, array in arrays.items())


@given(junk=st.binary(min_size=8, max_size=300))
def test_noise_is_no_frame(junk: bytes) -> None:
    with pytest.raises((ProtocolError, EOFError)):
        read_frame(io.BytesIO(junk))


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_frame_is_a_frame_or_an_error_of_its_own(place: int, byte: int) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    data = bytearray(framed(op="ask", question="Where?", image=image))
    data[place % len(data)] = byte
    try:
        values = read_frame(io.BytesIO(bytes(data)))
    except (ProtocolError, EOFError):
        return
    assert isinstance(values, dict)


def raw(header: str, arrays: bytes = b"") -> io.BytesIO:
    """A frame of anything."""
    text = header.encode()
    return io.BytesIO(START.pack(MAGIC, len(text), len(arrays)) + text + arrays)


@pytest.mark.parametrize(
    "header",
    ["{}", "[]", "[{}]", "[3, []]", "[{}, [], []]", "[{}, 3]", "3", "nonsense", '[{}, ["a"]]'],
)
def test_headers_that_are_none(header: str) -> None:
    with pytest.raises(ProtocolError, match="expected JSON, then arrays as npy"):
        read_frame(raw(header, b"no array"))


def test_a_frame_that_is_cut_off_is_the_end_of_the_stream() -> None:
    whole = framed(op="x", a=np.zeros(3))
    for length in (0, 3, 8, 20, len(whole) - 1):
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(whole[:length]))


def test_nothing_is_ever_pickled() -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        framed(objects=np.array([object()]))
    pickled = io.BytesIO()
    np.lib.format.write_array(pickled, np.array([{}]), allow_pickle=True)
    with pytest.raises(ProtocolError, match="allow_pickle=False"):
        read_frame(raw('[{}, ["a"]]', pickled.getvalue()))


def test_a_header_of_gigabytes_is_not_waited_for() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        read_frame(io.BytesIO(START.pack(MAGIC, 2**31, 0)))


def test_arrays_of_petabytes_are_the_end_of_the_stream() -> None:
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(START.pack(MAGIC, 7, 2**60) + b"[{},[]]"))


# ---- the worker


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with EngineProcess() as engine:
        yield engine


def test_a_worker_says_who_it_is_and_survives_refusals(engine: EngineProcess) -> None:
    assert engine.machine["mnn"] == "3.6.1"
    assert engine.machine["numpy"] == np.__version__
    assert engine.pid != os.getpid()
    question = {"question": "?", "image_pad": 3, "stop": [], "max_new_tokens": 1}
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("dance", {}, "ValueError: expected one of hello, load_chat, .*received 'dance'"),
        ("__init__", {}, "ValueError: .*received '__init__'"),
        ("send", {}, "ValueError: .*received 'send'"),
        ("forward", {"key": "nothing"}, "KeyError: 'nothing'"),
        ("forward", {}, "TypeError: .*'key'"),
        ("ask", {**question, "positions": "mrope"}, "AttributeError: .*_c_obj"),
    ]
    for op, values, words in refused:
        with pytest.raises(EngineError, match=f"(?s)could not do '{op}': {words}"):
            engine.request(op, **values)
    with pytest.raises(EngineError, match="FileNotFoundError: /nothing"):
        engine.request(
            "load_module",
            file="/nothing",
            key="x",
            inputs=[],
            outputs=[],
            precision="normal",
            memory="low",
            threads=1,
            kleidiai=False,
        )
    assert engine.alive
    assert engine.request("hello") == engine.machine


def test_values_that_cannot_be_sent_are_the_callers_error(engine: EngineProcess) -> None:
    with pytest.raises(TypeError, match="JSON"):
        engine.request("hello", what=object())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        engine.request("hello", what=np.array([object()]))
    assert engine.request("hello") == engine.machine


def test_several_threads_take_turns(engine: EngineProcess) -> None:
    replies: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: replies.append(engine.request("hello"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [engine.machine] * 8


def test_a_crash_in_native_code_is_an_error_with_its_last_words(engine: EngineProcess) -> None:
    os.kill(engine.pid, signal.SIGSEGV)
    with pytest.raises(EngineCrashed, match=r"while doing 'hello' \(killed by SIGSEGV\)"):
        engine.request("hello")
    assert not engine.alive
    with pytest.raises(EngineCrashed):
        engine.request("hello")


def test_a_worker_that_does_not_answer_is_ended(engine: EngineProcess) -> None:
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineTimeout, match="within 1 s"):
        engine.request("hello", timeout_s=1)
    assert not engine.alive


def test_closing_ends_the_worker_and_its_folder_and_may_be_repeated() -> None:
    engine = EngineProcess()
    engine.close()
    engine.close()
    assert not engine.alive
    assert not engine.log.parent.exists()
    with pytest.raises(EngineCrashed):
        engine.request("hello")


STAND_IN = """
import os, sys
from labkit.engine import worker
def hello(self):
    print("native noise")
    os.write(1, b"LK01 more noise on the descriptor of standard output\\n")
    return {"pid": os.getpid()}
def graph(self):
    for number in range(3):
        self.send({"event": "piece", "number": number})
    return {"ops": []}
worker.Worker.hello, worker.Worker.graph = hello, graph
worker.main()
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProcess]:
    """A worker that talks a lot and computes nothing."""
    argv, env = native().worker_command()
    monkeypatch.setattr(Lane, "worker_command", lambda *_: ([argv[0], "-c", STAND_IN], env))
    with EngineProcess() as engine:
        yield engine


def test_what_is_printed_to_stdout_is_the_log_not_the_protocol(stand_in: EngineProcess) -> None:
    assert stand_in.request("hello") == stand_in.machine == {"pid": stand_in.pid}
    log = stand_in.log.read_text()
    assert log.count("more noise on the descriptor") == 2
    assert log.count("native noise") == 2


def test_events_come_in_order_before_the_reply(stand_in: EngineProcess) -> None:
    events: list[dict[str, Any]] = []
    reply = stand_in.request("graph", on_event=events.append)
    assert [event["number"] for event in events] == [0, 1, 2]
    assert reply["ops"] == []


@pytest.mark.parametrize(
    "blow", [ValueError("my own"), OSError("broken pipe"), KeyboardInterrupt()]
)
def test_an_error_of_the_callers_is_not_called_a_crash(
    stand_in: EngineProcess, blow: BaseException
) -> None:
    def on_event(event: dict[str, Any]) -> None:
        raise blow

    with pytest.raises(type(blow)):
        stand_in.request("graph", on_event=on_event)
    assert not stand_in.alive, "a half-read answer would be taken for the next one's"


@pytest.mark.parametrize(
    "script",
    [
        "raise SystemExit(3)",
        "print('hello, I am a shell')",
        "import os; os.write(1, b'LK01' + bytes(200))",
    ],
)
def test_a_worker_that_cannot_start(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(Lane, "worker_command", lambda *_: ([sys.executable, "-c", script], {}))
    with pytest.raises(EngineCrashed, match="while doing 'hello'"):
        EngineProcess()


def test_no_program_for_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "worker_command", lambda *_: (["no-such-python"], {}))
    with pytest.raises(CommandFailed, match="could not be started"):
        EngineProcess()


def test_the_worker_imports_numpy_and_mnn_and_nothing_else(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, env = native().worker_command()
    monkeypatch.setattr(
        Lane, "worker_command", lambda *_: ([argv[0], "-X", "importtime", *argv[1:]], env)
    )
    options = {"threads": 1, "precision": "normal", "memory": "low"}
    with EngineProcess() as engine:
        engine.request("load_chat", directory=str(mini_folder), **options)
        asked = {
            "question": "Is there a cat?",
            "image_pad": 3,
            "stop": [],
            "max_new_tokens": 1,
            "positions": "mrope",
        }
        engine.request("ask", **asked)
        engine.request("graph", file=str(mini_folder / "visual.mnn"))
        log = engine.log.read_text(errors="replace")
    bare = subprocess.run(
        [argv[0], "-X", "importtime", "-c", "import copy"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    own = imports(log) - imports(bare)
    tops = {name.partition(".")[0] for name in own} - set(sys.stdlib_module_names)
    assert tops == {"numpy", "MNN", "labkit", "_mnncengine", "_tools"}
    assert {name for name in own if name.startswith("labkit")} == {
        "labkit",
        "labkit.engine",
        "labkit.engine.graph",
        "labkit.engine.mnn_llm",
        "labkit.engine.protocol",
    }
    assert "MNN.tools.utils.log" not in own, "the one that reports"
