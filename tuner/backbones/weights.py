"""Where the backbone's weights come from: ImageNet through Keras's own cache, a file, or none at all ("random").

Only numbers are ever read from a file: the network is built from our own code and no model configuration is
deserialised.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts.entries import Artifacts
from tuner.artifacts.files import home, sha256_of
from tuner.backbones.resnet50 import numbers
from tuner.backends.choosing import keras_folder
from tuner.errors import WeightsError
from tuner.spec.seeds import generator

NOTOP = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
DOWNLOAD = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{NOTOP}"
DOWNLOAD_MD5 = "4d473c1dd8becc155b73f8504c6f6626"
CALIBRATION_IMAGES = 32
BUDGET = 2_000_000_000  # bytes of all calibrated random weights; those unused for longest go
_NAME = "weights.npz"
RESIDUAL = 0.2


@dataclass(frozen=True)
class Weights:
    """Weights that can be had. `key` changes when any number in them does; `path` is None for random ones."""

    kind: str  # "imagenet", "file" or "random"
    name: str  # what tables call them
    path: Path | None
    key: str

    @property
    def pretrained(self) -> bool:
        return self.kind != "random"


def find(
    wanted: tuple[str, ...], base: Path, seed: int, image_key: str, *, architecture: str = "resnet50"
) -> tuple[Weights, list[str]]:
    """The first of `wanted` that can be had, and why each one before it cannot. `image_key`: of what random weights are
    calibrated on.

    A relative file counts from the folder `base`, then from the working folder. Raises WeightsError when none can be
    had.
    """
    reasons: list[str] = []
    for name in wanted:
        if name == "random":
            # ResNet-50's has no name in it: studies from before there were others hold it, and the draws begin there.
            named = "" if architecture == "resnet50" else f"{architecture}-"
            return Weights("random", "random", None, f"random2-{named}{seed}-{image_key}"), reasons
        try:
            if name == "imagenet":
                path = imagenet_file()
                return Weights("imagenet", "imagenet", path, sha256_of(path)), reasons
            path = _file(name, base)
            return Weights("file", path.name, path, sha256_of(path)), reasons
        except WeightsError as error:
            reasons.append(str(error))
    raise WeightsError("\n".join(reasons))


def check_named(wanted: tuple[str, ...], base: Path) -> None:
    """Whether `find` could find one of them, by the names alone: nothing is read, fetched or loaded.

    Raises WeightsError as `find` does.
    """
    reasons: list[str] = []
    for name in wanted:
        try:
            if name not in ("imagenet", "random"):
                _file(name, base)
            return
        except WeightsError as error:
            reasons.append(str(error))
    raise WeightsError("\n".join(reasons))


def begin(wanted: tuple[str, ...], base: Path) -> None:
    """Begins to read the file that `find` is likely to find, beside what the caller does next."""
    if (name := wanted[0]) == "random":
        return
    with contextlib.suppress(WeightsError):
        path = keras_cache() / NOTOP if name == "imagenet" else _file(name, base)
        if path.is_file():
            numbers.begin(path)


def imagenet_file() -> Path:
    """ImageNet's file in Keras's cache, downloaded by Keras if it is not there. Raises WeightsError."""
    import keras

    cached = keras_cache() / NOTOP
    if cached.exists() and not cached.is_file():  # Keras would wait for a pipe for ever
        raise WeightsError(f"{cached}: found no regular file, expected ImageNet's weights. Move it away.")
    try:
        # Keras sets no time limit of its own and prints its progress to standard output.
        with _socket_timeout(20.0), contextlib.redirect_stdout(io.StringIO()):
            return Path(keras.utils.get_file(NOTOP, DOWNLOAD, cache_subdir="models", file_hash=DOWNLOAD_MD5))
    except Exception as error:
        raise WeightsError(
            f"ImageNet's weights are not in Keras's cache ({cached}) and cannot be downloaded here ({_short(error)}). "
            f"On a machine with a network fetch {DOWNLOAD} and put it there, or name the file: --weights {NOTOP}. "
            "--weights random goes on without pretraining."
        ) from error


def keras_cache() -> Path:
    """The folder in which Keras keeps downloaded weights."""
    return keras_folder() / "models"


def known(weights: Weights, cache: Path) -> numbers.Numbers | None:
    """The weights by layer where they can be had without a network; else `load_into` has to be asked."""
    if weights.path is not None:
        return numbers.read(weights.path)
    entry = Artifacts(cache / "weights").open(weights.key)
    return numbers.from_npz(entry.folder / _NAME) if entry is not None else None


def load_into(model: Any, weights: Weights, cache: Path, calibration_images: Any) -> None:
    """Fills the ResNet-50 `model` (include_top=False, BGR as Keras ships it). Raises WeightsError.

    `calibration_images()` gives preprocessed training images (n, side, side, 3) float32; only random weights ask for
    it, and only in the first of the processes that calibrate the same ones: all of them take what that one published.
    """
    if weights.path is not None:
        _load_file(model, weights.path)
        return

    def calibrate(folder: Path) -> str:
        _randomise(model, weights.key, calibration_images())
        with open(folder / _NAME, "xb") as file:
            numbers.to_npz(file, model.get_weights())
        return weights.name

    artifacts = Artifacts(cache / "weights")
    entry = artifacts.made(weights.key, calibrate, "calibrating the same random weights")
    if (found := numbers.from_npz(entry.folder / _NAME)) is None:
        raise WeightsError(
            f"{entry.folder}: not a ResNet-50's numbers; expected those calibrated here. Remove that folder alone: the "
            "next search calibrates them again, to the same numbers."
        )
    for name, arrays in found.items():
        model.get_layer(name).set_weights(arrays)
    artifacts.prune(BUDGET)


def _file(name: str, base: Path) -> Path:
    given = home(name)
    for path in [given] if given.is_absolute() else [base / given, Path.cwd() / given]:
        if os.path.isfile(path):  # pathlib's raises for a name too long
            if not re.search(r"\.(h5|keras)$", path.name):
                raise WeightsError(f"{path}: weights files end in .h5, .weights.h5 or .keras.")
            return path
    raise WeightsError(
        f"weights file {name} was not found (looked in {base} and {Path.cwd()}). "
        'Name an existing .h5, .weights.h5 or .keras file, or use "imagenet" or "random".'
    )


def _load_file(model: Any, path: Path) -> None:
    before = [np.array(v) for v in model.get_weights() if v.ndim == 4]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns once for each of another network's layers; the checks decide
            _read(model, path)
    except Exception as error:
        raise WeightsError(
            f"{path}: these are not the weights of a ResNet-50 without its top ({_short(error)}). Expected a file "
            "saved from "
            "keras.applications.ResNet50(include_top=False), such as " + NOTOP + "."
        ) from error
    after = [v for v in model.get_weights() if v.ndim == 4]
    if any(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
        raise WeightsError(f"{path}: loading it left kernels as they were; it does not hold all of a ResNet-50.")
    if not all(np.isfinite(v).all() for v in model.get_weights()):
        raise WeightsError(f"{path}: holds numbers that are not finite; the file is damaged.")


def _refuse_top(path: Path) -> None:
    """Keras's own formats load the body of a network with a top in silence; older files then fail by their layers."""
    import h5py

    with h5py.File(path) as file:
        layers = file.get("layers", file.get("_layer_checkpoint_dependencies", {}))
        if top := [name for name in layers if name.startswith(("dense", "predictions")) and len(layers[name])]:
            raise ValueError(f"it has a top, {top[0]}")


def _read(model: Any, path: Path) -> None:
    if path.suffix != ".keras":
        _refuse_top(path)
        model.load_weights(path)
        return
    # Only the numbers: the configuration inside the archive is never read.
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.weights.h5"
        size = archive.getinfo("model.weights.h5").file_size
        if size > numbers.LARGEST:
            raise ValueError(f"its weights are {size / 1e9:.1f} GB unpacked, a ResNet-50's are 0.1")
        with archive.open("model.weights.h5") as source, open(plain, "wb") as target:
            shutil.copyfileobj(source, target)
        _refuse_top(plain)
        model.load_weights(plain)


def _randomise(model: Any, key: str, images: np.ndarray) -> None:
    """He et al.'s (ICCV 2015) normal initialisation, then BatchNorm statistics from one pass over training images.

    Each residual branch starts at a fifth of its size (the last gamma of a block; Goyal et al. 2017 take zero): frozen
    random features then keep more of the image, 97 instead of 72 % by a linear probe on the demo's photographs at
    conv4_block6. One forward pass in training mode with momentum 0 leaves each BatchNorm with the statistics of its own
    input, layers below being normalised already, so features come out of order one.
    """
    norms = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Conv2D":
            shape = tuple(layer.kernel.shape)
            draw = generator("random weights", key, layer.name)
            spread = np.sqrt(2.0 / np.prod(shape[:-1]))
            layer.set_weights([draw.normal(0.0, spread, shape).astype(np.float32), np.zeros(shape[-1], np.float32)])
        elif kind == "BatchNormalization":
            norms.append(layer)
            if layer.name.endswith("_3_bn"):
                layer.gamma.assign(np.full(layer.gamma.shape, RESIDUAL, np.float32))
    momenta = [n.momentum for n in norms]
    for norm in norms:
        norm.momentum = 0.0
    _one_pass(model, images[:CALIBRATION_IMAGES])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _one_pass(model: Any, images: np.ndarray) -> None:
    """A forward pass in training mode that lets go of each activation after its last reader: Keras's own keeps all of
    them, six gigabytes for 64 images of 224 pixels.
    """
    layers = model.layers
    read = {layer.name: [node.operation.name for node in layer._inbound_nodes[0].parent_nodes] for layer in layers}
    last = {name: layer.name for layer in layers for name in read[layer.name]}
    values = {layers[0].name: images}
    for layer in layers[1:]:
        given = [values[name] for name in read[layer.name]]
        values[layer.name] = layer(given if len(given) > 1 else given[0], training=True)
        del given
        values = {name: value for name, value in values.items() if last.get(name) != layer.name}


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _short(error: BaseException) -> str:
    """An error in one line, without Keras's terminal colours and the address said elsewhere, at most 160 characters."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace(f" on {DOWNLOAD}", "").strip() or type(error).__name__
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:157] + "..."
