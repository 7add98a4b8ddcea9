"""The study in plain words, for the terminal and the page alike: its facts, its warnings, where its time went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.evidence.statistics import balanced_accuracy
from tuner.report import headline, words
from tuner.spec.spec import Range, Searched


def study_lines(results: Results) -> list[tuple[str, str]]:
    """(name, text) of data, backbone, space and search."""
    study = results.study
    search = study.spec.search
    lines = [
        (
            "state",
            study.state
            + (f", {words.seconds(study.seconds)}" if study.seconds else "")
            + (f" in {study.sessions} sessions" if study.sessions > 1 else ""),
        )
    ]
    if study.data_path:
        lines.append(
            ("data", words.visible(study.data_path) + (f" ({words.visible(study.layout)})" if study.layout else ""))
        )
    for split, counts in study.counts.items():
        each = [f"{words.visible(name)} {count}" for name, count in zip(study.classes, counts, strict=False)]
        lines.append((split, f"{sum(counts)} images: {words.listed(each, 12)}"))
    lines += _majority(results)
    if study.left_out:
        files = [f"{words.visible(path)} ({words.visible(reason)})" for path, reason in study.left_out]
        lines.append(("left out", words.listed(files, 3)))
    if study.weights:
        weights = words.visible(study.weights) + ("" if study.pretrained else f", {words.NO_PRETRAINING}")
        size = f", {words.amount(study.backbone_parameters)} parameters" if study.backbone_parameters else ""
        lines.append(("backbone", f"ResNet-50, {weights}{size}"))
    if study.classes:
        lines += [
            (words.NAMES[key], searched(key, value))
            for key, value in vars(study.spec.space).items()
            if value != words.DEFAULTS.get(key)
        ]
        lines.append(
            (
                "search",
                f"Hyperband by {words.NAMES[search.objective]}, at most {search.max_epochs} epochs, "
                f"factor {search.factor}, batch {search.batch_size}, seed {search.seed}",
            )
        )
    return lines


def _majority(results: Results) -> list[tuple[str, str]]:
    """What answering one class always would get; with unequal classes the balanced accuracies too."""
    study = results.study
    each = np.bincount(np.array(study.val_labels, dtype=np.int64), minlength=len(study.classes))
    if not study.classes or not each.sum():
        return []
    most, n = int(each.max()), int(each.sum())
    said = f"always {words.visible(study.classes[int(each.argmax())])}: {most}/{n} ({words.percent(most / n)}) right"
    if most > 1.5 * each.min():
        rows = {"best": results.winner(), "baseline": results.baseline()}
        found = {name: results.confusion(str(row["id"])) for name, row in rows.items() if row is not None}
        shares = [f"{name} {words.percent(balanced_accuracy(c))}" for name, c in found.items() if c is not None]
        said += f"; by class on average: {', '.join(shares)}" if shares else ""
    return [("majority", said)]


def searched(name: str, value: Searched) -> str:
    """One hyperparameter's values in words."""
    if isinstance(value, Range):
        return f"{words.hyperparameter(name, value.min)} to {words.hyperparameter(name, value.max)}, {value.sampling}"
    return (
        words.listed([words.hyperparameter(name, v) for v in value], 20)
        if isinstance(value, tuple)
        else words.hyperparameter(name, value)
    )


# ---- warnings ----


def warning_lines(results: Results, findings: Findings | None = None) -> list[str]:
    """What qualifies the result: the study's warnings, what failed or was trained otherwise.

    With findings also what the search's own headline says otherwise: no pretraining, small sets, depths hardly tried.
    """
    table = results.configurations()
    failed = table[table["status"] == "failed"]
    lines = [words.visible(w) for w in results.study.warnings]
    if findings is not None and findings.kind != "open":  # else the headline stands on top and says it
        lines += headline.qualified(results)
    lines += [
        f"{row['id']} failed: {'no reason given' if words.missing(row['reason']) else words.visible(row['reason'])}"
        for row in failed.to_dict(orient="records")
    ]
    odd = table[(table["status"] != "failed") & table["reason"].notna()]
    return lines + [f"{row['id']}: {words.visible(row['reason'])}" for row in odd.to_dict(orient="records")]


# ---- what mattered, and where the time went ----


def importance_line(importance: pd.DataFrame) -> str:
    """What the shares are shares of."""
    counted = f"{int(importance['configurations'].max())} configurations"
    groups = int(importance["groups"].max())
    within = f" in {groups} groups" if groups > 1 else ""
    return (
        f"Share of the differences between {counted}{within}, compared at equal epochs only. By luck: what a "
        "hyperparameter without any effect would get; p: how often luck makes any of them stand out as much."
    )


def chance(p: float) -> str:
    """A p-value: 0.04, < 0.01."""
    return "< 0.01" if p < 0.01 else words.number(p, ".2f")


def time_line(results: Results) -> str | None:
    """Training and the feature pass against the time that their multiply-adds alone would take; None for neither."""
    found = results.times()
    if found.floor is None or not found.spent:
        return None
    trained = int(found.depths["operations"].sum())
    return (
        f"Features and training took {words.seconds(found.spent)}, {found.spent / found.floor:.1f} times the floor of "
        f"{words.seconds(found.floor)}: {operations(found.prefix + trained)} multiply-adds "
        f"at {operations(found.rate)} a second, the rate of the fastest epoch. Heads are not counted."
    )


def operations(count: float | None) -> str:
    """Multiply-adds in few characters: 620 G, 3.1 T."""
    if not count:
        return "-"
    unit, size = next((u, s) for u, s in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)) if count >= s or u == "M")
    return f"{count / size:.3g} {unit}"
