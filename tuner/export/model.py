"""The whole network as one Keras model, from photographs, or from decoded squares, to class probabilities.

From photographs it takes raw RGB of any size (uint8, or floats from 0 to 255), resizes and preprocesses them itself. It
is made of Keras's own layers only, so plain `keras.models.load_model` reads it in safe mode without this package. The
class names stand in it:

    keras.models.load_model("model.keras").get_layer("classes").bias_initializer.value
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.backbones.backbone import Backbone
from tuner.features import sets


def build(
    backbone: Backbone,
    checkpoint: Mapping[str, np.ndarray],
    *,
    unfrozen_layers: int,
    head_width: int,
    several_cuts: bool = False,
    batch_norm: str,
    precision: str,
    resize: str,
    classes: Sequence[str],
    squares: bool = False,
    mirrored: bool = False,
) -> Any:
    """The Keras model: (b, height, width, 3) RGB 0..255 to (b, classes) probabilities, with the checkpoint's weights in
    it; `squares`: it takes (b, side, side, 3) decoded squares and has no layer that resizes; `mirrored`: the
    probabilities are the mean over each image and its mirror image; `several_cuts`: the checkpoint is that of a
    regression on several.
    """
    import keras

    from tuner.training import logistic, several
    from tuner.training.head import head_layers

    photograph, x = _entrance(backbone.image_size, resize, squares)
    if mirrored:  # one pass over twice the batch: the squares, then the same with their columns reversed
        x = keras.ops.concatenate([x, keras.ops.flip(x, axis=2)], axis=0)
    # The prefix in float32 and the suffix at the study's precision, cut where the trial's network was cut.
    architecture = backbone.architecture
    depth = architecture.canonical(unfrozen_layers, batch_norm)
    cut = architecture.cut_for(depth, batch_norm)
    features = architecture.width
    if several_cuts:
        fit = several.Fit.of(checkpoint, architecture)
        x = _named(backbone.stock_means(fit.cuts), f"{architecture.name}_frozen")(x)
        checkpoint, features = dict(zip(logistic.NAMES, (fit.kernel, fit.bias), strict=True)), len(fit.kernel)
    elif cut == "pooled":
        x = _named(backbone.stock_prefix("image", [cut]), f"{architecture.name}_frozen")(x)
    else:
        first = "head_hidden/kernel" if head_width else "head_logits/kernel"
        cuts = sets.of_width(architecture, features := len(checkpoint[first]))
        beside = sets.beside(cuts, cut, architecture)
        joined = []
        if beside:
            x, *joined = _named(backbone.stock_prefix_with_means(cut, beside), f"{architecture.name}_frozen")(x)
        elif cut != "image":
            x = _named(backbone.stock_prefix("image", [cut]), f"{architecture.name}_frozen")(x)
        above = [name for name in cuts if name != "pooled" and name not in beside]
        suffix = backbone.stock_suffix(cut, depth, batch_norm, precision, above)
        _assign(suffix, checkpoint)
        found = _named(suffix, f"{architecture.name}_trained")(x)
        joined = [*(found if above else [found]), *joined]
        x = keras.layers.Concatenate(name="head_features", dtype="float32")(joined) if len(joined) > 1 else joined[0]
    for layer in head_layers(head_width, classes=len(classes), features=features, precision=precision):
        for variable in layer.weights:
            variable.assign(checkpoint[variable.path])
        x = layer(x)
    # Logits of every class: [0, z] for the one logit of two classes. The bias is unused, its initializer holds the
    # names: the one place in Keras's own layers for a list of texts that survives saving and safe loading.
    logits = keras.layers.Dense(
        len(classes),
        use_bias=False,
        trainable=False,
        name="classes",
        dtype="float32",
        bias_initializer=keras.initializers.Constant(list(classes)),
    )
    x = logits(x)
    logits.set_weights(
        [np.array([[0.0, 1.0]], np.float32) if len(classes) == 2 else np.eye(len(classes), dtype=np.float32)]
    )
    x = keras.layers.Softmax(name="probabilities", dtype="float32")(x)
    if mirrored:
        x = keras.ops.mean(keras.ops.reshape(x, (2, -1, len(classes))), axis=0)
    return keras.Model(photograph, x, name="tlstudy")


def _entrance(side: int, resize: str, squares: bool) -> tuple[Any, Any]:
    """The input, and whole numbers (b, side, side, 3) from it: photographs were decoded to those before training."""
    import keras

    if squares:
        square = keras.Input((side, side, 3), name="square")
        return square, keras.ops.round(square)
    photograph = keras.Input((None, None, 3), name="photograph")
    resized = keras.layers.Resizing(
        side,
        side,
        interpolation="bilinear",
        antialias=True,
        crop_to_aspect_ratio=resize == "crop",
        pad_to_aspect_ratio=resize == "pad",
        name="resize",
    )(photograph)
    return photograph, keras.ops.round(resized)


def _assign(model: Any, checkpoint: Mapping[str, np.ndarray]) -> None:
    for variable in model.variables:
        if variable.path in checkpoint:
            variable.assign(checkpoint[variable.path])


def _named(model: Any, name: str) -> Any:
    model.name = name
    return model
