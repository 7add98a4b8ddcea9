"""The space of study.toml: what is finite, what is merged, and the frozen configurations spread over it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.backbones.architecture import architecture
from tuner.search import space as spaces
from tuner.search.space import HEAD_NAMES, NAMES
from tuner.spec.configuration import FIRST, HYPERPARAMETERS, REFERENCE, Configuration
from tuner.spec.spec import SpaceSpec, Spec

NETWORK = architecture(image_size=32)


def frozen(space: spaces.Space, count: int, seed: int) -> list[dict[str, Any]]:
    return [found.to_dict() for found in spaces.frozen_configurations(space, count, seed)]


def test_a_hyperparameter_stands_in_one_table_with_its_field_and_its_key() -> None:
    names = [h.name for h in HYPERPARAMETERS]
    assert names == [f.name for f in fields(SpaceSpec)]
    assert [*names, "cuts"] == [f.name for f in fields(Configuration)], "and what is no hyperparameter"


def space_of(batch_norm: str = "frozen", **values: Any) -> spaces.Space:
    return spaces.build(Spec.from_dict({"space": values, "backbone": {"batch_norm": batch_norm}}), NETWORK)


def test_every_name_is_there_as_the_kind_it_is() -> None:
    import keras_tuner

    space = space_of(
        unfrozen_layers=[0, 10],
        learning_rate={"min": 1e-4, "max": 1e-2, "sampling": "log"},
        head_width={"min": 16, "max": 64, "step": 16},
        dropout=[0.3],
        weight_decay={"min": 0.0, "max": 0.1},
        head_init=["random", "linear_probe"],
    )
    by_name = {hp.name: hp for hp in space.hyperparameters().space}
    assert tuple(by_name) == NAMES[:FIRST], "of the later ones only what is searched"
    kinds = {name: type(hp).__name__ for name, hp in by_name.items()}
    assert kinds == {
        "unfrozen_layers": "Choice",
        "learning_rate": "Float",
        "head_width": "Choice",
        "dropout": "Fixed",
        "weight_decay": "Float",
        "label_smoothing": "Fixed",
        "backbone_lr_multiplier": "Fixed",
        "head_init": "Choice",
    }
    assert by_name["head_width"].values == [16, 32, 48, 64]
    assert (by_name["learning_rate"].min_value, by_name["learning_rate"].max_value) == (1e-4, 1e-2)
    assert by_name["learning_rate"].sampling == "log" and by_name["weight_decay"].sampling == "linear"
    assert by_name["dropout"].value == 0.3
    assert isinstance(space.hyperparameters(), keras_tuner.HyperParameters)
    assert space.searched() == ("unfrozen_layers", "learning_rate", "head_width", "weight_decay", "head_init")
    further = space_of(mixup=[0.0, 0.2], augmentation=["none", "light"]).hyperparameters()
    assert [hp.name for hp in further.space] == [*NAMES[:FIRST], "augmentation", "mixup"]


def test_equal_depths_are_searched_once_and_it_is_said() -> None:
    space = space_of(unfrozen_layers=[0, 3, 10, 12, 13, 20, 175, 173])
    assert space.choices("unfrozen_layers") == (0, 10, 20, 175)
    assert len(space.notices) == 4
    assert "3 trains the same variables as 0 and is searched as 0" in space.notices[0]
    trained = space_of("trained", unfrozen_layers=[0, 3, 10])
    assert trained.choices("unfrozen_layers") == (0, 3, 10), "a BatchNorm that trains is a difference"
    assert space_of(unfrozen_layers=[0, 2]).choices("unfrozen_layers") == (0,)
    assert space_of(unfrozen_layers=10).choices("unfrozen_layers") == (10,)


@given(low=st.integers(0, 175), high=st.integers(0, 175), batch_norm=st.sampled_from(["frozen", "trained"]))
def test_a_range_of_depths_holds_each_model_once(low: int, high: int, batch_norm: str) -> None:
    low, high = sorted((low, high))
    if low == high:
        return
    space = space_of(batch_norm, unfrozen_layers={"min": low, "max": high})
    kept = spaces.depths(space)
    wanted = {NETWORK.canonical(d, batch_norm) for d in range(low, high + 1)}
    assert [NETWORK.canonical(d, batch_norm) for d in kept] == sorted(wanted)
    assert not space.notices, "a range is not a list of wishes"


def test_a_finite_space_has_a_size_and_can_be_enumerated() -> None:
    space = space_of(
        unfrozen_layers=[0, 3, 10],
        learning_rate=[1e-3, 1e-2],
        head_width=[0, 8, 16],
        dropout={"min": 0.0, "max": 0.4, "step": 0.1},
    )
    everything = list(space.everything())
    assert space.size == 2 * 2 * 3 * 5 == len(everything)
    assert len({tuple(sorted(c.items())) for c in everything}) == len(everything)
    assert everything == list(space.everything()), "in a fixed order"
    assert all(tuple(c) == NAMES for c in everything)
    assert [round(v, 9) for v in space.choices("dropout") or ()] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_a_continuous_range_has_no_end() -> None:
    assert space_of(learning_rate={"min": 1e-4, "max": 1e-2, "sampling": "log"}).size is None
    assert space_of(learning_rate=1e-3, unfrozen_layers=0, head_width={"min": 1, "max": 50}).size == 50


# ---- the frozen configurations ----

heads = st.fixed_dictionaries(
    {
        "unfrozen_layers": st.sampled_from([0, [0, 10], [10, 20]]),
        "learning_rate": st.sampled_from([1e-3, [1e-3, 1e-2], {"min": 1e-5, "max": 1e-2, "sampling": "log"}]),
        "head_width": st.sampled_from([0, [0, 8, 64], {"min": 8, "max": 64, "step": 8}]),
        "dropout": st.sampled_from([0.0, {"min": 0.1, "max": 0.5}]),
        "backbone_lr_multiplier": st.sampled_from([1.0, {"min": 0.1, "max": 1.0}]),
    }
)


@given(values=heads, count=st.integers(1, 20), seed=st.integers(0, 5))
def test_frozen_configurations_are_distinct_complete_and_inside_the_space(
    values: dict[str, Any], count: int, seed: int
) -> None:
    space = space_of(**values)
    found = frozen(space, count, seed)
    assert found == frozen(space, count, seed)
    assert len({tuple(sorted(c.items())) for c in found}) == len(found)
    different = math.prod(len(c) if (c := space.choices(n)) is not None else count for n in HEAD_NAMES)
    assert len(found) == min(count, different)
    for configuration in found:
        assert tuple(configuration) == NAMES
        assert (configuration["unfrozen_layers"], configuration["backbone_lr_multiplier"]) == (0, 1.0)
        for name in HEAD_NAMES:
            choices, limits = space.choices(name), space.values[name]
            if choices is not None:
                assert configuration[name] in choices
            else:
                assert limits.min <= configuration[name] <= limits.max  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [8, 9, 13])
def test_frozen_configurations_are_a_latin_hypercube(count: int) -> None:
    """One value in each of `count` equal parts of every range, in the logarithm where the space is; choices equally
    often."""
    space = space_of(
        learning_rate={"min": 1e-5, "max": 1e-1, "sampling": "log"},
        dropout={"min": 0.0, "max": 0.5},
        head_width=[0, 64, 128],
    )
    found = frozen(space, count, 0)
    rates = sorted(math.log10(c["learning_rate"] / 1e-5) / 4 for c in found)
    drops = sorted(c["dropout"] / 0.5 for c in found)
    for values in (rates, drops):
        assert [math.floor(v * count) for v in values] == list(range(count))
    times = Counter(c["head_width"] for c in found).values()
    assert max(times) - min(times) <= 1
    assert [c["learning_rate"] for c in found] != sorted(c["learning_rate"] for c in found), "columns are shuffled"
    assert found != frozen(space, count, 1)


def test_the_reference_is_the_tutorials_recipe() -> None:
    assert (REFERENCE.unfrozen_layers, REFERENCE.head_width, REFERENCE.learning_rate) == (0, 0, 1e-3)
    assert REFERENCE.dropout == REFERENCE.weight_decay == REFERENCE.label_smoothing == 0
