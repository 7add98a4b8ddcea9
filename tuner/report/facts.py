"""The study in plain words, for the terminal and the page alike: what came out, its facts, its warnings, its time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.evidence.findings import Findings
from tuner.evidence.importance import FIRST, FULL
from tuner.evidence.results import Results
from tuner.evidence.statistics import balanced_accuracy, smallest_telling_difference
from tuner.evidence.study import Study
from tuner.report import words
from tuner.report.rows import by_role
from tuner.report.words import Row
from tuner.spec.spec import Range, Searched
from tuner.store.ranking import Rule

# ---- the headline: what came out, what depth, and what these images can and cannot tell ----


def headline(results: Results) -> str:
    """What the figures show and what they do not, in plain sentences, a thought a line."""
    study, rows = results.study, by_role(results, "best", "baseline")
    winner, baseline = rows.get("best"), rows.get("baseline")
    if study.state == "not started":
        return "Not started: nothing has been trained yet."
    state = {"running": "Still running: ", "interrupted": "Interrupted: "}.get(study.state, "")
    if winner is None and baseline is None:
        return f"{state}no configuration has finished an epoch yet."
    scores = []
    if winner is not None:
        depth = int(winner["unfrozen_layers"])
        frozen = f"{depth} layers unfrozen" if depth else "backbone frozen"
        so_far = "" if winner["full"] else f" after {winner['epochs']} of {study.spec.search.max_epochs} epochs"
        scores.append(f"best configuration {winner['id']} ({frozen}){so_far}: {_score(winner)}")
    if baseline is not None:
        scores.append(f"frozen baseline: {_score(baseline)}")
    text = state + "; ".join(scores)
    lines = [f"{text[0].upper()}{text[1:]}."]
    lines += [*_compared(results), *_coverage(results), *_caution(study, winner, baseline)]
    if not study.pretrained:
        lines.append(NO_PRETRAINING)
    return "\n".join(lines)


def qualified(results: Results) -> list[str]:
    """What of the headline qualifies a verdict too: depths hardly tried, small sets, no pretraining."""
    lines = [line.strip() for line in _coverage(results)]
    n, needed = results.study.validation, smallest_telling_difference(results.study.validation)
    if n < SMALL:
        told = "no difference" if needed is None else f"no difference below {needed} images"
        lines.append(f"Small sets: the search chose by {n} validation images, on which {told} can be told from luck.")
    return lines + ([] if results.study.pretrained else [NO_PRETRAINING])


SMALL = 100
"""Validation images below which the report warns."""

NO_PRETRAINING = "No pretraining: the backbone's weights are random, so nothing here is about transfer learning."


def _score(row: Row) -> str:
    loss = f"loss {words.number(row['val_loss'])}{words.scored(row)}"
    if words.missing(row["correct"]):
        return f"validation {loss}"
    return f"{words.right(row)} ({words.percent(row['val_accuracy'])}, interval {words.interval(row)}), {loss}"


def _compared(results: Results) -> list[str]:
    """The plain answer to the study's question, as far as the search has one."""
    winner, better = results.winner(), results.beats_baseline()
    if winner is None or better is None:
        return []
    by = words.NAMES[results.study.rule.objective]
    if not better:
        return [f"By {by} nothing that was searched is ahead of the frozen baseline: no gain from unfreezing is seen."]
    if winner["unfrozen_layers"] == 0:
        return [f"By {by} the best configuration is one with a frozen backbone too: no gain from unfreezing is seen."]
    return [f"By {by} on the validation images the best is ahead of the baseline."]


def _coverage(results: Results) -> list[str]:
    """What the time budget left out, and depths without a fair trial: nothing may be concluded about them."""
    depths, left_out = results.depths().to_dict(orient="records"), results.study.left_out_by_time()
    lines = [left_out] if left_out else []
    if len(depths) < 2 or results.study.state != "finished":
        return lines
    never = [str(d["unfrozen_layers"]) for d in depths if not d["tried"]]
    # The frozen backbone was trained in full by the baseline.
    short = [str(d["unfrozen_layers"]) for d in depths if d["tried"] and not d["finished"] and d["unfrozen_layers"]]
    if never:
        lines.append(
            f"Depth {words.listed(never)} was never tried: nothing is known of it. A larger budget would try it."
        )
    if short:
        most = results.study.spec.search.max_epochs
        lines.append(
            f"No configuration with {' or '.join(short)} unfrozen layers was trained for all {most} epochs: "
            f"others were ahead of them after fewer{', or time ran out' if left_out else ''}, which is no proof."
        )
    return lines


def _caution(study: Study, winner: Row | None, baseline: Row | None) -> list[str]:
    n, needed = study.validation, smallest_telling_difference(study.validation)
    if needed is None:
        told = f"With only {n} validation images no difference can be told from luck."
    else:
        told = f"On {n} validation images a difference below {needed} images cannot be told from luck."
        if baseline is not None and not words.missing(baseline["correct"]) and n - baseline["correct"] < needed:
            wrong = n - baseline["correct"]
            told += f" The baseline is wrong on {wrong}, so these images cannot show a gain however good the best is."
    chosen = " The search chose the best by these same images, so it looks better here than it is."
    return [told + (chosen if winner is not None else "")]


# ---- the study ----


def study_lines(results: Results) -> list[tuple[str, str]]:
    """(name, text) of data, backbone, space and search."""
    study = results.study
    spent = f", {words.seconds(study.seconds)}" if study.seconds else ""
    lines = [("state", study.state + spent + (f" in {study.sessions} sessions" if study.sessions > 1 else ""))]
    if study.data_path:
        layout = f" ({words.visible(study.layout)})" if study.layout else ""
        lines.append(("data", words.visible(study.data_path) + layout))
    for split, counts in study.counts.items():
        each = [f"{words.visible(name)} {count}" for name, count in zip(study.classes, counts, strict=False)]
        groups = study.groups_of.get(split)
        within = f" in {words.several(len(set(groups)), 'group')}" if groups else ""
        lines.append((split, f"{sum(counts)} images{within}: {words.listed(each, 12)}"))
    lines += _majority(results)
    if study.left_out:
        files = [f"{words.visible(path)} ({words.visible(reason)})" for path, reason in study.left_out]
        lines.append(("left out", words.listed(files, 3)))
    if study.weights:
        weights = words.visible(study.weights) + ("" if study.pretrained else f", {words.NO_PRETRAINING}")
        size = f", {words.amount(study.backbone_parameters)} parameters" if study.backbone_parameters else ""
        lines.append(("backbone", f"ResNet-50, {weights}{size}"))
    if study.classes:
        space, search = vars(study.spec.space).items(), study.spec.search
        lines += [(words.NAMES[k], _searched(k, value)) for k, value in space if value != words.DEFAULTS.get(k)]
        settings = (
            f"Hyperband by {_ranked_by(study.rule)}, at most {search.max_epochs} epochs, "
            f"factor {search.factor}, batch {search.batch_size}, seed {search.seed}"
        )
        if search.patience:
            settings += f", patience {words.several(search.patience, 'epoch')}"
        lines.append(("search", settings))
        if search.mirrored:
            lines.append(("predictions", "each the mean over an image and its mirror image, the baseline's too"))
    return lines


def _ranked_by(rule: Rule) -> str:
    """What configurations were ranked by; where that is another thing than the verdict is about, said so."""
    epoch = " of the last epoch" if rule.checkpoint == "last" else ""
    return words.NAMES[rule.objective] + epoch + (" (the verdict is about accuracy)" if rule.scored else "")


def _majority(results: Results) -> list[tuple[str, str]]:
    """What answering one class always would get; with unequal classes the balanced accuracies too."""
    study = results.study
    each = np.bincount(np.array(study.val_labels, dtype=np.int64), minlength=len(study.classes))
    if not study.classes or not each.sum():
        return []
    most, n = int(each.max()), int(each.sum())
    text = f"always {words.visible(study.classes[int(each.argmax())])}: {most}/{n} ({words.percent(most / n)}) right"
    if most > 1.5 * each.min():
        rows = by_role(results, "best", "baseline")
        found = {role: results.confusion(str(row["id"])) for role, row in rows.items()}
        shares = [f"{role} {words.percent(balanced_accuracy(c))}" for role, c in found.items() if c is not None]
        text += f"; by class on average: {', '.join(shares)}" if shares else ""
    return [("majority", text)]


def _searched(name: str, value: Searched) -> str:
    if isinstance(value, Range):
        return f"{words.hyperparameter(name, value.min)} to {words.hyperparameter(name, value.max)}, {value.sampling}"
    return words.listed([words.hyperparameter(name, v) for v in (value if isinstance(value, tuple) else (value,))], 20)


DEPTH_COLUMNS = {
    "unfrozen layers": "unfrozen_layers",
    "tried": "tried",
    "trained in full": "finished",
    "best": "best",
    "epochs": "epochs",
    "right": "correct",
    "loss": "val_loss",
    "right +/-": "images_over_baseline",
    "loss +/-": "loss_over_baseline",
}
"""Header -> column of `Results.depths`."""


def bracket_name(results: Results, row: Row) -> str:
    """The bracket of a row of `Results.rungs`, with its iteration where there are several."""
    several = len({bracket.iteration for bracket in results.study.plan}) > 1
    return f"{row['bracket']}" + (f" (iteration {row['iteration'] + 1})" if several else "")


# ---- warnings ----


def warning_lines(results: Results, findings: Findings | None = None) -> list[str]:
    """What qualifies the result: the study's warnings, what failed or was trained otherwise.

    With findings also what the search's own headline says otherwise: no pretraining, small sets, depths hardly tried.
    """
    lines = [words.visible(w) for w in results.study.warnings]
    if findings is not None and findings.kind != "open":  # else the headline stands on top and says it
        lines += qualified(results)
    failed, odd = [], []
    for row in results.configurations().to_dict(orient="records"):
        reason = None if words.missing(row["reason"]) else words.visible(row["reason"])
        if row["status"] == "failed":
            failed.append(f"{row['id']} failed: {'no reason given' if reason is None else reason}")
        elif reason is not None:
            odd.append(f"{row['id']}: {reason}")
    return lines + failed + odd


# ---- what mattered, and where the time went ----


def importance_title(found: pd.DataFrame) -> str:
    """What the rows of one budget rest on: "17 configurations after 1, 3 or 9 epochs"."""
    each = str(found["epochs"].iloc[0]).split(", ")
    epochs = " or ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
    after = f"{epochs} epoch{'' if epochs == '1' else 's'}"
    when = "early: " if found["budget"].iloc[0] == FIRST else "at the full budget: "
    return f"{when}{int(found['configurations'].max())} configurations after {after}"


def importance_lines(found: pd.DataFrame) -> list[str]:
    """What the shares are shares of, and what they can and cannot mean."""
    budgets, groups = set(found["budget"]), int(found["groups"].max())
    lines = [
        "Share: the part of the differences in rank by the objective that goes with a hyperparameter's value. By luck: "
        "what one without any effect would get. p: how often luck makes any of them stand out as much."
    ]
    if FIRST in budgets:
        within = f", each compared with those of its own bracket ({groups} brackets)" if groups > 1 else ""
        lines.append(
            f"Early: all that ended a first rung{within}. What matters after few epochs need not matter at the full "
            "budget." + ("" if FULL in budgets else " Those that got there are too few, or too much alike, to compare.")
        )
    if FULL in budgets:
        lines.append(
            "At the full budget: all that were trained for so long. Where rungs stopped others these are survivors: "
            "what decided who survives may hardly show among them."
        )
    return [
        *lines,
        "It is no proof of cause. Each hyperparameter is looked at alone, two that go together both get the credit, "
        "and a few configurations show large effects only.",
    ]


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
