"""study.toml: what is written is read back, what is wrong is refused with file, key, found and expected."""

from __future__ import annotations

import math
import os
import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tuner.errors import SpecError
from tuner.spec.spec import OBJECTIVES, SECTIONS, Range, Spec, differences, load, render, toml

KEYS = [(section, f.name) for section, kind in SECTIONS.items() for f in fields(kind)]


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---- valid specs ---------------------------------------------------------------------------------------------------

TEXT = st.text(min_size=1, max_size=20).filter(
    lambda s: s.strip() and "\0" not in s and not any("\ud800" <= c <= "\udfff" for c in s)
)
PATHS = TEXT.filter(lambda s: not s.startswith("drawn:")) | st.just("drawn:towns-and-countryside")


def reals(low: float, high: float, above: bool = False) -> st.SearchStrategy[float]:
    return st.floats(low, high, exclude_min=above, allow_nan=False)


def choices_of(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return one | st.lists(one, min_size=1, max_size=5, unique=True)


@st.composite
def whole_ranges(draw: st.DrawFn, high: int) -> dict[str, Any]:
    low, top = sorted(draw(st.lists(st.integers(0, high), min_size=2, max_size=2, unique=True)))
    table: dict[str, Any] = {"min": low, "max": top}
    if draw(st.booleans()):
        table["step"] = draw(st.integers(1, top - low))
    return table


@st.composite
def real_ranges(draw: st.DrawFn, low: float, high: float, above: bool = False) -> dict[str, Any]:
    one = reals(low, high, above)
    bottom, top = sorted(draw(st.lists(one, min_size=2, max_size=2, unique=True)))
    table: dict[str, Any] = {"min": bottom, "max": top, "sampling": draw(st.sampled_from(["linear", "log"]))}
    if table["sampling"] == "log" and bottom <= 0:
        table["sampling"] = "linear"
    span = top - bottom
    if table["sampling"] == "linear" and span > 1e-300 and draw(st.booleans()):
        table["step"] = min(span, span / draw(st.integers(1, 9000)))
    return table


def searched_whole(high: int) -> st.SearchStrategy[Any]:
    return choices_of(st.integers(0, high)) | whole_ranges(high)


def searched_real(low: float, high: float, above: bool = False) -> st.SearchStrategy[Any]:
    return choices_of(reals(low, high, above)) | real_ranges(low, high, above)


def searched_words(*words: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(words) | st.lists(st.sampled_from(words), min_size=2, unique=True)


DURATIONS = st.builds("{:g} {}".format, st.floats(0.1, 1e6), st.sampled_from(["s", "min", "h"]))

VALID: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "data": {
        "path": PATHS,
        "validation_fraction": reals(0, 0.5, above=True),
        "test_fraction": reals(0, 0.49) | st.just("auto"),
        "groups": st.sampled_from(
            ["", "folders", "groups.csv", "a b/T.CSV:the patient", r"^(patient\d+)_", "(.)(?:x|y)"]
        ),
        "image_size": st.integers(32, 1024),
        "resize": st.sampled_from(["crop", "pad", "squash"]),
        "allow_leak": st.booleans(),
        "strict": st.booleans(),
        "recursive": st.booleans(),
        "views": st.integers(1, 64),
    },
    "backbone": {
        "weights": TEXT | st.lists(TEXT, min_size=1, max_size=3),
        "batch_norm": st.sampled_from(["frozen", "trained"]),
    },
    "space": {
        "unfrozen_layers": searched_whole(175),
        "learning_rate": searched_real(0, 10, above=True),
        "head_width": searched_whole(8192),
        "dropout": searched_real(0, 0.95),
        "weight_decay": searched_real(0, 1),
        "label_smoothing": searched_real(0, 0.9),
        "backbone_lr_multiplier": searched_real(0, 100, above=True),
        "head_init": searched_words("random", "linear_probe"),
        "layer_decay": searched_real(0, 1, above=True),
        "augmentation": searched_words("none", "flip", "light", "strong"),
        "mixup": searched_real(0, 10),
        "head_features": searched_words("pooled", "several"),
    },
    "search": {
        "objective": st.sampled_from(OBJECTIVES),
        "max_epochs": st.integers(1, 100_000),
        "factor": st.integers(2, 100),
        "hyperband_iterations": st.integers(1, 1000),
        "batch_size": st.integers(1, 65_536),
        "optimizer": st.sampled_from(["adam", "adamw", "rmsprop", "sgd"]),
        "schedule": st.sampled_from(["constant", "cosine"]),
        "warmup_epochs": reals(0, 1000),
        "ema": reals(0, 0.9999),
        "checkpoint": st.sampled_from(["best", "last"]),
        "patience": st.integers(0, 100_000),
        "tta": st.sampled_from(["none", "flip"]),
        "time_budget": st.just("none") | DURATIONS,
        "class_weight": st.sampled_from(["none", "balanced"]),
        "precision": st.sampled_from(["float32", "mixed_bfloat16"]),
        "seed": st.integers(0, 2**31 - 1),
        "feature_budget_gb": reals(0, 1e6),
    },
    "confirm": {
        "seeds": st.integers(1, 100) | st.just("auto"),
        "margin": reals(0, 0.5, above=True),
        "folds": st.integers(2, 20) | st.just(0),
        "repeats": st.integers(1, 50),
    },
}


def together(table: dict[str, Any]) -> dict[str, Any]:
    """With what another key asks for."""
    search = table.get("search", {})
    return table | ({"search": search | {"checkpoint": "best"}} if search.get("patience") else {})


OPTIONAL = {section: st.fixed_dictionaries({}, optional=keys) for section, keys in VALID.items()}
TABLES = st.fixed_dictionaries({}, optional=OPTIONAL).map(together)


def test_the_strategies_above_know_every_key() -> None:
    assert [(section, key) for section, keys in VALID.items() for key in keys] == KEYS


@given(TABLES, st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "Z"]), max_size=40))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_valid_spec_is_written_and_read_back_equal(table: dict[str, Any], heading: str) -> None:
    spec = Spec.from_dict(table)
    assert Spec.from_dict(tomllib.loads(render(spec, heading))) == spec
    assert Spec.from_dict(spec.to_dict()) == spec
    assert differences(spec, spec) == []


@given(TABLES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_an_override_is_checked_and_kept_as_the_file_is(table: dict[str, Any]) -> None:
    changes = {f"{section}.{key}": value for section, keys in table.items() for key, value in keys.items()}
    assert Spec().override(changes) == Spec.from_dict(table)


@given(TABLES, TABLES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_differences_names_each_key_that_differs_and_no_other(one: dict[str, Any], two: dict[str, Any]) -> None:
    old, new = Spec.from_dict(one), Spec.from_dict(two)
    differing = [f"{s}.{k}" for s, k in KEYS if getattr(getattr(old, s), k) != getattr(getattr(new, s), k)]
    assert [line.partition(":")[0] for line in differences(old, new, all_keys=True)] == differing
    no_answer = ("data.path", "data.groups", "search.time_budget", "search.feature_budget_gb", "confirm.seeds")
    assert [line.partition(":")[0] for line in differences(old, new)] == [k for k in differing if k not in no_answer]


def test_a_difference_shows_both_values() -> None:
    new = Spec().override({"search.seed": 1, "space.head_width": [0, 64]})
    assert differences(Spec(), new) == [
        "space.head_width: [0, 64, 128, 256, 512] -> [0, 64]",
        "search.seed: 0 -> 1",
    ]


def test_the_file_with_every_default_says_what_each_key_is_for(tmp_path: Path) -> None:
    text = render(Spec())
    assert load(written(tmp_path / "study.toml", text)) == Spec()
    lines = text.splitlines()
    for section, key in KEYS:
        at = [i for i, line in enumerate(lines) if line.startswith(f"{key} = ")]
        assert len(at) == 1, f"{section}.{key} stands once"
        assert lines[at[0] - 1].startswith("# "), f"{section}.{key} is explained"
        assert len(lines[at[0] - 1]) > 12


def test_an_empty_file_asks_the_default_question(tmp_path: Path) -> None:
    assert load(written(tmp_path / "study.toml", "")) == Spec()


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Spec().search.seed = 3  # type: ignore[misc]


def test_a_whole_number_for_a_real_key_and_its_float_are_one_question() -> None:
    assert Spec().override({"space.dropout": 0}) == Spec().override({"space.dropout": 0.0})


# ---- what is refused -----------------------------------------------------------------------------------------------

NAN, INF, HUGE = math.nan, math.inf, 10**400
NO_TEXT = [3, 1.5, True, [], {}, "", "  ", "a\0b", "caf\udce9"]
NO_WORD = [*NO_TEXT, "other", ["adam"], NAN, HUGE]
NO_WHOLE = [NAN, INF, HUGE, -HUGE, True, False, "3", 2.0, 2.5, None]
NO_REAL = [NAN, INF, -INF, HUGE, -HUGE, True, "0.1", None]


def whole(low: int, high: int) -> list[Any]:
    return [low - 1, high + 1, [], {}, *NO_WHOLE]


def real(low: float, high: float, above: bool = False) -> list[Any]:
    return [math.nextafter(low, -INF), math.nextafter(high, INF), [], {}, *NO_REAL, *([low] if above else [])]


def searched(single: list[Any], low: float, middle: float, high: float) -> list[Any]:
    """What no searched key takes: each bad single value alone, in a list and in a range; bad lists; bad ranges."""
    bad = [value for value in single if value != {}]
    return [
        *bad,
        *([value] for value in bad),
        *([middle, value] for value in bad),
        *({"min": value, "max": high} for value in bad),
        *({"min": low, "max": value} for value in bad),
        [middle, middle],
        [[middle]],
        [{"min": low, "max": high}],
        {},
        {"min": low},
        {"max": high},
        {"min": high, "max": low},
        {"min": middle, "max": middle},
        {"min": low, "max": high, "sample": "log"},
        *({"min": low, "max": high, "sampling": s} for s in ("exponential", "", 0, False, [], None, NAN, HUGE)),
        *({"min": low, "max": high, "step": s} for s in (0, -1, NAN, INF, HUGE, True, "1", [1], high - low + 1)),
        {"min": middle, "max": high, "sampling": "log", "step": 1},
        {"min": 0, "max": high, "sampling": "log"},
    ]


IMPOSSIBLE: dict[str, list[Any]] = {
    "data.path": [*NO_TEXT, "drawn:", "drawn:cats", ["photos"]],
    "data.validation_fraction": real(0.0, 0.9, above=True),
    "data.test_fraction": real(0.0, 0.9),
    "data.groups": [
        3,
        True,
        [],
        {},
        "  ",
        "a\0b",
        "caf\udce9",
        "x" * 5000,
        "folder",
        "t.tsv",
        "a(",
        "(a)(b)",
        "a*+*(b)",
    ],
    "data.image_size": whole(32, 1024),
    "data.resize": NO_WORD,
    "data.allow_leak": [0, 1, "true", "", [], {}, None, NAN],
    "data.strict": [0, 1, "true", "", [], {}, None, NAN],
    "data.recursive": [0, 1, "true", "", [], {}, None, NAN],
    "data.views": whole(1, 64),
    "backbone.weights": [[], [""], ["imagenet", 3], ["a\0b"], *NO_TEXT],
    "backbone.batch_norm": NO_WORD,
    "space.unfrozen_layers": [
        *searched(whole(0, 175), 0, 10, 175),
        {"min": 0, "max": 20, "step": 0.5},
        {"min": 0, "max": 20, "step": 2.0},
    ],
    "space.learning_rate": [*searched(real(0.0, 10.0, above=True), 1e-5, 1e-3, 1e-2), 0],
    "space.head_width": searched(whole(0, 8192), 0, 64, 512),
    "space.dropout": [*searched(real(0.0, 0.95), 0.0, 0.3, 0.5), {"min": 0, "max": 0.5, "step": 1e-12}],
    "space.weight_decay": searched(real(0.0, 1.0), 0.0, 1e-4, 1e-2),
    "space.label_smoothing": searched(real(0.0, 0.9), 0.0, 0.1, 0.5),
    "space.backbone_lr_multiplier": searched(real(0.0, 100.0, above=True), 0.1, 0.5, 1.0),
    "space.head_init": [*NO_WORD, ["random", "random"], [], ["random", 1]],
    "space.layer_decay": [*searched(real(0.0, 1.0, above=True), 0.1, 0.5, 0.9), 0],
    "space.augmentation": [*NO_WORD, ["none", "none"], [], ["none", "lots"]],
    "space.mixup": searched(real(0.0, 10.0), 0.0, 0.2, 1.0),
    "space.head_features": [*NO_WORD, ["pooled", "pooled"], [], ["pooled", 1]],
    "search.objective": NO_WORD,
    "search.max_epochs": whole(1, 100_000),
    "search.factor": [1, *whole(2, 100)],
    "search.hyperband_iterations": whole(1, 1000),
    "search.batch_size": whole(1, 65_536),
    "search.optimizer": NO_WORD,
    "search.schedule": NO_WORD,
    "search.warmup_epochs": real(0.0, 1000.0),
    "search.ema": real(0.0, 0.9999),
    "search.checkpoint": NO_WORD,
    "search.patience": whole(0, 100_000),
    "search.tta": NO_WORD,
    "search.time_budget": ["", "20", "min", "0 s", "-1 h", "nan s", "inf h", "5 days", 20, True, [], {}, "20  min"],
    "search.class_weight": NO_WORD,
    "search.precision": NO_WORD,
    "search.seed": whole(0, 2**31 - 1),
    "search.feature_budget_gb": real(0.0, 1e6),
    "confirm.seeds": whole(1, 100),
    "confirm.margin": real(0.0, 0.5, above=True),
    "confirm.folds": whole(0, 20),
    "confirm.repeats": whole(1, 50),
}


@pytest.mark.parametrize("dotted", [f"{s}.{k}" for s, k in KEYS])
def test_every_impossible_value_is_refused_by_file_key_found_and_expected(dotted: str) -> None:
    section, key = dotted.split(".")
    for value in IMPOSSIBLE[dotted]:
        with pytest.raises(SpecError) as caught:
            Spec.from_dict({section: {key: value}}, "here/study.toml")
        message = str(caught.value)
        assert message.startswith(f"here/study.toml: {dotted}: found "), (value, message)
        assert ", expected " in message
        with pytest.raises(SpecError, match=f"^option: {dotted}: found "):
            Spec().override({dotted: value})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[space]\nunfrozen_layers = [0, 176]", "found [0, 176], expected a whole number from 0 to 175"),
        ("[space]\nlearning_rate = 0", "found 0, expected a number above 0"),
        ("[space]\nhead_width = [64, 64]", "found [64, 64], expected a list in which no value stands twice"),
        ("[space]\nhead_width = []", "found [], expected a list with at least one value"),
        ("[space]\ndropout = { min = 0.5, max = 0.1 }", "expected min below max"),
        ('[space]\ndropout = { min = 0, max = 0.1, sampling = "log" }', "expected min above 0 when sampling is log"),
        ("[space]\ndropout = nan", "found nan, expected a number from 0 to 0.95"),
        ("[search]\nfactor = 1", "found 1, expected a whole number from 2 to 100"),
        ("[search]\nmax_epochs = 0", "found 0, expected a whole number from 1 to 100000"),
        ("[search]\nmax_epochs = true", "found True, expected a whole number"),
        (
            '[search]\noptimizer = "adm"',
            'found \'adm\', expected one of "adam", "adamw", "rmsprop", "sgd"; did you mean adam',
        ),
        ('[data]\npath = ""', "found '', expected a text that is not empty"),
        (f"[search]\nseed = {10**300}", "expected a whole number from 0 to 2147483647"),
        ('search = "fast"', "[search] must be a table, found 'fast'"),
    ],
)
def test_the_message_says_what_was_found_and_what_is_expected(tmp_path: Path, line: str, expected: str) -> None:
    path = written(tmp_path / "study.toml", line)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[search]\nmax_epoch = 3", "unknown key search.max_epoch; did you mean max_epochs. Known here: objective, "),
        (
            "[serch]\nseed = 3",
            "unknown key [serch]; did you mean search. Known here: data, backbone, space, search, confirm.",
        ),
        ("seed = 3", "unknown key [seed]"),
        ("[data]\nbatch_size = 3", "unknown key data.batch_size; batch_size belongs in [search]"),
        ("[data]\nzzz = 3", "unknown key data.zzz. Known here: path, "),
        ('[data]\n"\\u001b[31m" = 3', r"unknown key data.'\x1b[31m'"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(written(tmp_path / "study.toml", text))
    assert expected in str(caught.value)


def test_an_override_of_an_unknown_key_or_section_is_refused() -> None:
    with pytest.raises(SpecError, match=r"option: unknown key search\.sed; did you mean seed"):
        Spec().override({"search.sed": 3})
    with pytest.raises(SpecError, match=r"option: unknown key \[serch\]; did you mean search"):
        Spec().override({"serch.seed": 3})
    with pytest.raises(SpecError, match=r"option: unknown key search\."):
        Spec().override({"search": 3})


def test_earlier_names_are_read_and_are_not_mixed_with_todays() -> None:
    old = Spec.from_dict({"space": {"fitted_head": [0, 1], "backbone_rate": {"min": 0.1, "max": 1.0}}})
    assert old.space.head_init == ("random", "linear_probe")
    assert old == Spec().override({"space.fitted_head": [0, 1], "space.backbone_rate": {"min": 0.1, "max": 1.0}})
    assert Spec.from_dict({"space": {"fitted_head": 1}}).space.head_init == "linear_probe"
    for value in (2, True, "1", [], [0, 2], {"min": 0, "max": 1}):
        with pytest.raises(SpecError, match=r"space\.fitted_head: found .* expected 0 or 1"):
            Spec.from_dict({"space": {"fitted_head": value}})
    with pytest.raises(SpecError, match=r"space\.head_init: found head_init too.* earlier name"):
        Spec.from_dict({"space": {"fitted_head": 1, "head_init": "random"}})


def test_fractions_that_leave_nothing_to_train_on_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"option: data\.validation_fraction .* found 0.5 \+ 0.5, expected a sum below 1"
    ):
        Spec().override({"data.validation_fraction": 0.5, "data.test_fraction": 0.5})
    path = written(tmp_path / "study.toml", "[data]\nvalidation_fraction = 0.6\ntest_fraction = 0.6\n")
    with pytest.raises(SpecError, match=r"study\.toml: data\.validation_fraction"):
        load(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[data]\npath = \n", "line 2"),
        ('[data]\npath = "a"\npath = "b"\n', "line 3"),
        ('[data]\n\n\npath = "unclosed\n', "line 4"),
        ("[data\n", "line 1"),
        (b'[data]\npath = "caf\xe9"\n', "not UTF-8 (offset 18)"),
        (b"\xff\xfe[\0d\0", "not UTF-8 (offset 0)"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ("x = " + "[" * 5000, "not valid TOML"),
    ],
)
def test_broken_toml_names_file_and_place(tmp_path: Path, text: str | bytes, expected: str) -> None:
    path = written(tmp_path / "study.toml", text)
    with pytest.raises(SpecError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="study.toml: cannot be read"):
        load(tmp_path / "study.toml")
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(SpecError, match="pipe.toml: found no regular file"):
        load(tmp_path / "pipe.toml")


def test_a_number_of_thousands_of_digits_is_refused_and_not_printed(tmp_path: Path) -> None:
    text = "[search]\nseed = 0x" + "f" * 5000
    with pytest.raises(SpecError, match=r"search\.seed: found thousands of digits, expected a whole number"):
        load(written(tmp_path / "study.toml", text))
    with pytest.raises(SpecError, match=r"space\.head_width: found thousands of digits"):
        load(written(tmp_path / "study.toml", text.replace("[search]\nseed =", "[space]\nhead_width = [") + "]"))


# ---- anything at all: a Spec or a SpecError ------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from([HUGE, -HUGE])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner)
)
RANGES = st.fixed_dictionaries({}, optional=dict.fromkeys(("min", "max", "sampling", "step"), ANYTHING))
WORDS = st.text(max_size=8) | st.sampled_from([key for _, key in KEYS])


def a_spec_or_a_spec_error(make: Any) -> None:
    try:
        made = make()
    except SpecError as error:
        made = error
    assert isinstance(made, (Spec, SpecError))
    if isinstance(made, Spec):
        # What is accepted can be written: no value gets in that the file cannot hold.
        assert Spec.from_dict(tomllib.loads(render(made))) == made
    else:
        assert str(made).startswith("here")


@given(
    st.dictionaries(
        st.sampled_from(list(SECTIONS)) | st.text(max_size=6), st.dictionaries(WORDS, ANYTHING | RANGES) | ANYTHING
    )
    | ANYTHING
)
@example([])
@example({"space": {"learning_rate": HUGE}})
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_gives_a_spec_or_a_spec_error(table: Any) -> None:
    a_spec_or_a_spec_error(lambda: Spec.from_dict(table, "here"))


@given(st.sampled_from(KEYS), ANYTHING | RANGES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_a_key_gives_a_spec_or_a_spec_error(key: tuple[str, str], value: Any) -> None:
    a_spec_or_a_spec_error(lambda: Spec.from_dict({key[0]: {key[1]: value}}, "here"))
    a_spec_or_a_spec_error(lambda: Spec().override({f"{key[0]}.{key[1]}": value}, "here"))


@given(st.text(max_size=8), st.text(max_size=8), ANYTHING)
def test_any_override_gives_a_spec_or_a_spec_error(section: str, key: str, value: Any) -> None:
    a_spec_or_a_spec_error(lambda: Spec().override({f"{section}.{key}": value}, "here"))


LINES = st.lists(
    st.builds("{} = {}".format, st.sampled_from([k for _, k in KEYS]), st.text(max_size=12))
    | st.sampled_from([f"[{s}]" for s in SECTIONS])
    | st.text(max_size=20),
    max_size=8,
).map("\n".join)


@given(st.binary(max_size=200) | LINES.map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_gives_a_spec_or_a_spec_error(tmp_path: Path, raw: bytes) -> None:
    path = written(tmp_path / "here.toml", raw)
    try:
        made: object = load(path)
    except SpecError as error:
        made = error
    assert isinstance(made, Spec) or str(made).startswith(str(path))


@given(st.data())
@settings(max_examples=150)
def test_one_damaged_character_gives_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(render(Spec()).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.getbasetemp() / "damaged.toml", bytes(raw))
    try:
        made: object = load(path)
    except SpecError as error:
        made = error
    assert isinstance(made, Spec) or str(made).startswith(str(path))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Range(1e-5, 1e-2, "log"), {"min": 1e-5, "max": 1e-2, "sampling": "log"}),
        (Range(0, 20, step=5), {"min": 0, "max": 20, "sampling": "linear", "step": 5}),
        ((0, 64), [0, 64]),
        ((64,), [64]),
        (("imagenet", "random"), ["imagenet", "random"]),
        (("imagenet",), "imagenet"),
        ('a"\n\x7f\\é', 'a"\n\x7f\\é'),
        (True, True),
        (1e16, 1e16),
        (3, 3),
    ],
)
def test_a_value_stands_on_one_line_as_toml(value: Any, plain: Any) -> None:
    text = toml(value)
    assert "\n" not in text
    assert tomllib.loads(f"value = {text}")["value"] == plain


def test_a_byte_order_mark_in_front_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xef\xbb\xbf[search]\nseed = 3\n")
    assert load(path).search.seed == 3
