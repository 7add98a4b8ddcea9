"""JSON and CSV carry the same numbers, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_study import FINISHED, INTERRUPTED, NO_TRIAL_YET, Made, make_study

from tuner.evidence.formats import disarm
from tuner.evidence.results import Results


def missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def same(value: Any, in_json: Any, in_csv: str) -> bool:
    if missing(value):
        return in_json is None and in_csv == ""
    as_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return bool(in_json == value) and (float(in_csv) == value if as_number else in_csv == str(value))


@pytest.mark.parametrize("made", [FINISHED, INTERRUPTED, NO_TRIAL_YET])
def test_json_and_csv_hold_the_tables_to_the_last_bit(tmp_path: Path, made: Made) -> None:
    found = Results.open(make_study(tmp_path, made))
    loaded = json.loads(found.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    tables = {"configurations": found.ranking(None), "trials": found.trials(), "epochs": found.epochs()}
    for name, table in tables.items():
        rows = table.to_dict(orient="records")
        reader = csv.DictReader(io.StringIO(found.to_csv(name)))
        from_csv = list(reader)
        assert reader.fieldnames == list(table.columns)
        assert len(loaded[name]) == len(from_csv) == len(rows)
        for row, a, b in zip(rows, loaded[name], from_csv, strict=True):
            assert all(same(v, a[k], b[k]) for k, v in row.items())
    assert loaded["study"]["classes"] == list(made.classes)
    assert loaded["study"]["spec"] == made.spec().to_dict()


def test_text_that_a_spreadsheet_would_run_is_disarmed_and_numbers_are_not(tmp_path: Path) -> None:
    database = make_study(tmp_path, replace(FINISHED, reason='=HYPERLINK("http://x")\nsecond, line'))
    table = pd.read_csv(io.StringIO(Results.open(database).to_csv()))
    assert table[table["id"] == "c004"].iloc[0]["reason"].startswith("'=HYPERLINK")
    assert pd.api.types.is_numeric_dtype(table["loss_over_baseline"])
    assert (table["loss_over_baseline"] < 0).any()
    for text in ("=1", "+1", "-1", "@x", "\tx", " =1"):
        assert disarm(text) == "'" + text
    assert disarm("c004") == "c004"
