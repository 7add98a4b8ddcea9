"""One point of the space, and the one table of what there is to search.

A further hyperparameter is a row of `HYPERPARAMETERS`, a field of `Configuration` and of `spec.SpaceSpec` (a test holds
the three equal), and what the trainer does with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Hyperparameter:
    """`label`: what tables call it. `whole`: whole numbers only. `frozen`: means something for a frozen backbone.
    `decades`: spans some, and is written so.
    """

    name: str
    label: str
    whole: bool = False
    frozen: bool = True
    decades: bool = False


HYPERPARAMETERS = (
    Hyperparameter("unfrozen_layers", "unfrozen layers", whole=True, frozen=False),
    Hyperparameter("learning_rate", "learning rate", decades=True),
    Hyperparameter("head_width", "head width", whole=True),
    Hyperparameter("dropout", "dropout"),
    Hyperparameter("weight_decay", "weight decay", decades=True),
    Hyperparameter("label_smoothing", "label smoothing"),
    Hyperparameter("backbone_rate", "backbone rate", frozen=False),
    Hyperparameter("fitted_head", "fitted head", whole=True),
)


@dataclass(frozen=True)
class Configuration:
    """A value for every hyperparameter. `learning_rate` None: not trained by gradient descent (logistic regression)."""

    unfrozen_layers: int = 0
    learning_rate: float | None = None
    head_width: int = 0
    dropout: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    backbone_rate: float = 1.0
    fitted_head: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Configuration:
        """What `to_dict` gave, today or before there were all of these; other keys are left aside."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def to_dict(self) -> dict[str, int | float]:
        """Plain JSON values; of logistic regression only those that mean something."""
        if self.learning_rate is None:
            return {"unfrozen_layers": self.unfrozen_layers, "head_width": self.head_width, "dropout": self.dropout}
        return asdict(self)

    @property
    def network(self) -> tuple[int, int, bool]:
        """What needs a compiled network of its own: unfrozen layers, head width, whether there is dropout."""
        return self.unfrozen_layers, self.head_width, self.dropout > 0

    @property
    def rate(self) -> float:
        """The learning rate of what is trained by gradient descent."""
        if self.learning_rate is None:
            raise ValueError("logistic regression has no learning rate")
        return self.learning_rate


LOGISTIC = Configuration()
"""L2 logistic regression on the pooled features: no hidden layer, nothing unfrozen, no learning rate."""

REFERENCE = Configuration(learning_rate=1e-3)
"""The tutorial's own recipe: pooled features straight to the classes, Adam at 1e-3."""
