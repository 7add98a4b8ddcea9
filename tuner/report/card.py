"""The model card beside an exported model: what it is, what it was measured on, what it must not be taken for.

Markdown. Every name in it is escaped, so that a class called `<script>` or `| a |` stays text.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuner.evidence.results import Results
from tuner.evidence.statistics import wilson
from tuner.evidence.study import Study
from tuner.report import words
from tuner.report.markdown import bullets, fenced, plain, table
from tuner.report.usage import usage
from tuner.spec.spec import render

if TYPE_CHECKING:
    from tuner.export.checking import Exported

MOST = 20  # left-out files that are listed by name
FEW = 100  # validation photographs below which the card warns

WEIGHTS = {
    "imagenet": "The backbone began with Keras's ImageNet weights for ResNet-50. Keras has said of them that they were "
    "ported from the ones Kaiming He released under the MIT licence; the photographs of ImageNet have terms of their "
    "own. Whether your use is allowed is yours to check.",
    "random": "The backbone began with random weights: nobody's licence applies to them.",
    "file": "The backbone began with the weights in the file {name}. Their licence is not known to this program; "
    "whether your use is allowed is yours to check.",
}


def card(
    results: Results, exported: Exported, *, study: str, baseline: bool = False, verdict: str | None = None
) -> str:
    """The whole card as Markdown text. study: how the user names the study. verdict: the study's, where it has one."""
    row = results.ranking(None).set_index("id", drop=False).loc[exported.configuration]
    name = plain(exported.path.name)
    what = "frozen baseline" if baseline else "best configuration"
    parts = [
        f"# Model card: {name}",
        f"A ResNet-50 that sorts photographs into {len(exported.contents.classes)} classes, the {what} of a `tlstudy` "
        "study: " + plain(words.configuration({str(k): v for k, v in row.items()})) + ".",
    ]
    parts += ["## Use", usage(exported)]
    parts += ["## Classes", bullets(plain(label) for label in exported.contents.classes)]
    parts += ["## Data", _data(results.study)]
    parts += ["## Configuration", _configuration(row, results.study, exported)]
    parts += ["## Measured", *_measured(results, row, exported, verdict)]
    parts += ["## Limits", bullets(_limits(results.study, row, exported, baseline))]
    parts += ["## Check of this file", _check(exported)]
    parts += ["## Weights and licences", _weights(results.study)]
    parts += ["## Made with", plain(", ".join(f"{k} {v}" for k, v in exported.versions.items())) + "."]
    parts += ["## Make it again", _reproduce(results.study, exported, study, baseline)]
    return "\n\n".join(parts) + "\n"


# ---- sections ------------------------------------------------------------------------------------------------------


def _data(study: Study) -> str:
    splits = list(study.counts)
    rows = [[plain(name), *(f"{study.counts[split][i]:,}" for split in splits)] for i, name in enumerate(study.classes)]
    rows.append(["together", *(f"{sum(study.counts[split]):,}" for split in splits)])
    said = [table(["photographs", *splits], rows)]
    if study.left_out:
        some = [f"{plain(path)}: {plain(reason)}" for path, reason in study.left_out[:MOST]]
        more = [f"and {len(study.left_out) - MOST} more"] if len(study.left_out) > MOST else []
        said += [f"{words.several(len(study.left_out), 'file')} left out:", bullets([*some, *more])]
    else:
        said.append("No file was left out.")
    data = study.spec.data
    said.append(f"Each was made a square of {data.image_size} pixels by `{data.resize}`.")
    return "\n\n".join(said)


def _configuration(row: Any, study: Study, exported: Exported) -> str:
    names = [name for name in words.NAMES if name in row.index and not name.startswith("val_")]
    rows = [[words.NAMES[name], words.hyperparameter(name, row[name])] for name in names]
    rows.append(["optimizer", f"{study.spec.search.optimizer}, batches of {study.spec.search.batch_size}"])
    rows.append(["BatchNorm", study.spec.backbone.batch_norm])
    rows.append(["trained parameters", words.amount(row["trained_parameters"])])
    if exported.refit is None:
        rows.append(["weights", f"of epoch {row['best_epoch']} of {row['epochs']}, the best by validation"])
    else:
        rows.append(["weights", f"of epoch {exported.refit.epochs} of the refit, the last"])
    return table(["", ""], rows)


def _measured(results: Results, row: Any, exported: Exported, verdict: str | None) -> list[str]:
    """Counts, accuracies with Wilson intervals, and what may be concluded."""
    said = [] if exported.refit is None else [f"**{exported.refit.sentence()}**"]
    rows = [_figures("this configuration", row)]
    for name, other in (("frozen baseline", results.baseline()), ("tutorial's recipe", results.reference())):
        if other is not None and other["id"] != row["id"]:
            rows.append(_figures(name, other))
    images = Counter(results.study.val_labels)
    counts = [images[i] for i in range(len(results.study.classes))]
    if counts and sum(counts):
        rows.append([f"always {plain(results.study.classes[counts.index(max(counts))])}", *_share(counts), "-"])
    said.append(table(["on the validation photographs", "right", "95 % interval (Wilson)", "loss"], rows))
    confusion = results.confusion(str(row["id"]))
    if confusion is not None:
        by_class = [
            [plain(name), *_share([int(confusion[i, i])], int(confusion[i].sum()))]
            for i, name in enumerate(results.study.classes)
        ]
        said.append(table(["class", "right", "95 % interval (Wilson)"], by_class))
    said.append(
        f"Verdict of the study: {plain(verdict)}" if verdict else "The study has no verdict: nothing but validation."
    )
    return said


def _figures(name: str, row: Any) -> list[str]:
    if words.missing(row["correct"]):
        return [name, "-", "-", words.number(row["val_loss"])]
    right = f"{row['correct']}/{row['validation']} ({words.percent(row['val_accuracy'])})"
    return [name, right, f"{100 * row['low']:.0f} to {words.percent(row['high'])}", words.number(row["val_loss"])]


def _share(counts: Sequence[int], total: int | None = None) -> list[str]:
    """k of n with its interval: the largest count of them all, or the one count of `total`."""
    right, n = max(counts), sum(counts) if total is None else total
    low, high = wilson(right, n)
    share = words.percent(right / n) if n else "-"
    return [f"{right}/{n} ({share})", f"{100 * low:.0f} to {words.percent(high)}"]


def _limits(study: Study, row: Any, exported: Exported, baseline: bool) -> list[str]:
    train, validation = sum(study.counts.get("train", ())), study.validation
    seen = train if exported.refit is None else exported.refit.photographs
    said = [
        f"It learned from {words.several(seen, 'photograph')} and knows nothing but what those show. Photographs of "
        "another camera, place, season or purpose are another question.",
        "It always answers with one of its classes, also for a photograph of none of them. Its probabilities were not "
        "calibrated.",
        f"This configuration and its epoch were chosen on the {words.several(validation, 'validation photograph')}: "
        "the figures on them are better than new photographs will give.",
    ]
    if validation < FEW:
        said.append(
            f"{words.several(validation, 'validation photograph')} are few: read the intervals, not the shares."
        )
    if not study.pretrained:
        said.append(
            "**No pretraining**: the backbone's weights were random, so nothing here is about transfer learning."
        )
    if study.leaked:
        said.append(
            f"**Leak**: {words.several(study.leaked, 'photograph')} stood in two splits; the figures are too good by "
            "an unknown amount."
        )
    if not row["full"]:
        said.append(f"It was trained for {row['epochs']} of {study.spec.search.max_epochs} epochs.")
    if not baseline and study.state != "finished":
        said.append(f"The search was {study.state}: another configuration may have been better.")
    return said + [f"The study warned: {plain(warning)}" for warning in study.warnings]


def _check(exported: Exported) -> str:
    against = "predictions stored with the trial" if exported.refit is None else "predictions of the refit network"
    raw = exported.largest_raw_difference
    return (
        f"A process of its own loaded the file and compared it with the {against}, on "
        f"{words.several(exported.photographs, 'validation photograph')}: the largest difference of a probability was "
        f"{exported.largest_difference:.1g} on the decoded squares"
        + ("." if raw is None else f" and {raw:.1g} on the photographs as they are.")
        + f" The file takes {exported.bytes / 1e6:.0f} MB."
    )


def _weights(study: Study) -> str:
    kind = study.weights if study.weights in ("imagenet", "random") else "file"
    return WEIGHTS[kind].format(name=plain(study.weights)) + " The photographs' licences are yours to check too."


def _reproduce(study: Study, exported: Exported, name: str, baseline: bool) -> str:
    command = ["tlstudy", "best", name, "--export", exported.path.name, "--format", exported.kind.name]
    command += ["--baseline"] * baseline + ["--refit"] * (exported.refit is not None)
    commands = "\n".join([shlex.join(["tlstudy", "search", name]), shlex.join(command)])
    return "\n\n".join(
        [
            "With these lines as `study.toml`, the same photographs, weights, versions and kind of machine:",
            fenced(commands),
            fenced(render(study.spec), "toml"),
        ]
    )
