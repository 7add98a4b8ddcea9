"""ResNet-50 by functions, for callers that do not ask an `Architecture` yet; goes with the last of them."""

from __future__ import annotations

from tuner.backbones.architecture import architecture
from tuner.backbones.resnet50.tables import CUTS, layer_names

__all__ = ["CUTS", "canonical", "cut_for", "cut_layer", "feature_bytes", "feature_shape", "layer_names"]

_ANY = 224  # what does not depend on the size


def cut_layer(cut: str) -> str:
    from tuner.backbones.resnet50.tables import cut_layer

    return {"image": layer_names()[0], "pooled": layer_names()[-1]}.get(cut) or cut_layer(cut)


def trained_layers(unfrozen_layers: int, batch_norm: str = "frozen") -> tuple[str, ...]:
    return architecture(image_size=_ANY).trained(unfrozen_layers, batch_norm)


def canonical(unfrozen_layers: int, batch_norm: str = "frozen") -> int:
    return architecture(image_size=_ANY).canonical(unfrozen_layers, batch_norm)


def cut_for(unfrozen_layers: int, batch_norm: str = "frozen") -> str:
    return architecture(image_size=_ANY).cut_for(unfrozen_layers, batch_norm)


def feature_shape(cut: str, image_size: int) -> tuple[int, ...]:
    return architecture(image_size=image_size).shape(cut)


def feature_bytes(cut: str, image_size: int) -> int:
    return architecture(image_size=image_size).bytes(cut)


def multiply_adds(below: str, above: str, image_size: int) -> int:
    return architecture(image_size=image_size).macs(below, above)


def step_cost(start: str, unfrozen_layers: int, image_size: int, batch_norm: str = "frozen") -> tuple[int, int]:
    return architecture(image_size=image_size).step_macs(start, unfrozen_layers, batch_norm)
