"""Which class runs an architecture: the one place that chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tuner.backbones.architecture import Architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.resnet50.backbone import ResNet50
from tuner.backbones.weights import Weights


def load(architecture: Architecture, weights: Weights, cache: Path, images: Callable[[], np.ndarray]) -> Backbone:
    """The backbone, its numbers read when they are first asked for. `images()` gives training images, RGB 0..255
    (n, side, side, 3) of any dtype; only random weights ask for them, to be calibrated.
    """
    return ResNet50(architecture.image_size, weights, cache, images)
