"""Where a sweep's tasks are done: here, one by one, or on the workers of a Dask cluster.

A timing has its machine for itself: it comes when nothing else is left to do, goes to the one
worker of a machine that is labelled for it, and `labkit.bench.sweep.carry_out` waits there until
nobody else is at work.
"""

import logging
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from labkit.base import command, files, hardware
from labkit.base.errors import LaneNotReady, ResultError
from labkit.bench.sweep import Done, Task, carry_out
from labkit.engine.link import link

TIMING = "timing"
"""The label of a machine's one worker that times."""
DEATHS = 3
"""A task that so many workers did not survive is not tried again."""
WAIT_S = 60
"""For a host to join, and for a worker to come where none is left."""


class Here:
    """One task at a time, in this process."""

    def room(self) -> int:
        """How many tasks may go on at once."""
        return 1

    def labels(self) -> list[str]:
        """The labels of all workers; `TIMING` once for each machine."""
        return [TIMING]

    def submit(self, task: Task) -> "Future[Done]":
        """Have a task done."""
        future: Future[Done] = Future()
        future.set_result(carry_out(task))
        return future

    def is_gone(self, raised: BaseException) -> bool:  # noqa: ARG002 - as of a cluster
        """Whether that was raised because nobody is left."""
        return False


class Cluster(Here):
    """The workers of a Dask cluster, as they are at the moment."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.scheduler_info()["workers"].values())

    def room(self) -> int:
        """One task for each thread of a worker."""
        return max(1, sum(int(worker["nthreads"]) for worker in self._workers()))

    def labels(self) -> list[str]:
        """Dask's resources."""
        return [label for worker in self._workers() for label in worker["resources"]]

    def submit(self, task: Task) -> "Future[Done]":
        """Dask gives it to another worker if one dies."""
        label = task.label or (TIMING if task.measure == "time" else "")
        resources = {label: 1} if label else None
        executor = self._client.get_executor(pure=False, resources=resources)
        future: Future[Done] = executor.submit(carry_out, task)
        return future

    def is_gone(self, raised: BaseException) -> bool:
        """As `Here.is_gone`: a minute long, or as long as the cluster's owner waits."""
        from distributed.scheduler import NoValidWorkerError, NoWorkerError

        return isinstance(raised, (NoValidWorkerError, NoWorkerError)) and not self._workers()


@contextmanager
def cluster(
    scheduler: str | None = None,
    *,
    hosts: Sequence[str] = (),
    workers: int | None = None,
    memory_bytes: int = 1,
) -> Iterator[tuple[Cluster, str]]:
    """A cluster to work on, and the address of its pages.

    Parameters
    ----------
    scheduler
        The address of one that runs; None starts one on this computer, for its duration, which
        nothing outside can reach.
    hosts
        The machines that work for it, in place of this one: what `join` takes.
    workers
        Of this computer; None takes as many as there are cores, and memory.
    memory_bytes
        What the largest task takes.

    Raises
    ------
    ResultError
        If Dask is not installed, or nothing answers at the address.
    LaneNotReady
        If a host does not join.
    """
    try:
        import dask
        from distributed import Client, Nanny, Scheduler, SpecCluster
    except ImportError as error:
        raise ResultError(
            f"expected Dask for a sweep on several workers: {error}. "
            "Type: python3 bootstrap.py setup. Or add --serial, which does without"
        ) from error
    settings = {
        "scheduler.allowed-failures": DEATHS - 1,
        "scheduler.no-workers-timeout": f"{WAIT_S} s",
        "nanny.pre-spawn-environ": {},
    }
    here: dict[str, Any] = {"host": "127.0.0.1"}
    worker = here | {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    labels = [{TIMING: 1}, *[{}] * ((workers or _workers(memory_bytes)) - 1)]
    specs = [{"cls": Nanny, "options": worker | {"resources": label}} for label in labels]
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({f"distributed.{k}": v for k, v in settings.items()}))
        if not scheduler:
            started = SpecCluster(
                workers={} if hosts else dict(enumerate(specs)),
                scheduler={
                    "cls": Scheduler,
                    "options": here | {"dashboard_address": "127.0.0.1:0"},
                },
                silence_logs=logging.CRITICAL,
            )
            scheduler = stack.enter_context(started).scheduler_address
        try:
            client = Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ResultError(
                f"expected Dask's scheduler at {scheduler}, got: {error}. "
                "Start one: dask scheduler --host ADDRESS"
            ) from error
        at = Cluster(stack.enter_context(client))
        join(at, hosts, scheduler, stack)
        yield at, client.dashboard_link.replace("/status", "/info/main/workers.html")


def _workers(memory_bytes: int) -> int:
    machine = hardware.describe()
    fit = (machine.memory_available_bytes or memory_bytes) // memory_bytes
    return max(1, min(machine.logical_cores or 1, fit))


def join(at: Cluster, hosts: Sequence[str], scheduler: str, stack: ExitStack) -> None:
    """Start a worker on each host, by ``ssh``; wait until all are there.

    A scheduler obeys whoever reaches it. So nothing listens but on loopback, here and there, and
    ssh carries the rest: as its user has set it up.

    Parameters
    ----------
    hosts
        Each as ``user@host:port``, and after a space the Python that has labkit there, where it is
        not at the same place as here. The worker's label is the host's name.
    """
    folder = stack.enter_context(files.temporary("hosts"))
    joining = []
    for number, line in enumerate(hosts):
        given, _, python = line.strip().partition(" ")
        machine, log = link(given, python.strip() or sys.executable), folder / str(number)
        back, there, near = (_free_port() for _ in range(3))
        words = {
            "listen-address": f"tcp://127.0.0.1:{there}",
            "contact-address": f"tcp://127.0.0.1:{near}",
            "resources": f"{TIMING}=1 {machine.target.rpartition('@')[2]}=1",
            "nthreads": 1,
            "death-timeout": WAIT_S,
        }
        program, *options = machine.argv(
            *(machine.python, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{back}"),
            *("--no-dashboard", *(f"--{name}={value}" for name, value in words.items())),
        )
        carried = [
            "-R",
            f"{back}:{scheduler.rpartition('/')[2]}",
            "-L",
            f"{near}:127.0.0.1:{there}",
        ]
        own = {"ClearAllForwardings": "no", "ControlPath": "none", "ExitOnForwardFailure": "yes"}
        first = [program, *(f"-o{name}={value}" for name, value in own.items()), *carried]
        process = stack.enter_context(command.spawn([*first, *options], log=log))
        stack.callback(command.end, process)
        joining.append((machine, process, log))
    late = time.monotonic() + WAIT_S
    while hosts and len(at.labels()) < 2 * len(hosts):
        for machine, process, log in joining:
            if process.poll() is not None or time.monotonic() > late:
                raise LaneNotReady(machine.why(command.end(process), files.read(log)))
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
