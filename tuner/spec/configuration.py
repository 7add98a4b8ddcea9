"""One point of the space, and the one table of what there is to search.

A further hyperparameter is a row of `HYPERPARAMETERS`, a field of `Configuration` and of `spec.SpaceSpec` (a test holds
the three equal), and what the trainer does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Hyperparameter:
    """`label`: what tables call it. `whole`: whole numbers only. `frozen`: means something for a frozen backbone.
    `decades`: spans some, and is written so. `words`: its values, where they are words; it has no range then.
    """

    name: str
    label: str
    whole: bool = False
    frozen: bool = True
    decades: bool = False
    words: tuple[str, ...] = ()


AUGMENTATIONS = ("none", "flip", "light", "strong")

HYPERPARAMETERS = (
    Hyperparameter("unfrozen_layers", "unfrozen layers", whole=True, frozen=False),
    Hyperparameter("learning_rate", "learning rate", decades=True),
    Hyperparameter("head_width", "head width", whole=True),
    Hyperparameter("dropout", "dropout"),
    Hyperparameter("weight_decay", "weight decay", decades=True),
    Hyperparameter("label_smoothing", "label smoothing"),
    Hyperparameter("backbone_lr_multiplier", "LR multiplier", frozen=False),
    Hyperparameter("head_init", "head init", frozen=False, words=("random", "linear_probe")),
    Hyperparameter("layer_decay", "layer decay", frozen=False),
    Hyperparameter("augmentation", "augmentation", words=AUGMENTATIONS),
    Hyperparameter("mixup", "mixup"),
    Hyperparameter("head_features", "head features", frozen=False, words=("pooled", "several")),
)
FIRST = 8
"""So many of them have always been given to KerasTuner, fixed or not: a further one only where it is searched, so that
the same seed draws the same configurations whatever hyperparameters are added."""

RENAMED: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "backbone_rate": ("backbone_lr_multiplier", lambda value: value),
    "fitted_head": ("head_init", lambda value: _head_init(value)),
}
"""Earlier names, today's, and what a value under the earlier one is today."""


def _head_init(value: Any) -> Any:
    """Of `fitted_head`: 0, 1 or a list of them; none of none. Raises ValueError for anything else."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and value:
        return [_head_init(one) for one in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in (0, 1):
        return ("random", "linear_probe")[int(value)]
    raise ValueError("0 or 1")


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under today's names. Raises ValueError for one that cannot be."""
    return dict((RENAMED[k][0], RENAMED[k][1](v)) if k in RENAMED else (k, v) for k, v in values.items())


@dataclass(frozen=True)
class Configuration:
    """A value for every hyperparameter. `learning_rate` None: not trained by gradient descent (logistic regression).

    cuts: "" for features at one cut; "several" for logistic regression on the means at several cuts, which are chosen
    while it is fitted; the names of those when they are, from the top: "pooled, conv5_block2".
    """

    unfrozen_layers: int = 0
    learning_rate: float | None = None
    head_width: int = 0
    dropout: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    backbone_lr_multiplier: float = 1.0
    head_init: str = "random"
    layer_decay: float = 1.0
    augmentation: str = "none"
    mixup: float = 0.0
    head_features: str = "pooled"
    cuts: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        """What `to_dict` gave, today or before there were all of these; other keys are left aside."""
        known = renamed(values)
        return cls(**{f.name: known[f.name] for f in fields(cls) if f.name in known})

    def to_dict(self) -> dict[str, int | float | str]:
        """Plain JSON values; of logistic regression only those that mean something."""
        if self.learning_rate is None:
            found: dict[str, int | float | str] = {
                name: getattr(self, name) for name in ("unfrozen_layers", "head_width", "dropout")
            }
            found |= {"cuts": self.cuts} if self.cuts else {}
            return found | ({"augmentation": self.augmentation} if self.augmentation != "none" else {})
        return {name: value for name, value in asdict(self).items() if name != "cuts"}

    @property
    def network(self) -> tuple[int, int, bool]:
        """What needs a compiled network of its own: unfrozen layers, head width, whether there is dropout."""
        return self.unfrozen_layers, self.head_width, self.dropout > 0

    @property
    def reads_several(self) -> bool:
        """Whether its head reads the means at several cuts: of a frozen backbone that is logistic regression's."""
        return self.unfrozen_layers > 0 and self.head_features == "several"

    @property
    def rate(self) -> float:
        """The learning rate of what is trained by gradient descent."""
        if self.learning_rate is None:
            raise ValueError("logistic regression has no learning rate")
        return self.learning_rate


LOGISTIC = Configuration()
"""L2 logistic regression on the pooled features: no hidden layer, nothing unfrozen, no learning rate."""

SEVERAL_CUTS = Configuration(cuts="several")
"""The same on the means at several cuts."""

REFERENCE = Configuration(learning_rate=1e-3)
"""The tutorial's own recipe: pooled features straight to the classes, Adam at 1e-3."""
