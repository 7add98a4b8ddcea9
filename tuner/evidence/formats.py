"""Results as JSON and CSV text: the same numbers, bit for bit, with nothing a spreadsheet would run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from tuner.evidence.study import Study

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection")."""


def to_json(parts: Mapping[str, Any]) -> str:
    """One object; tables become lists of objects. Standard JSON: what is missing or not finite is null."""
    return json.dumps(
        {name: _records(p) if isinstance(p, pd.DataFrame) else p for name, p in parts.items()},
        indent=1,
        allow_nan=False,
    )


def to_csv(table: pd.DataFrame) -> str:
    """Comma, dot, UTF-8, a header line; numbers with all their digits."""
    table = table.copy()
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name]):
            table[name] = [disarm(v) if isinstance(v, str) else v for v in table[name]]
    return table.to_csv(index=False, lineterminator="\n")


def disarm(text: str) -> str:
    """A leading apostrophe makes a spreadsheet show the text instead of running it."""
    return "'" + text if text.lstrip(" ").startswith(FORMULA) else text


def study_facts(study: Study) -> dict[str, Any]:
    """The study's facts as plain JSON values."""
    facts = {name: value for name, value in vars(study).items() if name not in ("spec", "plan", "counts", "left_out")}
    return {
        **facts,
        "counts": {split: dict(zip(study.classes, numbers, strict=False)) for split, numbers in study.counts.items()},
        "left_out": [{"path": path, "reason": reason} for path, reason in study.left_out],
        "plan": [asdict(bracket) for bracket in study.plan],
        "spec": study.spec.to_dict(),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
