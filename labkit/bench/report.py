"""Benchmark results as one page of HTML that needs nothing else.

No network, no script, pictures inside; the page is ``report.html``, filled in by jinja2.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.base import paths, stats
from labkit.base.errors import ResultError
from labkit.base.show import data_url
from labkit.bench.results import BenchResult
from labkit.bench.rows import section
from labkit.bench.swept import Swept


def page(read: Sequence[BenchResult | Swept], *, allow_mixed: bool = False) -> str:
    """A page of HTML with the tables and pictures of some results, and of sweeps.

    Parameters
    ----------
    read
        From `labkit.bench.swept.read`, or just measured.
    allow_mixed
        Whether results of different machines may stand on one page; each machine then has a section
        of its own, and no table and no picture holds rows of two.

    Raises
    ------
    ResultError
        Without a result; if the results are of different machines and that was not asked for.
    """
    from jinja2 import Template

    from labkit.bench.figures import forest, values

    if not read:
        raise ResultError("expected at least one result, received none. Measure one: labkit bench")
    sweeps = [one for one in read if isinstance(one, Swept)]
    results = [one for one in read if isinstance(one, BenchResult)]
    results += [timing for one in sweeps for timing in one.timings]
    machines = list(dict.fromkeys(result.where for result in results))
    if len(machines) > 1 and not allow_mixed:
        listed = "".join(f"\n  {machine}" for machine in machines)
        raise ResultError(
            f"expected results of one machine and lane, received {len(machines)}:{listed}\n"
            "Make a page for each, or add --allow-mixed, which gives each a section of its own"
        )
    template = Template(
        Path(__file__).with_name("report.html").read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    filled: str = template.render(
        sweeps=sweeps,
        results=results,
        machines=machines,
        margin=f"{100 * stats.MARGIN:g}",
        published=published(),
        section=section,
        forest=forest,
        values=values,
        data_url=data_url,
    )
    return filled


def published() -> list[dict[str, Any]]:
    """Figures that others have published, as in ``data/published``."""
    files = sorted((paths.data_dir() / "published").glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]
