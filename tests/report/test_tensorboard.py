"""What TensorBoard itself reads back from an exported study: curves, hyperparameters, metrics, how each run ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_study import FINISHED, INTERRUPTED, NO_TRIAL_YET, make_study

from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.report import tensorboard

KINDS = {"search", "baseline", "reference"}


class Judged(Results):
    """A study that has a verdict."""

    def findings(self) -> Findings:
        return Findings("no difference", "No difference larger than 2 points.", ("Because.",), "test", 40, 5, 0.02)


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} of one run, as TensorBoard's own accumulator has it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def hparams(folder: Path) -> tuple[Any, Any]:
    """The HParams tab's experiment and its session groups, asked of the plugin's own code."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    provider = MultiplexerDataProvider(events, str(folder))
    context = backend_context.Context(TBContext(data_provider=provider, logdir=str(folder)))
    every = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=list(api_pb2.Status.values()), start_index=0, slice_size=1000
    )
    who = RequestContext()
    experiment = get_experiment.Handler(who, context, "x", api_pb2.GetExperimentRequest()).run()
    return experiment, list_session_groups.Handler(who, context, "x", every).run().session_groups


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.open(make_study(tmp_path_factory.mktemp("made")))


def test_every_configuration_is_a_run_with_each_epoch_once(results: Results, tmp_path: Path) -> None:
    number = tensorboard.export(results, "mine", tmp_path)
    table, epochs = results.configurations(), results.epochs()
    assert number == len(table)
    assert {p.parent.name for p in tmp_path.glob("mine/*/*")} == set(table["id"])
    for id in (*table["id"].head(3), str(results.winner()["id"]), *table[table["status"] == "failed"]["id"]):  # type: ignore[index]
        read = scalars(tmp_path / "mine" / id)
        here = epochs[epochs["configuration"] == id]
        for metric in ("loss", "accuracy", "val_loss", "val_accuracy"):
            known = here[here[metric].notna()]
            assert [step for step, _ in read.get(metric, [])] == list(known["epoch"])
            assert [value for _, value in read.get(metric, [])] == pytest.approx(list(known[metric]))
        row = table[table["id"] == id].iloc[0]
        if here["val_loss"].notna().any():
            assert read["best_val_loss"] == [(row["best_epoch"], pytest.approx(row["val_loss"]))]


def test_the_hparams_tab_has_values_metrics_and_how_each_run_ended(results: Results, tmp_path: Path) -> None:
    tensorboard.export(results, "mine", tmp_path)
    experiment, groups = hparams(tmp_path)
    space = vars(results.study.spec.space)
    assert {info.name for info in experiment.hparam_infos} == {*space, "kind"}
    assert [info.name.tag for info in experiment.metric_infos] == ["best_val_loss", "best_val_accuracy", "best_epoch"]
    rate = next(info for info in experiment.hparam_infos if info.name == "learning_rate")
    rates = results.configurations()["learning_rate"]
    assert rate.domain_interval.min_value <= rates.min() and rates.max() <= rate.domain_interval.max_value
    rows = {row["id"]: row for row in results.configurations().to_dict(orient="records")}
    assert {group.name for group in groups} == set(rows)
    assert {group.hparams["kind"].string_value for group in groups} == KINDS
    for group in groups:
        row, session = rows[group.name], group.sessions[0]
        assert group.hparams["learning_rate"].number_value == pytest.approx(row["learning_rate"])
        assert group.hparams["unfrozen_layers"].number_value == row["unfrozen_layers"]
        values = {m.name.tag: m.value for m in session.metric_values}
        if row["epochs"] and row["val_loss"] == row["val_loss"]:
            assert values["best_val_loss"] == pytest.approx(row["val_loss"])
            assert values["best_val_accuracy"] == pytest.approx(row["val_accuracy"])
        assert session.status == tensorboard.STATUS[row["status"]]
        assert session.start_time_secs <= session.end_time_secs


def test_a_second_export_changes_nothing_and_one_after_a_resume_adds_what_is_new(tmp_path: Path) -> None:
    half = Results.open(make_study(tmp_path / "half", INTERRUPTED))
    whole = Results.open(make_study(tmp_path / "whole", FINISHED))
    tensorboard.export(half, "mine", tmp_path / "out")
    first = written(tmp_path / "out")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*tfevents*")}
    tensorboard.export(half, "mine", tmp_path / "out")
    assert written(tmp_path / "out") == first
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps, "what is the same is not touched"
    tensorboard.export(whole, "mine", tmp_path / "out")
    tensorboard.export(whole, "mine", tmp_path / "again")
    assert written(tmp_path / "out") == written(tmp_path / "again")


def test_runs_of_an_earlier_study_of_this_name_go_and_other_files_stay(results: Results, tmp_path: Path) -> None:
    for name in ("c999/" + tensorboard.FILE, "c999/notes.txt", "other/events.out.tfevents.1.mine"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("old")
    tensorboard.export(results, "mine", tmp_path)
    assert not (tmp_path / "mine" / "c999" / tensorboard.FILE).exists()
    assert (tmp_path / "mine" / "c999" / "notes.txt").exists()
    assert (tmp_path / "mine" / "other" / "events.out.tfevents.1.mine").exists()


def test_the_verdict_stands_beside_the_runs(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard.export(Judged.open(make_study(tmp_path / "study")), "mine", tmp_path / "out")
    found = EventAccumulator(str(tmp_path / "out" / "mine"))
    found.Reload()
    assert found.SummaryMetadata("verdict").plugin_data.plugin_name == "text"
    said = found.Tensors("verdict")[0].tensor_proto.string_val[0].decode()
    assert said == "No difference larger than 2 points.\n\nBecause."


def test_a_study_without_a_trial_is_an_experiment_without_runs(tmp_path: Path) -> None:
    empty = Results.open(make_study(tmp_path / "study", NO_TRIAL_YET))
    assert tensorboard.export(empty, "mine", tmp_path / "out") == len(empty.configurations())
    assert (tmp_path / "out" / "mine" / tensorboard.FILE).is_file()


def test_writing_imports_no_tensorflow(tmp_path: Path) -> None:
    database = make_study(tmp_path / "study")
    code = (
        "import sys; from pathlib import Path; from tuner.evidence.results import Results; "
        "from tuner.report import tensorboard; "
        "tensorboard.export(Results.open(Path(sys.argv[1])), 'mine', Path(sys.argv[2])); "
        "print([m for m in ('tensorflow', 'keras', 'jax', 'torch') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(database), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout.strip() == "[]"
