"""Reading a study and reporting it is work in proportion to its images and configurations: calls are counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_study import FINISHED, make_study

from tuner.evidence.results import Results
from tuner.report import page, progress, tables
from tuner.report.landscape import spread
from tuner.store import store as stores
from tuner.store.store import Bracket, Store

SIZES = (1, 3, 5)


def study(folder: Path, times: int) -> Path:
    """A thousand images and twenty-five configurations, so many times."""
    plan = (Bracket(0, 1, (21 * times, 7 * times), (1, 3)),)
    return make_study(
        folder, replace(FINISHED, train=950 * times, validation=50 * times, baseline=4 * times, plan=plan)
    )


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [study(tmp_path_factory.mktemp("work"), times) for times in SIZES]


def everything(database: Path) -> None:
    """All that `tlstudy report` shows but its drawn figures."""
    results = Results.open(database)
    findings, importance = results.findings(), results.importance()
    assert findings.selection is not None and not importance.empty
    tables.report(results, findings=findings, importance=importance)
    page.page(results, database.parent, findings=findings, importance=importance)
    results.to_json()
    results.runs()


def calls(function: Callable[..., Any], *arguments: Any) -> int:
    """How many functions, of Python or C, it calls; a resumed generator counts too."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_each_further_image_and_configuration_is_as_much_work_as_the_ones_before(databases: list[Path]) -> None:
    everything(databases[0])  # imports and caches
    small, middle, large = (calls(everything, database) for database in databases)
    assert large - middle < 1.1 * (middle - small), "a term that is quadratic doubles"


def test_points_that_cover_each_other_are_not_compared_in_pairs() -> None:
    def crowd(n: int) -> list[float]:
        return spread([0.0] * n, [0.001 * i for i in range(n)], near=1.0)

    assert calls(crowd, 2000) < 2.5 * calls(crowd, 1000)


def test_the_number_of_queries_does_not_depend_on_what_a_study_holds(
    databases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, queries = stores.connect_readonly, []

    def traced(path: Path) -> Any:
        connection = connect(path)
        connection.set_trace_callback(queries.append)
        return connection

    monkeypatch.setattr(stores, "connect_readonly", traced)
    counts = []
    for database in databases[:2]:
        queries.clear()
        everything(database)
        with Store(database, readonly=True) as store:
            assert len(list(progress.earlier(store))) > 50
        counts.append(len(queries))
    assert len(set(counts)) == 1 and counts[0] < 40
