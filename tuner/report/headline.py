"""The first sentences of a report: what came out, what depth, and what these images can and cannot tell."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tuner.evidence.results import Results
from tuner.evidence.statistics import smallest_telling_difference
from tuner.evidence.study import Study
from tuner.report import words


def headline(results: Results) -> str:
    """What the figures show and what they do not, in plain sentences, a thought a line."""
    study, winner, baseline = results.study, results.winner(), results.baseline()
    if study.state == "not started":
        return "Not started: nothing has been trained yet."
    state = {"running": "Still running: ", "interrupted": "Interrupted: "}.get(study.state, "")
    if winner is None and baseline is None:
        return f"{state}no configuration has finished an epoch yet."
    said = []
    if winner is not None:
        so_far = "" if winner["full"] else f" after {winner['epochs']} of {study.spec.search.max_epochs} epochs"
        said.append(f"best configuration {winner['id']} ({_depth(winner)}){so_far}: {_score(winner)}")
    if baseline is not None:
        said.append(f"frozen baseline: {_score(baseline)}")
    text = state + "; ".join(said)
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


def _depth(row: Any) -> str:
    depth = int(row["unfrozen_layers"])
    return "backbone frozen" if depth == 0 else f"{depth} layers unfrozen"


def _score(row: pd.Series) -> str:
    if words.missing(row["correct"]):
        return f"validation loss {words.number(row['val_loss'])}"
    right = f"{row['correct']}/{row['validation']} ({words.percent(row['val_accuracy'])}, interval {_interval(row)})"
    return f"{right}, loss {words.number(row['val_loss'])}"


def _interval(row: Any) -> str:
    return "-" if words.missing(row["low"]) else f"{100 * row['low']:.0f} to {words.percent(row['high'])}"


def _compared(results: Results) -> list[str]:
    """The plain answer to the study's question, as far as the search has one."""
    winner, better = results.winner(), results.beats_baseline()
    if winner is None or better is None:
        return []
    by = words.NAMES[results.study.spec.search.objective]
    if not better:
        return [
            f"Nothing that was searched did better than the frozen baseline by {by}: in this search unfreezing layers "
            "did not pay. The baseline is the model to take (`--baseline` exports it).",
        ]
    if winner["unfrozen_layers"] == 0:
        return ["The best configuration keeps the backbone frozen too: in this search unfreezing layers did not pay."]
    return [f"By {by} on the validation images the best is ahead of the baseline."]


def _coverage(results: Results) -> list[str]:
    """Depths that the budget left without a fair trial: nothing may be concluded about them."""
    depths = results.depths().to_dict(orient="records")
    if len(depths) < 2 or results.study.state != "finished":
        return []
    never = [str(d["unfrozen_layers"]) for d in depths if not d["tried"]]
    # The frozen backbone was trained in full by the baseline.
    short = [str(d["unfrozen_layers"]) for d in depths if d["tried"] and not d["finished"] and d["unfrozen_layers"]]
    lines = []
    if never:
        lines.append(
            f"Depth {words.listed(never)} was never drawn: nothing is known of it. A larger budget would try it."
        )
    if short:
        most = results.study.spec.search.max_epochs
        lines.append(
            f"No configuration with {' or '.join(short)} unfrozen layers was trained for all {most} epochs: "
            "others were ahead of them after fewer, which is no proof."
        )
    return lines


def _caution(study: Study, winner: pd.Series | None, baseline: pd.Series | None) -> list[str]:
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
