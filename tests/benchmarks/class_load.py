"""A class of real users on JupyterHub: log in, run lessons cell by cell, try to break out.

Not a part of the tests: it makes Unix users, starts the hub as notebooks/workshop/README.md says,
and takes this computer for some minutes. As root, with the hub's packages beside labkit and
configurable-http-proxy on PATH:

    python tests/benchmarks/class_load.py --learners 1 10 30 --json FILE

Learners are named ``labkit-load-NN``; they and their homes are deleted afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat
import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from labkit.base import hardware
from labkit.lessons.prepare import prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPO = Path(__file__).resolve().parents[2]
WORKSHOP = REPO / "notebooks" / "workshop"
LESSONS = ("00_start_here", "03_patch_embeddings")
PORT = 8300
HUB = f"http://127.0.0.1:{PORT}"
NAME = "labkit-load-{:02}"
THINKING_S = (2.0, 12.0)  # between two cells, evenly spread
CELL_S = 300.0


# ---- users and hub


def make_users(count: int, place: Path) -> dict[str, str]:
    """Unix users with passwords of their own, and what the hub wants in its class folder."""
    users = {NAME.format(number): secrets.token_urlsafe(12) for number in range(1, count + 1)}
    for name in users:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
        Path(pwd.getpwnam(name).pw_dir).chmod(0o700)
    lines = "".join(f"{name}:{password}\n" for name, password in users.items())
    subprocess.run(["chpasswd"], input=lines, text=True, check=True)
    (place / "learners.txt").write_text("\n".join(users))
    (place / "hub").mkdir(mode=0o700)
    (place / "board").mkdir()
    (place / "board").chmod(0o3733)
    place.chmod(0o755)
    return users


def remove_users() -> None:
    """End what is left of the users, and delete them; only those that this script makes."""
    for user in pwd.getpwall():
        if re.fullmatch(r"labkit-load-\d+", user.pw_name):
            for process in psutil.process_iter(["uids"]):
                if process.info["uids"] and process.info["uids"].real == user.pw_uid:
                    process.kill()
            subprocess.run(["userdel", "--remove", user.pw_name], capture_output=True, check=False)


def start_hub(place: Path, shared: Path, learners: int) -> subprocess.Popen[bytes]:
    """The hub as the README starts it, on ports of this script's."""
    (place / "shared").symlink_to(shared)
    hub = Path(sys.executable).with_name("jupyterhub")
    environment = {
        **os.environ,
        "LABKIT_CLASS": str(place),
        "LABKIT_LEARNERS": str(learners),
        "LABKIT_PORT": str(PORT),
    }
    for own in ("LABKIT_HOME", "LABKIT_SHARED", "PYTHONPATH"):
        environment.pop(own, None)
    with (place / "hub.log").open("wb") as log:
        return subprocess.Popen(
            [str(hub), "--config", str(WORKSHOP / "jupyterhub_config.py")],
            env=environment,
            cwd=place / "hub",
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


# ---- one learner


class Learner:
    """A browser's part: a session with cookies, a server, a kernel."""

    def __init__(self, name: str, password: str) -> None:
        self.name, self.password = name, password
        self.web = httpx.AsyncClient(base_url=HUB, follow_redirects=True, timeout=300)
        self.cells: list[float] = []
        self.asks: list[float] = []
        self.failures: list[str] = []
        self.begun, self.first_answer_s = time.perf_counter(), None

    @property
    def at(self) -> str:
        """Where this learner's server answers."""
        return f"/user/{self.name}"

    def _xsrf(self, path: str) -> dict[str, str]:
        found = [
            c.value for c in self.web.cookies.jar if c.name == "_xsrf" and path.startswith(c.path)
        ]
        return {"X-XSRFToken": found[-1]} if found else {}

    async def log_in(self) -> None:
        """Through the hub's own page, as a browser does."""
        await self.web.get("/hub/login")
        form = {"username": self.name, "password": self.password}
        token = next(c.value for c in self.web.cookies.jar if c.name == "_xsrf")
        answer = await self.web.post("/hub/login", data={**form, "_xsrf": token})
        if "/hub/login" in str(answer.url):
            raise RuntimeError(f"{self.name} could not log in: {answer.status_code}")
        for _ in range(600):
            answer = await self.web.get("/hub/spawn")  # leads to the lab once the server runs
            if answer.status_code == 200 and answer.url.path.startswith(f"{self.at}/lab"):
                return
            await asyncio.sleep(1)
        raise RuntimeError(f"the server of {self.name} did not start")

    @asynccontextmanager
    async def kernel(self, path: str) -> AsyncIterator[Any]:
        """A kernel of one's own for a notebook, and the websocket to it."""
        await self.web.get(f"{self.at}/lab")  # sets this server's own cookies
        body = {"name": "", "path": path, "type": "notebook", "kernel": {"name": "python3"}}
        sessions, token = f"{self.at}/api/sessions", self._xsrf(f"{self.at}/")
        answer = await self.web.post(sessions, json=body, headers=token)
        answer.raise_for_status()
        cookies = [c for c in self.web.cookies.jar if self.at.startswith(c.path.rstrip("/"))]
        headers = {"Cookie": "; ".join(f"{c.name}={c.value}" for c in cookies), "Origin": HUB}
        kernel = f"{HUB.replace('http', 'ws')}{self.at}/api/kernels/{answer.json()['kernel']['id']}"
        request = HTTPRequest(f"{kernel}/channels", headers=headers, request_timeout=120)
        channel = await websocket_connect(request, max_message_size=2**30)
        try:
            yield channel
        finally:
            channel.close()
            await self.web.delete(f"{sessions}/{answer.json()['id']}", headers=token)

    async def run(self, channel: Any, code: str) -> tuple[float, str]:
        """Execute a cell: the seconds that it took, and its error."""
        message, error = secrets.token_hex(8), ""
        header = {"msg_id": message, "msg_type": "execute_request", "session": self.name}
        header |= {"username": self.name, "version": "5.4"}
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        began = time.perf_counter()
        await channel.write_message(json.dumps({**request, "channel": "shell"}))
        while True:
            text = await asyncio.wait_for(channel.read_message(), CELL_S)
            if text is None:
                raise RuntimeError("the kernel's websocket was closed")
            if isinstance(text, bytes):
                continue  # pictures of widgets
            answer = json.loads(text)
            if answer["parent_header"].get("msg_id") == message:
                content = answer["content"]
                if answer["msg_type"] == "error":
                    error = f"{content['ename']}: {content['evalue']}"[:200]
                if content.get("execution_state") == "idle":
                    return time.perf_counter() - began, error

    async def lesson(self, name: str, *, thinking: bool) -> None:
        """Run every cell of a lesson."""
        book = nbformat.read(REPO / "notebooks" / f"{name}.ipynb", as_version=4)
        cells = [c.source for c in book.cells if c.cell_type == "code" and c.source.strip()]
        async with self.kernel(f"{name}.ipynb") as channel:
            for code in cells:
                if thinking:
                    await asyncio.sleep(random.uniform(*THINKING_S))
                try:
                    took, error = await self.run(channel, code)
                except TimeoutError:
                    took, error = CELL_S, f"no end of: {code.splitlines()[-1]}"
                self.cells.append(took)
                if "model.ask(" in code:
                    self.asks.append(took)
                    if self.first_answer_s is None:
                        self.first_answer_s = time.perf_counter() - self.begun
                if error:
                    self.failures.append(f"{name}: {error}")


async def learn(learner: Learner, *, thinking: bool) -> None:
    """One learner's hour; a failure is noted and does not stop the others."""
    try:
        await learner.log_in()
        for lesson in LESSONS:
            await learner.lesson(lesson, thinking=thinking)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure to count
        learner.failures.append(f"{type(error).__name__}: {error}"[:300])


# ---- what is measured


def memory(names: set[str]) -> tuple[float, dict[str, float]]:
    """GiB that learners' processes hold for themselves and by parts (PSS), in all and each."""
    uids = {pwd.getpwnam(name).pw_uid: name for name in names}
    held = dict.fromkeys(names, 0.0)
    for process in psutil.process_iter(["uids"]):
        try:
            if process.info["uids"] and (name := uids.get(process.info["uids"].real)):
                held[name] += process.memory_full_info().pss / 2**30
        except psutil.Error:
            continue
    return sum(held.values()), held


async def watch(names: set[str], over: asyncio.Event, peaks: dict[str, float]) -> None:
    """Read the memory until it is over, and keep the most."""
    while not over.is_set():
        total, each = await asyncio.to_thread(memory, names)
        peaks["total"] = max(peaks.get("total", 0.0), total)
        peaks["learner"] = max(peaks.get("learner", 0.0), *each.values())
        await asyncio.sleep(5)


def quantile(values: list[float], share: float) -> float | None:
    """A quantile, as measured; None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


async def trial(users: dict[str, str], *, thinking: bool) -> dict[str, Any]:
    """All of them at once; what came out."""
    learners = [Learner(name, password) for name, password in users.items()]
    over, begun = asyncio.Event(), time.perf_counter()
    peaks: dict[str, float] = {}
    watching = asyncio.create_task(watch(set(users), over, peaks))
    await asyncio.gather(*(learn(one, thinking=thinking) for one in learners))
    over.set()
    await watching
    cells = [took for one in learners for took in one.cells]
    asks = [took for one in learners for took in one.asks]
    first = [one.first_answer_s for one in learners if one.first_answer_s]
    for one in learners:
        await one.web.aclose()
    return {
        "learners": len(learners),
        "thinking": thinking,
        "cells": len(cells),
        "failures": [failure for one in learners for failure in one.failures],
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "first_answer_p50_s": quantile(first, 0.5),
        "first_answer_p95_s": quantile(first, 0.95),
        "cell_p50_s": quantile(cells, 0.5),
        "cell_p95_s": quantile(cells, 0.95),
        "ask_p50_s": quantile(asks, 0.5),
        "ask_p95_s": quantile(asks, 0.95),
        "learner_gib": round(peaks.get("learner", 0), 2),
        "total_gib": round(peaks.get("total", 0), 1),
    }


# ---- isolation

BREAKOUTS = {
    "read another's home": "import os; os.listdir({home!r})",
    "read another's progress": "open({home!r} + '/.local/share/labkit/progress/progress.json')",
    "read the hub's cookie secret": "open({place!r} + '/hub/cookie_secret', 'rb')",
    "list the board": "import os; os.listdir({place!r} + '/board')",
    "write to the shared models": "open({place!r} + '/shared/shared.json', 'a')",
    "remove a shared model": "import shutil; shutil.rmtree({place!r} + '/shared/cache')",
    "become root": "import os; os.setuid(0)",
    "more memory than allowed": "bytearray(8 * 2**30)",
    "read another's server's environment": "open('/proc/{pid}/environ').read()",
}


async def break_out(users: dict[str, str], place: Path) -> dict[str, str]:
    """What the first learner can do to the second, from a kernel and from a browser."""
    (first, password), (second, other) = list(users.items())[:2]
    one, two = Learner(first, password), Learner(second, other)
    await one.log_in()
    await two.log_in()
    uid = pwd.getpwnam(second).pw_uid
    pid = next(p.pid for p in psutil.process_iter(["uids"]) if p.info["uids"].real == uid)
    where = {"home": pwd.getpwnam(second).pw_dir, "place": str(place), "pid": pid}
    outcomes = {}
    async with one.kernel("00_start_here.ipynb") as channel:
        for what, code in BREAKOUTS.items():
            _, error = await one.run(channel, code.format(**where))
            outcomes[what] = error.partition(": '")[0].rstrip(": ") or "WENT THROUGH"
    for what, path in {
        "another's server": f"/user/{second}/api/contents",
        "another's kernels": f"/user/{second}/api/kernels",
        "the list of users": "/hub/api/users",
        "another's token": f"/hub/api/users/{second}/tokens",
        "the hub's services": "/hub/api/services",
    }.items():
        answer = await one.web.get(path)
        refused = answer.status_code in {403, 404} or "/hub/login" in str(answer.url)
        outcomes[what] = (
            f"HTTP {answer.status_code}" if refused else f"WENT THROUGH: {answer.text[:80]}"
        )
    await one.web.aclose()
    await two.web.aclose()
    return outcomes


def main() -> None:
    """Print and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 10, 30])
    parser.add_argument("--shared", type=Path, required=True, help="what `labkit prepare` made")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--calm", action="store_true", help="leave out all of them at once")
    args = parser.parse_args()
    if os.geteuid():
        parser.error("expected root: it makes Unix users")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the hub and the users go along
    plan = [(count, True) for count in args.learners]
    plan += [] if args.calm else [(max(args.learners), False)]
    made = prepared(args.shared)
    remove_users()
    results: dict[str, Any] = {
        "machine": hardware.describe().cpu,
        "cores": hardware.usable_cores(),
        "labkit": made.labkit,
        "trials": [],
    }
    with tempfile.TemporaryDirectory(prefix="labkit-class-") as folder:
        for count, thinking in plan:
            place = Path(folder) / f"{count}-{thinking}"
            place.parent.chmod(0o755)
            place.mkdir()
            users = make_users(max(count, 2), place)
            hub = start_hub(place, args.shared.absolute(), count)
            try:
                wait_for_hub(hub, place)
                if not results.get("isolation"):
                    results["isolation"] = asyncio.run(break_out(users, place))
                    print(json.dumps(results["isolation"], indent=1), flush=True)
                chosen = dict(list(users.items())[:count])
                results["trials"].append(asyncio.run(trial(chosen, thinking=thinking)))
                print(json.dumps(results["trials"][-1], indent=1), flush=True)
                if args.json:
                    args.json.write_text(json.dumps(results, indent=1) + "\n")
            finally:
                hub.terminate()
                hub.wait(60)
                remove_users()


def wait_for_hub(hub: subprocess.Popen[bytes], place: Path) -> None:
    """Until the hub answers; its last words if it does not."""
    for _ in range(120):
        try:
            httpx.get(f"{HUB}/hub/api/", timeout=5).raise_for_status()
        except httpx.HTTPError:
            if hub.poll() is not None:
                break
            time.sleep(1)
        else:
            return
    raise SystemExit("the hub does not answer:\n" + (place / "hub.log").read_text()[-3000:])


if __name__ == "__main__":
    main()
