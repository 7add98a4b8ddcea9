"""A study in MLflow: a parent run for the study, a run a configuration below it. The extra `tlstudy[mlflow]`.

Everything is read from the store, and a run is found again by its tags: exporting a second time adds the epochs that
are new and doubles nothing, whether the first time was cut off or the study went on since. Images, their names and
models stay here; names, settings and metrics go to the server.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tuner import __version__
from tuner.errors import RunError, UsageError
from tuner.report.words import without_password

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tuner.evidence.results import Results
    from tuner.evidence.runs import Run, Runs

MISSING = (
    "--mlflow needs MLflow, which is not installed here. Install it with `pip install 'tlstudy[mlflow]'` "
    "(or `pip install mlflow`) and run the same command again."
)
EXPERIMENT = "tlstudy"
"""The experiment's name, unless MLflow's own variable MLFLOW_EXPERIMENT_NAME names another."""

AT_ONCE = 1000
"""MLflow takes at most so many metrics in one call."""

STATUS = {"completed": "FINISHED", "finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


def check(uri: str) -> None:
    """Before a search that is to be exported: can it be? Raises UsageError that says what to do."""
    if not uri.strip():
        raise UsageError(
            "--mlflow: found no address, expected one such as sqlite:///mlflow.db or http://localhost:5000."
        )
    if find_spec("mlflow") is None:
        raise UsageError(MISSING)


def export(results: Results, name: str, uri: str) -> int:
    """Brings the study's runs at `uri` up to date and returns how many there are.

    `name`: the study's. Raises UsageError where MLflow is missing, RunError with what MLflow said.
    """
    check(uri)
    found = results.runs()
    with _explained(uri) as client:
        experiment = _experiment(client)
        known = _known(client, experiment, name, found.study)
        parent = known.get("") or _create(client, experiment, name, found)
        for run in found.runs:
            _update(client, known.get(run.id) or _create(client, experiment, name, found, run, parent), run)
        for key, value in _summary(results).items():
            client.set_tag(parent.info.run_id, key, value)
        _end(client, parent.info.run_id, STATUS.get(found.state, "KILLED"), found.ended)
    return len(found.runs)


@contextmanager
def _explained(uri: str) -> Iterator[MlflowClient]:
    """A client of the server or store at `uri`; MLflow's errors as one message."""
    # A tool that asks nobody must not make MLflow report its use to MLflow's makers; who wants that can set it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # its 7 keep a user waiting for minutes
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, ImportError, OSError) as error:
        raise RunError(
            f"MLflow at {without_password(uri)}: {without_password(str(error))}\nThe study itself is whole in its "
            "folder; when this is mended, `tlstudy report --mlflow URI` exports it."
        ) from error


def _experiment(client: MlflowClient) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _known(client: MlflowClient, experiment: str, name: str, study: str) -> dict[str, Any]:
    """The study's runs that are there, by configuration; "" is the parent. A copy of a study's folder under another
    name goes its own way from here, so the name counts too.
    """
    found: dict[str, Any] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], f"tags.`tlstudy.study_id` = '{study}'", page_token=token)
        own = [run for run in page if run.data.tags.get("tlstudy.study") == name]
        found |= {run.data.tags.get("tlstudy.configuration", ""): run for run in own}
        token = page.token
        if not token:
            return found


def _create(
    client: MlflowClient, experiment: str, name: str, found: Runs, run: Run | None = None, parent: Any = None
) -> Any:
    """A new run at MLflow: the study's, or with `run` the one of a configuration below `parent`."""
    began, title, kind = (found.began, name, "study") if run is None else (run.began, f"{name} {run.id}", run.kind)
    tags = {"tlstudy.study": name, "tlstudy.study_id": found.study, "tlstudy.version": __version__}
    tags["tlstudy.kind"] = kind
    if run is not None:
        tags |= {"tlstudy.configuration": run.id, "mlflow.parentRunId": parent.info.run_id}
    return client.create_run(experiment, start_time=_milliseconds(began), tags=tags, run_name=title)


def _update(client: MlflowClient, there: Any, run: Run) -> None:
    """What the run at MLflow still lacks: hyperparameters, epochs, the best epoch, how it ended."""
    from mlflow.entities import Metric, Param, RunTag

    id, state = there.info.run_id, STATUS.get(run.status, "KILLED")
    complete = {"tlstudy.exported": f"{len(run.points)} epochs, {run.status}"}
    if complete.items() <= there.data.tags.items():
        return
    client.log_batch(id, params=[Param(k, str(v)) for k, v in run.hyperparameters.items()])
    names = sorted({name for point in run.points for name in point.metrics})
    logged = {name: {m.step for m in client.get_metric_history(id, name)} for name in names}
    new = [
        Metric(name, value, _milliseconds(point.time), point.epoch)
        for point in run.points
        for name, value in point.metrics.items()
        if point.epoch not in logged[name]
    ]
    if run.best:
        step, before = int(run.best["best_epoch"]), there.data.metrics
        changed = ((name, value) for name, value in run.best.items() if before.get(name) != value)
        new += [Metric(name, value, _milliseconds(run.ended), step) for name, value in changed]
    for i in range(0, len(new), AT_ONCE):
        client.log_batch(id, metrics=new[i : i + AT_ONCE])
    tags = complete | ({"tlstudy.reason": run.reason[:4000]} if run.reason else {})
    client.log_batch(id, tags=[RunTag(k, v) for k, v in tags.items()])
    _end(client, id, state, run.ended)


def _summary(results: Results) -> Mapping[str, str]:
    """The parent's tags: who is ahead, and the verdict as far as there is one."""
    winner, baseline, findings = results.winner(), results.baseline(), results.findings()
    tags = {"tlstudy.state": results.study.state, "tlstudy.pretrained": str(results.study.pretrained)}
    tags |= {"tlstudy.winner": str(winner["id"])} if winner is not None else {}
    tags |= {"tlstudy.baseline": str(baseline["id"])} if baseline is not None else {}
    return tags | {"tlstudy.verdict": findings.kind, "mlflow.note.content": findings.sentence}


def _end(client: MlflowClient, run: str, status: str, time: float) -> None:
    if status == "RUNNING":
        client.update_run(run, status=status)
    else:
        client.set_terminated(run, status, _milliseconds(time))


def _milliseconds(time: float) -> int:
    return round(time * 1000)
