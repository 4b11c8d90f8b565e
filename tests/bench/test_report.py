"""The report page: needs nothing else, never mixes machines, or what others have published."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.base.errors import ResultError
from labkit.bench import measure, report, results
from labkit.bench.plan import BenchPlan
from labkit.bench.results import BenchResult


@pytest.fixture(scope="module")
def result(mini_folder: Path) -> BenchResult:
    return measure.run(BenchPlan(model=mini_folder, comparisons=("quantised",), parts=("decode",)))


def test_a_page_needs_nothing_else_and_names_machine_verdict_and_interval(
    result: BenchResult,
) -> None:
    page = report.page([result])
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", page) == []
    assert "<script" not in page
    (row,) = result.rows
    assert row.ratio.verdict in page
    assert str(row.ratio) in page
    assert str(result.machine["cpu"]) in page
    assert re.findall(r"<img[^>]*alt=\"[^\"]{20,}", page)


def test_published_figures_stand_apart_and_are_called_one_run(result: BenchResult) -> None:
    page = report.page([result])
    assert "5.76" in page
    assert "one run" in page.lower()
    for table in re.findall(r"(?s)<table.*?</table>", page):
        assert not ("5.76" in table and result.rows[0].candidate.side.label in table)


def test_what_is_written_on_a_page_is_text_and_verdicts_are_marked(result: BenchResult) -> None:
    (row,) = result.rows
    twice = replace(row.candidate, values_s=tuple(v / 2 for v in row.baseline.values_s))
    doubtful = replace(row, candidate=twice, warnings=("busy <machine> & more",))
    page = report.page([replace(result, rows=(doubtful,))])
    assert "busy &lt;machine&gt; &amp; more" in page
    assert '<td class="faster">faster</td>' in page


def test_two_machines_are_not_mixed_silently(result: BenchResult) -> None:
    other = replace(result, machine={**result.machine, "cpu": "Another CPU"})
    with pytest.raises(ResultError, match="allow"):
        report.page([result, other])
    page = report.page([result, other], allow_mixed=True)
    assert "Another CPU" in page
    assert report.page([result, result])


def test_a_result_comes_back_from_its_file(result: BenchResult, tmp_path: Path) -> None:
    path = results.save(result, tmp_path / "result.json")
    assert results.read(path) == result
    assert len(json.loads(path.read_text())["rows"][0]["baseline"]["values_s"]) == 9
