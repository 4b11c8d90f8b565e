"""Benchmark results as one page of HTML that needs nothing else: no network, no script, pictures inside."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from typing import Any

from labkit.base import paths, stats
from labkit.base.errors import ResultError
from labkit.base.show import Picture
from labkit.bench.measure import COMPARISONS
from labkit.bench.results import BenchResult, section

VERDICTS = ("faster", "slower")  # in bold
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1b1f; --soft: #5b5b66; --line: #d5d5dd; --mark: #f3f3f7; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) {
  :root { --back: #17171b; --text: #ececf1; --soft: #a9a9b6; --line: #3b3b45; --mark: #23232a; --warn: #ffc078; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; border-top: 2px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .3rem; }
.soft { color: var(--soft); } .warn { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
td.faster, td.slower { font-weight: 600; }
.medians td { white-space: nowrap; }
figure { margin: 1rem 0; padding: .6rem; background: #fff; border: 1px solid var(--line); border-radius: .4rem; overflow-x: auto; }
figure img { display: block; max-width: 100%; min-width: 40rem; height: auto; margin: 0 auto; }
details { background: var(--mark); padding: .4rem .8rem; border-radius: .4rem; }
summary { cursor: pointer; }
@media print {
  :root { --back: #fff; --text: #000; --soft: #444; --line: #bbb; --mark: #fff; --warn: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .wide, figure { overflow: visible; } figure img { min-width: 0; } .medians td { white-space: normal; }
}
"""


def page(results: Sequence[BenchResult], *, allow_mixed: bool = False) -> str:
    """A page of HTML with the tables and pictures of some results.

    Parameters
    ----------
    results
        From `labkit.bench.results.read` or `labkit.bench.measure.run`.
    allow_mixed
        Whether results of different machines may stand on one page; each machine then has a section of its own, and
        no table and no picture holds rows of two.

    Raises
    ------
    ResultError
        Without a result; if the results are of different machines and that was not asked for.
    """
    if not results:
        raise ResultError("expected at least one result, received none. Measure one: labkit bench")
    machines = list(dict.fromkeys(result.where for result in results))
    if len(machines) > 1 and not allow_mixed:
        listed = "".join(f"\n  {machine}" for machine in machines)
        raise ResultError(
            f"expected results of one machine and lane, received {len(machines)}:{listed}\n"
            "Make a page for each, or add --allow-mixed, which gives each a section of its own"
        )
    body = [
        f"<h1>Benchmark of {_text(', '.join(dict.fromkeys(str(r.model['name']) for r in results)))}</h1>",
        _how_to_read(),
    ]
    for machine in machines:
        short, _, sets = machine.partition("; ")
        body.append(f'<h2>{_text(short)}</h2><p class="soft">{_text(sets)}</p>')
        for result in (r for r in results if r.where == machine):
            body += _result(result)
    body += _published()
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>labkit benchmark</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _how_to_read() -> str:
    return (
        '<p class="soft">Times are medians of pairs of fresh processes, measured in random order. A speed-up above 1 means that the '
        "second side is faster; its interval is a 95 % bootstrap interval of the ratio. "
        f"The verdict is <em>faster</em> or <em>slower</em> only if the whole interval is more than {100 * stats.MARGIN:g} % away from 1; "
        "else it is <em>undecided</em>, which does not mean equal.</p>"
    )


def _table(
    header: Sequence[str], rows: Sequence[Sequence[object]], caption: str, kind: str = "medians"
) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    cells = (
        (
            "".join(
                f'<td class="{_text(c)}">{_text(c)}</td>'
                if c in VERDICTS
                else f"<td>{_text(c)}</td>"
                for c in row
            )
        )
        for row in rows
    )
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    table = f'<table class="{kind}"><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return f'<figure><img alt="{html.escape(picture.alt, quote=True)}" src="data:image/png;base64,{data}"></figure>'


def _result(result: BenchResult) -> list[str]:
    from labkit.bench import figures

    out = [f"<p>{_text(result.what)}</p>", _figure(figures.forest(result.rows))]
    for rows in result.groups():
        told = section(rows)
        words = COMPARISONS.get(told.name, told.name)
        out.append(f"<h3>{_text(told.name)}</h3><p>{_text(words[:1].upper() + words[1:])}.</p>")
        out.append(
            _table(told.header, told.cells, f"{told.name}, medians of {result.plan['pairs']} pairs")
        )
        if told.warnings:
            listed = "".join(f"<li>{_text(warning)}</li>" for warning in told.warnings)
            out.append(
                f'<p class="warn">What makes these values doubtful:</p><ul class="warn">{listed}</ul>'
            )
        out.append(f'<p class="soft">{" ".join(map(_text, told.notes))}</p>')
        out.append(_figure(figures.values(rows)))
        raw = [
            [
                row.part,
                m.side.label,
                m.repeat,
                " ".join(f"{1000 * value:.4g}" for value in m.values_s),
            ]
            for row in rows
            for m in (row.baseline, row.candidate)
        ]
        order = f"Milliseconds a pass, one value for each pair. A is {told.header[2]}, B {told.header[3]}; order: {' '.join(rows[0].order)}"
        table = _table(("part", "side", "passes a value", "values"), raw, order, kind="raw")
        out.append(
            f"<details><summary>Every value of {_text(told.name)}</summary>{table}</details>"
        )
    return out


def published() -> list[dict[str, Any]]:
    """Figures that others have published, as in ``data/published``."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((paths.data_dir() / "published").glob("*.json"))
    ]


def _published() -> list[str]:
    out = ["<h2>Published by others, for reference; not measured here</h2>"]
    for source in published():
        rows = [
            (r["part"], *(f"{r[key]} {r['unit']}" for key in ("baseline", "candidate")))
            for r in source["rows"]
        ]
        out.append(
            _table(
                ("part", source["baseline"], source["candidate"]),
                rows,
                f"{source['publisher']}: {source['title']}",
            )
        )
        about = f"{source['model']}; {source['device']}; {source['prompt_tokens']} prompt tokens. {source['note']}"
        out.append(f'<p class="soft">{_text(about)}</p>')
    return out
