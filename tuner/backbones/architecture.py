"""What a network is before it has any weights: its layers, its cuts, what they cost. Plain tables, no Keras.

A *cut* is a single tensor of the backbone that every path from the image to the pooled output goes through (as in split
learning); the layers below it are the prefix, those above it the suffix. Features are the activations at a cut.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

from tuner.backbones.layer import Layer
from tuner.backbones.resnet50 import tables


@dataclass(frozen=True, eq=False)
class Architecture:
    """A backbone from an image to its pooled features. Every question is answered from these tables.

    name: that of keys. image_size: side of the square images, in pixels. cuts: from the bottom up, first "image", last
    "pooled". shapes: what is stored of one image at each cut. table: its layers as Keras orders and counts them, the
    input among them. Batch normalisation is `batch_norm` "frozen" or "trained"; `unfrozen_layers` counts from the top.
    """

    name: str
    image_size: int
    cuts: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    table: tuple[Layer, ...] = field(repr=False)

    @property
    def layers(self) -> int:
        """Number of layers, as Keras counts them: the most that `unfrozen_layers` can be."""
        return len(self.table)

    @property
    def width(self) -> int:
        """Number of pooled features."""
        return self.shapes["pooled"][0]

    def index(self, cut: str) -> int:
        """Which of `cuts` it is. Raises ValueError for a cut of another architecture."""
        try:
            return self._places[cut]
        except KeyError:
            raise ValueError(f"{self.name} has no cut {cut!r}, expected one of {', '.join(self.cuts)}") from None

    def shape(self, cut: str) -> tuple[int, ...]:
        """Shape of what is stored of one image at the cut: (height, width, channels), or (width,) when pooled."""
        self.index(cut)
        return self.shapes[cut]

    def bytes(self, cut: str) -> int:
        """Bytes that one image takes at the cut: float32, or uint8 for the image itself."""
        return (1 if cut == "image" else 4) * math.prod(self.shape(cut))

    def nearest(self, cut: str, stored: Collection[str]) -> str:
        """The highest cut at or below `cut` that is in `stored`; the image always is."""
        return next(c for c in reversed(self.cuts[: self.index(cut) + 1]) if c in stored or c == "image")

    def macs(self, below: str, above: str) -> int:
        """Multiply-adds of one image's way from the cut `below` up to the cut `above`."""
        return max(self._macs_up_to[self.index(above)] - self._macs_up_to[self.index(below)], 0)

    def layers_above(self, cut: str) -> int:
        """Number of layers above the cut."""
        return sum(layer.region > self.index(cut) for layer in self.table)

    def trained(self, unfrozen_layers: int, batch_norm: str) -> tuple[str, ...]:
        """The layers that hold trained variables, bottom to top; BatchNorm's only when `batch_norm` is "trained"."""
        return tuple(self.table[i].name for i in self._trained(unfrozen_layers, batch_norm))

    def canonical(self, unfrozen_layers: int, batch_norm: str) -> int:
        """The smallest `unfrozen_layers` that trains the same variables: equal numbers are equal models."""
        trained = self._trained(unfrozen_layers, batch_norm)
        return self.layers - trained[0] if trained else 0

    def cut_for(self, unfrozen_layers: int, batch_norm: str) -> str:
        """The highest cut that has no trained variable below it."""
        regions = [self.table[i].region for i in self._trained(unfrozen_layers, batch_norm)]
        return self.cuts[min(regions, default=len(self.cuts)) - 1]

    def level(self, layer: str) -> int:
        """How many blocks, parts between two cuts, lie between a layer's own and the top; 0 in the topmost."""
        return len(self.cuts) - 1 - next(one.region for one in self.table if one.name == layer)

    def weight_bytes(self, unfrozen_layers: int, batch_norm: str) -> int:
        """Bytes of the float32 arrays of the trained layers, moving statistics too."""
        return 4 * sum(self.table[i].size for i in self._trained(unfrozen_layers, batch_norm))

    def step_macs(self, start: str, unfrozen_layers: int, batch_norm: str) -> tuple[int, int]:
        """Multiply-adds of (one training image, one validation image) when the suffix is fed at the stored cut `start`.

        Forward S from there; backward again what the trained layers' weights need, and the gradient of the input of
        every layer that has a trained one below it (S - D when all above the cut trains; design, "Numbers to know").
        """
        asked = start, unfrozen_layers, batch_norm
        if asked not in self._steps:
            self._steps[asked] = self._step_macs(*asked)
        return self._steps[asked]

    def _step_macs(self, start: str, unfrozen_layers: int, batch_norm: str) -> tuple[int, int]:
        forward = self.macs(start, "pooled")
        trained = set(self._trained(unfrozen_layers, batch_norm))
        moved: set[int] = set()  # layers whose output depends on a trained variable
        weights = inputs = 0
        for i, layer in enumerate(self.table):
            below = any(source in moved for source in layer.sources)
            inputs += layer.macs * below
            weights += layer.macs * (i in trained)
            if below or i in trained:
                moved.add(i)
        return forward + weights + inputs, forward

    @cached_property
    def _places(self) -> dict[str, int]:
        return {cut: i for i, cut in enumerate(self.cuts)}

    @cached_property
    def _macs_up_to(self) -> list[int]:
        each = [0] * len(self.cuts)
        for layer in self.table:
            each[layer.region] += layer.macs
        return list(accumulate(each))

    @cached_property
    def _steps(self) -> dict[tuple[str, int, str], tuple[int, int]]:
        return {}

    def _trained(self, unfrozen_layers: int, batch_norm: str) -> list[int]:
        kinds = ("weights", "batch_norm") if batch_norm == "trained" else ("weights",)
        first = self.layers - unfrozen_layers
        return [i for i in range(max(first, 0), self.layers) if self.table[i].kind in kinds]


@lru_cache(maxsize=8)
def architecture(name: str = "resnet50", *, image_size: int) -> Architecture:
    """The architecture of that name at an image size. Raises ValueError for a name that has no tables here."""
    if name != "resnet50":
        raise ValueError(f"no architecture {name!r}, expected resnet50")
    shapes = {cut: tables.feature_shape(cut, image_size) for cut in tables.CUTS}
    return Architecture(name, image_size, tables.CUTS, shapes, tables.table(image_size))
