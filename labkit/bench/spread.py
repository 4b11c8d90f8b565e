"""A sweep's tasks, spread over a fleet: in order, each outcome kept as soon as it is there.

So a sweep that was stopped goes on where it was.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from pathlib import Path

from labkit.base import files, paths
from labkit.base.errors import ResultError
from labkit.base.records import from_json, to_json
from labkit.base.show import Table
from labkit.bench.fleet import TIMING, Here
from labkit.bench.sweep import Done, Task


def run(
    todo: Sequence[Task],
    fleet: Here,
    *,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
    on_words: Callable[[str], object] = lambda _: None,
) -> list[Done]:
    """Do what is not kept; outcomes in the order of the tasks. Each is kept as soon as it is there.

    Parameters
    ----------
    on_step
        Called with (tasks done, tasks in all, the last one), conversions among them.
    on_words
        Told of each task that failed.

    Raises
    ------
    ResultError
        If it is not clear which machine is to be timed, or no worker is left.
    """
    done = {task.key: one for task in todo if (one := kept(task))}
    ahead = in_order([task for task in todo if task.key not in done])
    machines = fleet.labels().count(TIMING)
    if machines != 1 and any(task.measure == "time" and not task.label for task in ahead):
        raise ResultError(
            f"expected one machine that times, found {machines} workers with the label {TIMING!r}. "
            "Start one so: dask worker ADDRESS --nthreads 1 --resources timing=1. If there are "
            'several, give them labels and name these in the plan: machine = ["LABEL"]'
        )
    total = len(ahead)
    on_step(0, total, "")
    for number, one in enumerate(outcomes(ahead, fleet), 1):
        if one.error:
            on_words(f"failed: {one.task}: {one.error}")
        elif one.task.measure != "convert":
            keep(one)
        done[one.task.key] = one
        on_step(number, total, str(one.task))
    return [done[task.key] for task in todo]


def preview(todo: Sequence[Task]) -> Table:
    """The tasks, and whether their outcomes are kept."""
    return Table(("task", ""), [(task, "kept" if kept(task) else "to do") for task in todo])


def in_order(todo: Sequence[Task]) -> list[Task]:
    """Before the first task of a conversion, the conversion; timings last."""
    ordered = sorted(todo, key=lambda task: task.measure == "time")
    before = {task.conversion.key: task.conversion for task in ordered}
    return [
        one
        for task in ordered
        for one in (before.pop(task.conversion.key, None), task)
        if one is not None
    ]


def outcomes(tasks: Sequence[Task], fleet: Here) -> Iterator[Done]:
    """Each outcome as it comes; `ResultError` once nobody is left."""
    ahead, failed = list(tasks), dict[str, str]()
    running: dict[Future[Done], Task] = {}
    while ahead or running:
        room = fleet.room() - len(running)
        for task in list(ahead):
            if error := failed.get(task.conversion.key):
                ahead.remove(task)
                yield Done(task=task, value={}, error=error)
            elif room > 0 and _may_start(task, [*ahead, *running.values()]):
                ahead.remove(task)
                running[fleet.submit(task)] = task
                room -= 1
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task, raised = running.pop(future), future.exception()
            if raised and fleet.is_gone(raised):
                raise ResultError(
                    f"no worker is left: {raised} What was measured is kept. See to the machines "
                    "and type the same again"
                )
            one = Done(task=task, value={}, error=str(raised)) if raised else future.result()
            if one.error and task.measure == "convert":
                failed[task.key] = one.error
            yield one


def _may_start(task: Task, unfinished: Sequence[Task]) -> bool:
    """A conversion comes before what needs it, timings come after everything else."""
    if task.measure == "time":
        return all(one.measure == "time" for one in unfinished)
    if task.measure == "convert":
        return True
    return all(one.key != task.conversion.key for one in unfinished)


def kept(task: Task) -> Done | None:
    """The outcome of a task that was done before; None if there is none."""
    with suppress(OSError, ValueError):
        return from_json(Done, _file(task).read_bytes())
    return None


def keep(done: Done) -> None:
    """Keep an outcome; on a full disk it is not, that is all."""
    with suppress(OSError):
        files.write(_file(done.task), to_json(done))


def _file(task: Task) -> Path:
    return paths.place("cache") / "sweeps" / f"{task.key}.json"
