"""``labkit sweep``: a table of conversions, machines and measures, on many workers."""

from contextlib import ExitStack
from pathlib import Path

from labkit.cli.shared import progress, say, show


def sweep(
    plan: Path,
    *,
    scheduler: str | None = None,
    hosts: Path | None = None,
    workers: int | None = None,
    serial: bool = False,
    out: Path | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Measure every combination that a plan names, and print the table; 1 if a task failed.

    Parameters
    ----------
    plan
        a TOML file
    scheduler : ADDRESS
        a Dask cluster that runs (default: one on this computer, for as long as it takes)
    hosts : FILE
        machines that work in place of this one, a line each: user@host:port, and after a space the
        Python that has labkit there; over ssh
    workers
        of the cluster that is started (default: as cores and memory allow)
    serial
        without Dask, one task after the other
    out : FILE
        the result's file; must not exist yet
    json
        print the result as JSON

    Notes
    -----
    A plan's lines are axes, each with one value or a list; every combination is measured:
      checkpoint = ["mini"]           as `labkit fetch` shows them, or folders
      weight_bits = [16, 8, 4]        and the other options of `labkit convert`
      machine = ["native"]            lanes, or labels of Dask's workers (--resources LABEL=1)
      measure = ["size", "score", "drift", "time"]
      scenes = 300                    for the score
      pairs = 9                       for the time, against the first conversion
      [[leave_out]]                   combinations to leave out, as often as needed
      weight_bits = [16]
    What was measured is kept; stopped, the same command goes on where it was.
    Workers convert what they need, each machine for itself, in its cache.
    With bokeh installed, Dask's dashboard stands beside the page that is shown, under /status.
    """
    from labkit.base.errors import ResultError
    from labkit.base.records import to_json
    from labkit.bench import fleet, results, spread, swept
    from labkit.bench import sweep as sweeping

    if out:
        results.require_free(out)
    chosen, at = sweeping.read_plan(plan), fleet.Here()
    named = [line for line in hosts.read_text().splitlines() if line.strip()] if hosts else []
    if hosts and not named:
        raise ResultError(f"expected machines in {hosts}, one a line, found none")
    elsewhere = scheduler or hosts
    todo = [] if elsewhere else sweeping.tasks(chosen)  # what is wrong with it is told at once
    with ExitStack() as stack:
        if elsewhere or not (serial or dry_run or all(map(spread.kept, todo))):
            opened = fleet.cluster(
                scheduler,
                hosts=named,
                workers=workers,
                memory_bytes=sweeping.memory_bytes(chosen),
            )
            at, page = stack.enter_context(opened)
            say(f"{at.room()} workers; watch them at {page}")
            todo = sweeping.tasks(chosen, at.labels())
        if dry_run:
            print(spread.preview(todo))
            return 0
        with progress("tasks") as on_step:
            done = spread.run(todo, at, on_step=on_step, on_words=say)
    found = swept.put_together(chosen, done)
    show(json, found, found)
    if out:
        results.write(out, to_json(found))
        say(f"{out}: as a page: labkit report {out} --out page.html")
    return int(bool(found.failed))
