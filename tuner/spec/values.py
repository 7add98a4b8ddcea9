"""What a key of study.toml may be: each check takes the raw TOML value and returns the checked one.

A check raises ValueError with what is expected; `spec` adds the file, the key and what was found.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Range:
    """All values from `min` to `max`; `sampling` is "linear" or "log"; `step`: a grid on the linear scale."""

    min: float
    max: float
    sampling: str = "linear"
    step: float | None = None

    def grid(self) -> tuple[float, ...]:
        """The values `min`, `min + step`, ... up to `max`, counted as written: 0.1, 0.2, 0.3, not 0.30000000000000004.
        Without a step it is 1.
        """
        low, each = Decimal(str(self.min)), Decimal(str(self.step or 1))
        return tuple(float(low + i * each) for i in range(self.steps() + 1))

    def steps(self) -> int:
        """How often the step goes into the range; a hair's breadth may be missing at the end."""
        return math.floor((self.max - self.min) / (self.step or 1) + 1e-9)


Searched = int | float | str | tuple[int | float | str, ...] | Range
"""One hyperparameter's values: a number or word fixes it, a tuple is a choice, a Range a range."""

LONGEST_PATH = 4095  # what Linux takes
MOST_STEPS = 10_000  # every value of a stepped range is held in memory


def one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(f'"{a}"' for a in allowed) + nearest(value, allowed))
        return str(value)

    return check


def whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def real(low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        # NaN is in no interval, and comparing does not overflow as converting a whole number of 400 digits would.
        if not good or not low <= value <= high or (above and value == low):
            raise ValueError(f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}")
        return float(value)

    return check


def auto_or(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A check that also takes the word "auto"."""

    def checked(value: Any) -> Any:
        if value == "auto":
            return value
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f'"auto", or {error}') from None

    return checked


def number_or(value: float | str, automatic: float) -> float:
    """The number, or what "auto" stands for."""
    return automatic if isinstance(value, str) else value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a text that is not empty")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("a text that UTF-8 can hold, as TOML files are UTF-8 (rename it, or name a link to it)")
    return value


def path_text(value: Any) -> str:
    if len(text(value).encode()) > LONGEST_PATH:
        raise ValueError(f"a path of at most {LONGEST_PATH:,} bytes")
    return str(value)


def data_path(value: Any) -> str:
    path = path_text(value)
    if path.startswith("drawn:") and path != "drawn:towns-and-countryside":
        raise ValueError('a folder, a .zip, or "drawn:towns-and-countryside"')
    return path


TABLE = re.compile(r"(?P<file>.*\.csv)(?::(?P<column>.+))?", re.IGNORECASE | re.DOTALL)
"""A table of groups: its file, and its column where that is named."""
FOLDERS = "folders"


def groups(value: Any) -> str:
    """What says which images belong together: "", a table, "folders" or a regular expression."""
    if value == "":
        return ""
    expected = (
        f'"" for none, a table such as "groups.csv" or "table.csv:patient", "{FOLDERS}", or a regular expression with '
        r"one part in brackets, the group, such as '^(patient\d+)_'"
    )
    try:
        if TABLE.fullmatch(path_text(value)) or value == FOLDERS:
            return str(value)
        parts = re.compile(value).groups
    except (ValueError, re.error, OverflowError, RecursionError) as error:
        wrong = f"; as the last it cannot be read ({error})" if isinstance(error, re.error) else ""
        raise ValueError(expected + wrong) from None
    if parts != 1:
        several = f"; it has {parts} parts in brackets: those that are no group are written (?:...)"
        raise ValueError(expected + (several if parts else nearest(value, (FOLDERS,)) or "; it has none in brackets"))
    return str(value)


SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def duration(value: Any) -> str:
    """The text of a time span, "none" for no end."""
    if value == "none":
        return "none"
    number, _, unit = value.partition(" ") if isinstance(value, str) else ("", "", "")
    try:
        seconds = float(number) * SECONDS[unit]
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError('"none", or a number above 0 and s, min or h, such as "20 min"')
    return str(value)


def seconds_of(value: str) -> float:
    """What a checked duration is in seconds; infinite for "none"."""
    number, _, unit = value.partition(" ")
    return float(number) * SECONDS[unit] if unit else math.inf


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def weights(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(v, str) for v in values):
        raise ValueError('"imagenet", "random", the path of a weights file, or a list of these')
    return tuple(path_text(v) for v in values)


def searched(check: Callable[[Any], int | float | str], *, words: bool = False) -> Callable[[Any], Searched]:
    """A check for a hyperparameter: `check` holds for each single value in it. Of `words` there is no range."""

    def checked(value: Any) -> Searched:
        if isinstance(value, Mapping) and not words:
            return _range(value, check)
        if isinstance(value, (list, tuple)):
            if not value:
                raise ValueError("a list with at least one value")
            values = tuple(check(v) for v in value)
            if len(set(values)) != len(values):
                raise ValueError("a list in which no value stands twice")
            return values
        return check(value)

    return checked


def holds(wider: Searched, narrower: Searched) -> bool:
    """Whether every value of `narrower` is one of `wider`, and every one that stays keeps its place."""
    if isinstance(narrower, Range):
        if not isinstance(wider, Range) or (wider.sampling, wider.step) != (narrower.sampling, narrower.step):
            return False
        inside = wider.min <= narrower.min and narrower.max <= wider.max
        return inside and (narrower.step is None or set(narrower.grid()) <= set(wider.grid()))
    values = narrower if isinstance(narrower, tuple) else (narrower,)
    if isinstance(wider, Range):
        return wider.step is None and all(not isinstance(v, str) and wider.min <= v <= wider.max for v in values)
    kept = [v for v in (wider if isinstance(wider, tuple) else (wider,)) if v in values]
    return kept == list(values)


def _range(table: Mapping[str, Any], check: Callable[[Any], Any]) -> Range:
    if set(table) - {"min", "max", "sampling", "step"} or not {"min", "max"} <= set(table):
        raise ValueError("a table with min and max, and sampling or step if wanted")
    low, high = check(table["min"]), check(table["max"])
    sampling, step = table.get("sampling", "linear"), table.get("step")
    if low >= high:
        raise ValueError("min below max")
    if sampling not in ("linear", "log"):
        raise ValueError('sampling "linear" or "log"')
    if sampling == "log" and low <= 0:
        raise ValueError("min above 0 when sampling is log")
    if step is not None:
        if sampling == "log":
            raise ValueError("no step when sampling is log")
        if isinstance(step, bool) or not isinstance(step, (int, float)) or not 0 < step <= high - low:
            raise ValueError("a step above 0 and no larger than max - min")
        if isinstance(low, int) and not isinstance(step, int):
            raise ValueError("a whole step, as the values are whole")
        if (high - low) / step >= MOST_STEPS:
            raise ValueError(f"a step that makes fewer than {MOST_STEPS:,} values; leave it out for a continuous range")
    return Range(low, high, str(sampling), step)


def nearest(word: object, known: tuple[str, ...]) -> str:
    """The end of a message about a word that is not known; empty when no known one is near."""
    match = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f"; did you mean {match[0]}" if match else ""
