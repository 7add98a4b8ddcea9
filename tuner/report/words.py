"""How the report words numbers and names. Plain text: no rich, no pandas, so that the live display stays light."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuner.spec.configuration import HYPERPARAMETERS
from tuner.spec.spec import SpaceSpec

Row = Mapping[Any, Any]
"""A row of the configurations' table (`Results.configurations`), or of one with some of its columns."""

NAMES = {h.name: h.label for h in HYPERPARAMETERS} | {
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "val_balanced_accuracy": "validation balanced accuracy",
    "val_f1": "validation F1",
    "val_auc": "validation AUC",
    "val_brier": "validation Brier score",
}

OBJECTIVES = {"val_balanced_accuracy": "balanced", "val_f1": "F1", "val_auc": "AUC", "val_brier": "Brier"}
"""Those beside loss and accuracy, as the head of a column has them."""

NO_PRETRAINING = "no pretraining"

JOINERS = "\u200c\u200d"  # invisible, but part of how Persian, Indic scripts and emoji are spelled

DEFAULTS = {
    h.name: getattr(SpaceSpec(), h.name)
    for h in HYPERPARAMETERS
    if h.name not in ("unfrozen_layers", "learning_rate", "head_width")
}
"""The hyperparameters that are only worth a word when they differ from this."""
ABOVE = [h.name for h in HYPERPARAMETERS if not h.frozen]
"""Those that mean nothing for a frozen backbone."""

DECADES = {h.name for h in HYPERPARAMETERS if h.decades}


def remarks(pretrained: bool, leaked: int) -> list[str]:
    """What must stand on every table and figure: features from nowhere, or a validation set that leaks."""
    leak = [f"{leaked} photograph{'s' * (leaked > 1)} in two splits"] if leaked else []
    return ([] if pretrained else [NO_PRETRAINING]) + leak


def visible(text: object) -> str:
    """The text with everything that would steer a terminal or hide from the eye written out: ESC becomes \\x1b."""
    return "".join(c if c in JOINERS or unicodedata.category(c) not in HIDDEN else _escaped(c) for c in str(text))


HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(c: str) -> str:
    code = f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(c, code)


def without_password(text: str) -> str:
    """The text with `user:password@` of every address in it hidden."""
    return re.sub(r"(?<=://)[^/\s@]+@", "***@", text)


def shortened(text: str, width: int) -> str:
    """At most `width` characters; the middle goes, because names that differ mostly differ at an end."""
    if len(text) <= width:
        return text
    left = width // 2
    return text[:left].rstrip() + "…" + text[len(text) - (width - 1 - left) :].lstrip()


def missing(value: Any) -> bool:
    """None, NaN and pandas's NA, without importing pandas."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float) and math.isnan(value)


HUGE = 100_000
"""From here on a loss is written with a power of ten."""


def percent(share: float | None) -> str:
    return "-" if share is None or missing(share) else f"{100 * share:.0f}%"


def number(value: Any, form: str = ".3f") -> str:
    """The loss of a trial that diverged as 1.3e13, not in all its digits: a column stays a column."""
    if missing(value):
        return "-"
    return rate(value) if math.isfinite(value) and abs(value) >= HUGE else format(value, form)


def signed(value: Any, form: str = "+.3f") -> str:
    """With its sign; a plain 0 for no difference."""
    if missing(value) or value == 0:
        return "-" if missing(value) else "0"
    return ("+" if value > 0 else "") + number(value, form.removeprefix("+"))


def rate(value: Any) -> str:
    """A learning rate or weight decay: 3.2e-4, 0."""
    if missing(value):
        return "-"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def amount(value: Any) -> str:
    """A count in few characters: 2,049, 525 k, 14.8 M."""
    if missing(value):
        return "-"
    if value < 10_000:
        return f"{int(value):,}"
    return f"{value / 1e3:.0f} k" if value < 999_500 else f"{value / 1e6:.1f} M"


def seconds(value: Any) -> str:
    """A duration: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if missing(value) or not math.isfinite(value):
        return "-"
    whole = round(value)
    if value < 9.95:
        return f"{value:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def hyperparameter(name: str, value: Any) -> str:
    if missing(value):
        return "-"
    if name in DECADES:
        return rate(value)
    return f"{value:g}" if isinstance(value, (int, float)) else visible(value)


def cell(row: Row, column: str) -> str:
    """One column of a row as every table shows it; `correct` and `low` need their neighbours too."""
    if column == "correct":
        return right(row)
    if column == "low":
        return interval(row, "-")
    value = row[column]
    if column in FORMATS:
        return FORMATS[column](value)
    return hyperparameter(column, value) if column in NAMES else "-" if missing(value) else visible(value)


FORMATS: dict[str, Callable[[Any], str]] = {
    "val_accuracy": percent,
    "val_loss": number,
    "val_balanced_accuracy": percent,
    "val_f1": number,
    "val_auc": number,
    "val_brier": number,
    "images_over_baseline": lambda value: signed(value, "+d"),
    "loss_over_baseline": signed,
    "trained_parameters": amount,
    "seconds": seconds,
}


def right(row: Row, share: bool = False) -> str:
    """Of the validation images: "18/20", or "18/20 (90%)"."""
    if missing(row["correct"]):
        return "-"
    return f"{row['correct']}/{row['validation']}" + (f" ({percent(row['val_accuracy'])})" if share else "")


def scored(values: Mapping[Any, Any], before: str = ", ") -> str:
    """The value by which a configuration was ranked, of a row with one beside loss and accuracy: ", AUC 0.930"."""
    return "".join(f"{before}{short} {cell(values, name)}" for name, short in OBJECTIVES.items() if name in values)


def with_objective(columns: Mapping[str, str], objective: str) -> dict[str, str]:
    """Header -> column, the objective before the loss, if it is neither loss nor accuracy."""
    further = {OBJECTIVES[objective]: objective} if objective in OBJECTIVES else {}
    found: dict[str, str] = {}
    for header, column in columns.items():
        found |= (further if column == "val_loss" else {}) | {header: column}
    return found


def capitalised(text: str) -> str:
    """With a large first letter, the others as they are: Validation AUC."""
    return text[:1].upper() + text[1:]


def interval(row: Row, to: str = " to ") -> str:
    """The Wilson interval of that share: "70 to 97%"."""
    return "-" if missing(row["low"]) else f"{100 * row['low']:.0f}{to}{percent(row['high'])}"


def configuration(values: Mapping[Any, Any]) -> str:
    """A configuration in words: "20 layers unfrozen, rate 3.2e-4, head 64, dropout 0.3"."""
    if missing(values.get("learning_rate")):
        cuts, seen = values.get("cuts"), values.get("augmentation")
        where = "the pooled features" if missing(cuts) else "several cuts"
        augmented = "" if missing(seen) or seen == "none" else f", {NAMES['augmentation']} {visible(seen)}"
        which = "" if missing(cuts) or cuts == "several" else f": {listed(visible(cuts).split(', '), 4)}"
        return f"frozen, logistic regression on {where}{augmented}{which}"
    depth, head = values.get("unfrozen_layers"), values.get("head_width")
    parts = ["frozen" if depth == 0 else f"{hyperparameter('unfrozen_layers', depth)} layers unfrozen"]
    parts.append(f"rate {rate(values.get('learning_rate'))}")
    parts.append("no hidden layer" if head == 0 else f"head {hyperparameter('head_width', head)}")
    told = [k for k in DEFAULTS if depth or k not in ABOVE]
    unusual = [k for k in told if not missing(values.get(k)) and values[k] != DEFAULTS[k]]
    return ", ".join([*parts, *(f"{NAMES[k]} {hyperparameter(k, values[k])}" for k in unusual)])


def several(count: int, thing: str) -> str:
    """1 rung, 2 rungs."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(things: Sequence[str], most: int = 8) -> str:
    """A comma-separated list, its tail counted instead of written when it is long."""
    return ", ".join(things[:most]) + (f" and {len(things) - most} more" if len(things) > most else "")
