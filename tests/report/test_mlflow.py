"""What MLflow's own client reads back from an exported study, and that a second export doubles nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from made_study import FINISHED, INTERRUPTED, make_study

from tuner.errors import RunError, UsageError
from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.report import mlflow as tracker

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is an extra: pip install -e '.[dev]'")
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


class Judged(Results):
    """A study that has a verdict."""

    def findings(self) -> Findings:
        return Findings("too few images", "Too few images to tell.", (), "validation", 20, 5, 0.02)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One SQLite store for the module: making its tables takes seconds."""
    before = dict(os.environ)
    yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    os.environ.clear()
    os.environ.update(before)


def kept(uri: str, study: str) -> dict[str, Any]:
    """The study's runs by configuration, "" is the parent; a run that is there twice fails here."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(tracker.EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`tlstudy.study` = '{study}'", max_results=500)
    found = {run.data.tags.get("tlstudy.configuration", ""): run for run in runs}
    assert len(found) == len(runs)
    return found


def histories(uri: str, runs: dict[str, Any]) -> dict[tuple[str, str], list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    return {
        (id, name): sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for id, run in runs.items()
        for name in METRICS
        if id
    }


@needs_mlflow
def test_one_run_a_configuration_and_nothing_twice_whatever_was_there(uri: str, tmp_path: Path) -> None:
    half = Results.open(make_study(tmp_path / "half", INTERRUPTED))
    whole = Judged.open(make_study(tmp_path / "whole", FINISHED))
    tracker.export(half, "mine", uri)
    before = kept(uri, "mine")
    assert set(before) == {"", *half.configurations()["id"]}
    assert before[""].info.status == "KILLED"
    for _ in range(2):
        assert tracker.export(whole, "mine", uri) == len(whole.configurations())
    runs = kept(uri, "mine")
    assert {id: run.info.run_id for id, run in runs.items() if id in before} == {
        id: run.info.run_id for id, run in before.items()
    }
    epochs, read = whole.epochs(), histories(uri, runs)
    for row in whole.configurations().to_dict(orient="records"):
        run, here = runs[row["id"]], epochs[epochs["configuration"] == row["id"]]
        for name in METRICS:
            known = here[here[name].notna()].sort_values("epoch")
            assert read[row["id"], name] == list(zip(known["epoch"], known[name], strict=True))
        assert float(run.data.params["learning_rate"]) == row["learning_rate"]
        assert int(run.data.params["unfrozen_layers"]) == row["unfrozen_layers"]
        assert run.data.tags["tlstudy.kind"] == row["kind"]
        assert run.data.tags["mlflow.parentRunId"] == runs[""].info.run_id
        assert run.info.status == tracker.STATUS[row["status"]]
        if row["val_loss"] == row["val_loss"]:
            assert run.data.metrics["best_val_loss"] == row["val_loss"]
            assert run.data.metrics["best_epoch"] == row["best_epoch"]
    tags = runs[""].data.tags
    winner = whole.winner()
    assert winner is not None
    assert (tags["tlstudy.kind"], tags["tlstudy.state"]) == ("study", "finished")
    assert tags["tlstudy.winner"] == winner["id"]
    assert (tags["tlstudy.verdict"], tags["mlflow.note.content"]) == ("too few images", "Too few images to tell.")
    assert runs[""].info.status == "FINISHED"


@needs_mlflow
def test_an_export_that_was_cut_off_is_completed(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    results = Results.open(make_study(tmp_path / "study", INTERRUPTED))
    calls = 0
    log = MlflowClient.log_batch

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise OSError(28, "No space left on device")
        return log(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", failing)
        with pytest.raises(RunError, match=r"(?s)No space left.*tlstudy report --mlflow"):
            tracker.export(results, "cut", uri)
    tracker.export(results, "cut", uri)
    runs = kept(uri, "cut")
    epochs = results.epochs()
    assert set(runs) == {"", *results.configurations()["id"]}
    for (id, name), history in histories(uri, runs).items():
        known = epochs[(epochs["configuration"] == id) & epochs[name].notna()]
        assert [step for step, _ in history] == sorted(known["epoch"])


@needs_mlflow
def test_a_server_that_is_not_there_is_one_message_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError) as told:
        tracker.export(Results.open(make_study(tmp_path)), "mine", "http://me:secret@127.0.0.1:9")
    assert str(told.value).startswith("MLflow at http://***@127.0.0.1:9: ")
    assert "secret" not in str(told.value)


@needs_mlflow
def test_mlflow_reports_nothing_to_its_makers_unless_asked_to() -> None:
    tracker.export  # noqa: B018 - the tests above have imported MLflow through it
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'tlstudy\[mlflow\]'"):
        tracker.check("sqlite:///mlflow.db")


def test_no_address_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="--mlflow: found no address, expected one such as sqlite:///mlflow.db"):
        tracker.check(" ")
