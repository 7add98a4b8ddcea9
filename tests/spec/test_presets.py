"""Presets: each is a valid question, and what it changes is what study.toml says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.errors import SpecError
from tuner.spec.presets import PRESETS, preset
from tuner.spec.spec import Spec, load, render


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_spec_that_is_read_back(name: str, tmp_path: Path) -> None:
    spec = Spec().override(preset(name))
    path = tmp_path / "study.toml"
    path.write_text(render(spec), encoding="utf-8")
    assert load(path) == spec


def test_the_default_changes_nothing_and_each_other_preset_something() -> None:
    changed = {name: Spec().override(keys) != Spec() for name, keys in PRESETS.items()}
    assert changed == {name: name != "default" for name in PRESETS}


def test_an_unknown_one_names_those_there_are() -> None:
    with pytest.raises(SpecError, match="found 'quik', expected one of quick, default, thorough; did you mean quick"):
        preset("quik")
