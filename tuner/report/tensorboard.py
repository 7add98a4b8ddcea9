"""A study as TensorBoard reads it: a curve of each metric per configuration, and the HParams tab.

A run a configuration: `FOLDER/STUDY/c003/`. The files are written from the store, whole or not at all, always the same
for the same results: exporting again after a resume changes what is new and doubles nothing. They are TensorBoard's
own records in its own protobufs, so no TensorFlow is imported, which a search on JAX may not even have.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from tuner.artifacts.files import write_atomically
from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.evidence.runs import Run, Runs
from tuner.report import words
from tuner.spec.spec import Range, Spec
from tuner.store.ranking import Rule

FILE = "events.out.tfevents.0.tlstudy"
"""One file a run, always of this name: TensorBoard looks for "tfevents" in it."""


def shown(rule: Rule) -> dict[str, str]:
    """The metrics of the HParams tab. TensorBoard shows a curve's last point, so these have only one: that of the best
    epoch, or of the one that counts.
    """
    epoch = f"{rule.checkpoint} epoch"
    names = ("val_loss", "val_accuracy", *([rule.scored] if rule.scored else []))
    return {f"best_{name}": f"{words.NAMES[name]}, {epoch}" for name in names} | {"best_epoch": epoch}


STATUS = {"completed": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE, "running": api_pb2.STATUS_RUNNING}


def export(results: Results, name: str, folder: Path) -> int:
    """Writes `folder/name/` and returns the number of runs in it; `tensorboard --logdir folder` shows them.

    `name`: the study's. Runs of an earlier study of this name are removed. Raises OSError.
    """
    found, root, tags = results.runs(), folder / name, shown(results.study.rule)
    _write(root / FILE, _study(found, results.study.spec, results.findings()))
    for run in found.runs:
        _write(root / run.id / FILE, _run(run, tags))
    ids = {run.id for run in found.runs}
    for old in root.glob(f"*/{FILE}"):
        if old.parent.name not in ids:
            old.unlink()
    return len(ids)


def _study(found: Runs, spec: Spec, findings: Findings) -> Iterable[Event]:
    """What stands beside all runs: the hyperparameters and metrics there are, and the verdict in words."""
    # Not every kind has every hyperparameter, and some have one that is not searched.
    names = dict.fromkeys([*vars(spec.space), *(name for run in found.runs for name in run.hyperparameters)])
    tried = {name: [run.hyperparameters.get(name) for run in found.runs] for name in names}
    parameters = [summary_v2.HParam(name, _domain(vars(spec.space).get(name), tried[name])) for name in tried]
    kinds = sorted({run.kind for run in found.runs} or {"search"})
    parameters.append(summary_v2.HParam("kind", summary_v2.Discrete(kinds)))
    metrics = [summary_v2.Metric(tag, display_name=title) for tag, title in shown(Rule.of(spec.search)).items()]
    yield _event(found.began, summary_v2.hparams_config_pb(parameters, metrics, time_created_secs=found.began))
    yield _event(found.ended, _text("verdict", "\n\n".join([findings.sentence, *findings.evidence])))


def _domain(searched: Any, tried: list[Any]) -> Any:
    """What TensorBoard can filter by: the range that is searched, else the values that were tried."""
    if not isinstance(searched, Range):
        choices = searched if isinstance(searched, tuple) else (searched,)
        found = {_value(v) for v in [*choices, *tried] if v is not None} or {0.0}
        values = sorted(found, key=lambda v: (isinstance(v, str), v))
        mixed = len({type(v) for v in values}) > 1
        return summary_v2.Discrete([str(v) for v in values] if mixed else values)
    # The baseline's values may lie outside of the range that was searched.
    numbers = [float(v) for v in (searched.min, searched.max, *tried) if v is not None]
    return summary_v2.RealInterval(min(numbers), max(numbers))


def _value(value: Any) -> float | str:
    return float(value) if isinstance(value, (int, float)) else str(value)


def _run(run: Run, tags: Collection[str]) -> Iterable[Event]:
    """The values, the curves, those `tags` of the best epoch and, once it has ended, how it ended."""
    given = {name: value for name, value in run.hyperparameters.items() if value is not None}
    values = {name: _value(value) for name, value in given.items()} | {"kind": run.kind}
    yield _event(run.began, summary_v2.hparams_pb(values, trial_id=run.id, start_time_secs=run.began))
    for point in run.points:
        yield _event(point.time, _scalars(point.metrics), point.epoch)
    if run.best:
        best = {name: value for name, value in run.best.items() if name in tags}
        yield _event(run.ended, _scalars(best), int(run.best["best_epoch"]))
    yield _event(run.ended, _session_end(run))


def _scalars(metrics: Any) -> Summary:
    finite = ((name, float(value)) for name, value in metrics.items() if math.isfinite(float(value)))
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in finite])


def _session_end(run: Run) -> Summary:
    # As `tensorboard.plugins.hparams.summary.session_end_pb`, which would import TensorFlow.
    status = STATUS.get(run.status, api_pb2.STATUS_UNKNOWN)
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=run.ended)
    made = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, tensor=metadata.NULL_TENSOR)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=ended)
    made.metadata.CopyFrom(metadata.create_summary_metadata(data))
    return Summary(value=[made])


def _text(tag: str, text: str) -> Summary:
    made = Summary.Value(tag=tag, tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()]))
    made.metadata.plugin_data.plugin_name = "text"
    return Summary(value=[made])


def _event(time: float, made: Summary, step: int = 0) -> Event:
    return Event(wall_time=time, step=step, summary=made)


def _write(path: Path, events: Iterable[Event]) -> None:
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    listed = list(events)
    for event in [Event(wall_time=listed[0].wall_time, file_version="brain.Event:2"), *listed]:
        writer.write(event.SerializeToString(deterministic=True))
    data = buffer.getvalue()
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, lambda file: file.write(data))
