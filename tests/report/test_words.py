"""Wordings: what a number or a name looks like, and that nothing hidden stays hidden."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest

from tuner.report import words


def test_nothing_that_steers_a_terminal_or_hides_survives() -> None:
    nasty = "a\x1b[31mb\x07c\x9bd\u202ee\u200bf\ng\th\u2028i\x7f"
    shown = words.visible(nasty)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in shown)
    assert shown == "a\\x1b[31mb\\x07c\\x9bd\\u202ee\\u200bf\\ng\\th\\u2028i\\x7f"
    assert words.visible("Zürich 東京 क\u200dष") == "Zürich 東京 क\u200dष"


@pytest.mark.parametrize("width", [5, 12, 22])
def test_a_shortened_name_fits_and_keeps_both_ends(width: int) -> None:
    short = words.shortened("abcdefghijklmnopqrstuvwxyz", width)
    assert len(short) == width
    assert (short[0], short[-1]) == ("a", "z")
    assert words.shortened("abc", width) == "abc"


def test_numbers_read_as_people_write_them() -> None:
    assert [words.rate(v) for v in (1e-3, 3.24e-4, 0, 1.0, float("nan"))] == ["1e-3", "3.2e-4", "0", "1e0", "-"]
    assert [words.amount(v) for v in (2049, 524_801, 999_600, 14_798_337, pd.NA)] == [
        "2,049",
        "525 k",
        "1.0 M",
        "14.8 M",
        "-",
    ]
    assert [words.seconds(v) for v in (0.44, 12.4, 59.7, 185, 7800, None)] == [
        "0.4 s",
        "12 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
        "-",
    ]
    assert [words.number(v) for v in (0.4312, 99_999.0, 1.26e13, -1e6, float("inf"), None)] == [
        "0.431",
        "99999.000",
        "1.3e13",
        "-1e6",
        "inf",
        "-",
    ]
    assert [words.signed(v, "+d") for v in (2, 0, -1)] == ["+2", "0", "-1"]
    assert [words.signed(v) for v in (0.25, 1.26e13, -2e7, float("nan"))] == ["+0.250", "+1.3e13", "-2e7", "-"]
    assert [words.percent(v) for v in (0.9, 1.0, None)] == ["90%", "100%", "-"]


def test_a_configuration_in_words_names_what_is_unusual() -> None:
    plain = {
        "unfrozen_layers": 20,
        "learning_rate": 3.2e-4,
        "head_width": 64,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "backbone_lr_multiplier": 1.0,
        "fitted_head": 0,
    }
    assert words.configuration(plain) == "20 layers unfrozen, rate 3.2e-4, head 64"
    assert (
        words.configuration(plain | {"unfrozen_layers": 0, "head_width": 0, "dropout": 0.3})
        == "frozen, rate 3.2e-4, no hidden layer, dropout 0.3"
    )
