"""The report's tables for the terminal, as rich renderables. Every name from outside is plain text, never markup."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuner.evidence.results import Results
from tuner.evidence.statistics import balanced_accuracy
from tuner.report import words
from tuner.report.best import best_table, hyperparameter_table, title
from tuner.report.headline import headline
from tuner.study.spec import Range, Searched


def report(results: Results, top: int = 10) -> Group:
    """Everything the terminal shows of a study, the sentence first."""
    parts: list[RenderableType] = [Text(headline(results)), Text(), study_table(results)]
    if len(results.configurations()):
        parts += [Text(), best_table(results, top)]
    if (further := hyperparameter_table(results, top)) and len(results.ranking()):
        parts += [Text(), further]
    if len(results.depths()) > 1 and len(results.ranking()):
        parts += [Text(), depth_table(results)]
    if results.study.plan:
        parts += [Text(), bracket_table(results)]
    wrong = wrong_list(results)
    parts += [Text(), wrong] if wrong else []
    warnings = warning_list(results)
    return Group(*parts, *([Text(), warnings] if warnings else []))


# ---- the study ----


def study_table(results: Results) -> Table:
    """Data, backbone, space and search, a line each."""
    study = results.study
    table = Table(title=title("Study", study), title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _study_lines(results):
        table.add_row(name, Text(text))
    return table


def _study_lines(results: Results) -> list[tuple[str, str]]:
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


# ---- brackets and rungs ----


def bracket_table(results: Results) -> Table:
    """Hyperband's plan and how far it came: a row a rung."""
    study, rungs = results.study, results.rungs()
    table = _table(title("Brackets and rungs", study))
    for header in ("bracket", "rung", "epochs", "planned", "ended", "failed"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("went on", overflow="fold")
    several = len({b.iteration for b in study.plan}) > 1
    for row in rungs.to_dict(orient="records"):
        first = row["rung"] == 0
        if first:
            table.add_section()
        name = f"{row['bracket']}" + (f" (iteration {row['iteration'] + 1})" if several else "")
        table.add_row(
            name if first else "",
            *(str(row[k]) for k in ("rung", "epochs", "planned", "ended")),
            str(row["failed"] or ""),
            row["state"],
            Text(words.listed(row["promoted"], 6)),
        )
    return table


# ---- depths ----


def depth_table(results: Results) -> Table:
    """How well each depth did at its best, and how much of the search went there."""
    table = _table(title("Depths", results.study))
    for header in (
        "unfrozen\nlayers",
        "tried",
        "trained\nin full",
        "best",
        "epochs",
        "right",
        "loss",
        "right\n+/-",
        "loss\n+/-",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for row in results.depths().to_dict(orient="records"):
        seen = not words.missing(row["correct"])
        table.add_row(
            str(row["unfrozen_layers"]),
            str(row["tried"]),
            str(row["finished"]),
            "-" if words.missing(row["best"]) else words.visible(row["best"]),
            "-" if words.missing(row["epochs"]) else str(row["epochs"]),
            f"{row['correct']}/{row['validation']}" if seen else "-",
            words.number(row["val_loss"]),
            words.signed(row["images_over_baseline"], "+d"),
            words.signed(row["loss_over_baseline"]),
        )
    return table


# ---- photographs ----


def wrong_list(results: Results, most: int = 12) -> RenderableType | None:
    """The validation photographs that the best configuration or the baseline gets wrong, the surest mistakes first."""
    said = results.photographs()
    names = [name for name in ("best", "baseline") if name in said]
    if not names:
        return None
    said["lowest"] = said[[f"{name}_chance" for name in names]].min(axis=1)
    wrong = said[~said[[f"{name}_right" for name in names]].all(axis=1)].sort_values("lowest", kind="stable")
    if wrong.empty:
        return None
    table = _table(title(f"Wrong on {len(wrong)} of {len(said)} validation photographs", results.study))
    table.add_column("photograph", overflow="fold")
    for name in ("it is", *(f"{name} said" for name in names)):
        table.add_column(name, overflow="fold")
    for row in wrong.head(most).to_dict(orient="records"):
        cells = [
            f"{words.visible(row[name])} ({words.percent(row[f'{name}_chance'])} {words.visible(row['class'])})"
            if not row[f"{name}_right"]
            else "right"
            for name in names
        ]
        table.add_row(*(Text(t) for t in (words.visible(row["photograph"]), words.visible(row["class"]), *cells)))
    if len(wrong) > most:
        table.caption, table.caption_justify = Text(f"and {len(wrong) - most} more: photographs.csv"), "left"
    return table


# ---- warnings ----


def warning_list(results: Results) -> RenderableType | None:
    """What qualifies the result: the study's warnings, what failed or was trained otherwise; None for nothing."""
    table = results.configurations()
    failed = table[table["status"] == "failed"]
    lines = [words.visible(w) for w in results.study.warnings]
    lines += [
        f"{row['id']} failed: {'no reason given' if words.missing(row['reason']) else words.visible(row['reason'])}"
        for row in failed.to_dict(orient="records")
    ]
    odd = table[(table["status"] != "failed") & table["reason"].notna()]
    lines += [f"{row['id']}: {words.visible(row['reason'])}" for row in odd.to_dict(orient="records")]
    return _bullets("Warnings", lines) if lines else None


def _table(heading: Text) -> Table:
    return Table(
        title=heading,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def _bullets(title: str, lines: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, show_header=False, padding=(0, 1, 0, 0)
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("!", Text(line))
    return table
