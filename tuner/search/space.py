"""The space of study.toml as KerasTuner HyperParameters, and what is finite in it.

`unfrozen_layers` values that train the same variables are one value here: searching both would be computing twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tuner.backbones.architecture import Architecture
from tuner.backends.choosing import sparing
from tuner.spec.configuration import FIRST, HYPERPARAMETERS, Configuration
from tuner.spec.seeds import generator
from tuner.spec.spec import Range, Searched, Spec

WHOLE = tuple(h.name for h in HYPERPARAMETERS if h.whole)
NAMES = tuple(h.name for h in HYPERPARAMETERS)
HEAD_NAMES = tuple(h.name for h in HYPERPARAMETERS if h.frozen)


@dataclass(frozen=True)
class Space:
    """The searched values by name, equal depths merged. `notices` says what was merged. `drifting`: a stepped range's
    values as studies under numerics 3 had them, 0.1 + 2 * 0.1 = 0.30000000000000004.
    """

    values: Mapping[str, Searched]
    notices: tuple[str, ...]
    drifting: bool = False

    @property
    def size(self) -> int | None:
        """Number of configurations, None when there is no end of them."""
        total = 1
        for name in NAMES:
            choices = self.choices(name)
            if choices is None:
                return None
            total *= len(choices)
        return total

    def choices(self, name: str) -> tuple[Any, ...] | None:
        """The values of one hyperparameter, None for a continuous range."""
        value = self.values[name]
        if not isinstance(value, Range):
            return value if isinstance(value, tuple) else (value,)
        if value.step is None and name not in WHOLE:
            return None
        if self.drifting:
            found = tuple(value.min + i * (value.step or 1) for i in range(value.steps() + 1))
        else:
            found = value.grid()
        return tuple(int(v) for v in found) if name in WHOLE else found

    def searched(self) -> tuple[str, ...]:
        """Names with more than one value."""
        return tuple(n for n in NAMES if (c := self.choices(n)) is None or len(c) > 1)

    def fixed(self) -> dict[str, Any]:
        """The hyperparameters with a single value."""
        return {n: choices[0] for n in NAMES if (choices := self.choices(n)) is not None and len(choices) == 1}

    def everything(self) -> Iterator[dict[str, Any]]:
        """Every configuration of a finite space, in a fixed order."""
        lists = [self.choices(n) or () for n in NAMES]
        for values in itertools.product(*lists):
            yield dict(zip(NAMES, values, strict=True))

    def hyperparameters(self) -> Any:
        """`keras_tuner.HyperParameters` with the first ones, the fixed ones as Fixed, and what else is searched."""
        with sparing():
            import keras_tuner

        hp = keras_tuner.HyperParameters()
        searched = self.searched()
        for name in [n for i, n in enumerate(NAMES) if i < FIRST or n in searched]:
            choices, value = self.choices(name), self.values[name]
            if choices is not None and len(choices) == 1:
                hp.Fixed(name, choices[0])
            elif choices is not None:
                hp.Choice(name, list(choices), ordered=not isinstance(choices[0], str))
            else:
                limits = cast(Range, value)  # only a range is continuous
                hp.Float(name, limits.min, limits.max, sampling=limits.sampling)
        return hp


def build(spec: Spec, architecture: Architecture, *, drifting: bool = False) -> Space:
    """The space of a study, with depths that train the same variables merged into the first of them."""
    values: dict[str, Searched] = {n: getattr(spec.space, n) for n in NAMES}
    notices = []
    depths = Space(values, ()).choices("unfrozen_layers") or ()
    kept: dict[int, int] = {}
    for depth in (int(d) for d in depths):
        same = kept.setdefault(architecture.canonical(depth, spec.backbone.batch_norm), depth)
        if same != depth and not isinstance(values["unfrozen_layers"], Range):
            notices.append(f"unfrozen_layers {depth} trains the same variables as {same} and is searched as {same}.")
    values["unfrozen_layers"] = tuple(kept.values()) if len(kept) > 1 else next(iter(kept.values()))
    return Space(values, tuple(notices), drifting)


def depths(space: Space) -> tuple[int, ...]:
    """Every depth that can be asked for."""
    return tuple(int(d) for d in space.choices("unfrozen_layers") or ())


def head_widths(space: Space) -> tuple[int, ...]:
    """Every width of the head's hidden layer that can be asked for, 0 for none."""
    return tuple(int(w) for w in space.choices("head_width") or ())


def augmentations(space: Space) -> tuple[str, ...]:
    """Every augmentation that can be asked for, "none" too."""
    return tuple(space.choices("augmentation") or ())


def frozen_configurations(space: Space, count: int, seed: int) -> list[Configuration]:
    """`count` distinct configurations of the frozen backbone, spread over the head's part of the space.

    A Latin hypercube (McKay, Beckman and Conover 1979): each continuous range is cut into `count` equal parts (in the
    logarithm where the space is), one value is drawn in each, choices come equally often, and the columns are shuffled
    independently. Fewer come back when the head's part of the space has fewer.
    """
    columns: dict[str, list[Any]] = {}
    column: list[Any]
    for name in HEAD_NAMES:
        draw = generator(seed, "baseline", name)
        choices, value = space.choices(name), space.values[name]
        if choices is not None:
            shuffled = [choices[i] for i in draw.permutation(len(choices))]
            column = [shuffled[i % len(shuffled)] for i in range(count)]
        else:
            limits = cast(Range, value)
            points = (draw.permutation(count) + draw.random(count)) / count
            if limits.sampling == "log":
                column = [float(limits.min * (limits.max / limits.min) ** p) for p in points]
            else:
                column = [float(limits.min + (limits.max - limits.min) * p) for p in points]
        columns[name] = [column[i] for i in draw.permutation(count)]
    every: list[dict[str, Any]] = [{n: columns[n][i] for n in HEAD_NAMES} for i in range(count)]
    heads = [space.choices(n) for n in HEAD_NAMES]
    if all(c is not None for c in heads):
        products = itertools.product(*[c for c in heads if c is not None])
        every += [dict(zip(HEAD_NAMES, values, strict=True)) for values in itertools.islice(products, 2 * count)]
    found = list(dict.fromkeys(Configuration.from_dict(values) for values in every))
    return found[:count]
