"""The names that callers knew before there was a protocol; goes with the last of them."""

from __future__ import annotations

import numpy as np

from tuner.backbones.resnet50.backbone import ResNet50
from tuner.backbones.resnet50.tables import IMAGENET_MEAN_RGB

__all__ = ["IMAGENET_MEAN_RGB", "Backbone"]


class Backbone(ResNet50):
    """A ResNet-50 whose calibration images come preprocessed."""

    def _calibration(self) -> np.ndarray:
        return self._calibration_images()
