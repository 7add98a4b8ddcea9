"""A ResNet-50's weights as arrays by layer, read from a file without making a network first.

A search needs the numbers, never Keras's own network: to build that and to load it takes twenty times as long as to
read them. What is not exactly one of the layouts known here (`keras/src/saving/saving_lib.py`,
`keras/src/legacy/saving/legacy_h5_format.py`) is left to Keras, which reads it or says what is wrong with it.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from tuner.backbones.resnet50.tables import weight_shapes

Numbers = dict[str, list[np.ndarray]]
"""By layer, in Keras's order: float32, shaped as `weight_shapes` says; conv1's kernel takes BGR."""

LARGEST = 2_000_000_000
"""Bytes of a .keras file's weights, optimizer state of whole training included."""


_begun: dict[tuple[Path, int, int], Future[Numbers | None]] = {}


def read(path: Path) -> Numbers | None:
    """The numbers in a .h5, .weights.h5 or .keras file, or None when it is not laid out exactly as expected, does not
    hold all of a ResNet-50, holds more than one, or holds numbers that are not finite.
    """
    begun = _begun.pop(_stamp(path), None)
    return begun.result() if begun is not None else _whole(path)


def begin(path: Path) -> None:
    """Begins to read a file beside what the caller does next; `read` then waits for the rest of it."""
    future: Future[Numbers | None] = Future()
    _begun[_stamp(path)] = future
    # Waited for when the process ends: h5py's lock, held by a thread that Python stops, would hold its end up for ever.
    threading.Thread(target=lambda: future.set_result(_whole(path)), name="weights").start()


def _stamp(path: Path) -> tuple[Path, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path, 0, 0
    return path, found.st_size, found.st_mtime_ns


def _whole(path: Path) -> Numbers | None:
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("model.weights.h5").file_size > LARGEST:
                    return None
                return _read(io.BytesIO(archive.read("model.weights.h5")))
        return _read(path)
    except Exception:  # whatever a damaged file makes h5py raise: Keras then says it in its way
        return None


def from_npz(path: Path) -> Numbers | None:
    """What `to_npz` wrote, or None when it is not there or not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _named([arrays[f"a{i}"] for i in range(len(arrays.files))])
    except Exception:  # a damaged cache is made again
        return None


def to_npz(file: Any, arrays: list[np.ndarray]) -> None:
    """Writes a network's arrays, those of all layers one after another."""
    named: dict[str, Any] = {f"a{i}": v for i, v in enumerate(arrays)}
    np.savez(file, **named)


def _read(source: Any) -> Numbers | None:
    import h5py

    with h5py.File(source) as file:
        top = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
        groups = _legacy(top) if "layer_names" in top.attrs else _current(top)
        if groups is None:
            return None
        found = []
        for shapes, datasets in zip(weight_shapes().values(), groups, strict=True):
            for shape, data in zip(shapes, datasets, strict=True):
                if not isinstance(data, h5py.Dataset) or data.shape != shape or data.dtype.kind != "f":
                    return None
                if data.is_virtual or data.external or data.file.filename != file.filename:
                    return None  # numbers that lie in another file
                found.append(np.asarray(data[()], np.float32))
    return _named(found) if all(np.isfinite(v).all() for v in found) else None


def _named(arrays: list[np.ndarray]) -> Numbers | None:
    left = iter(arrays)
    named = {name: [next(left) for _ in shapes] for name, shapes in weight_shapes().items()}
    shapes = [tuple(a.shape for a in of) for of in named.values()]
    return named if next(left, None) is None and shapes == list(weight_shapes().values()) else None


def _current(file: Any) -> Iterator[list[Any]] | None:
    """Keras 3: layers numbered by class in the model's order, each with its variables by number."""
    layers = file["layers"]
    holding = {name for name in layers if len(layers[name].get("vars", ()))}
    wanted, counts = [], {"conv": 0, "bn": 0}
    for name in weight_shapes():
        kind = name.rpartition("_")[2]
        stem = {"conv": "conv2d", "bn": "batch_normalization"}[kind]
        wanted.append(f"{stem}_{counts[kind]}" if counts[kind] else stem)
        counts[kind] += 1
    if holding != set(wanted) or any(len(layers[name]) != 1 for name in wanted):
        return None
    return ([of[str(i)] for i in range(len(of))] for of in (layers[name]["vars"] for name in wanted))


def _legacy(top: Any) -> Iterator[list[Any]] | None:
    """Keras 2 and ImageNet's own file: layers and their arrays by the names in attributes, in the model's order."""
    layers = [(name, _names(top[name], "weight_names")) for name in _names(top, "layer_names")]
    layers = [(name, weights) for name, weights in layers if weights]
    if len(layers) != len(weight_shapes()):
        return None
    return ([top[name][weight] for weight in weights] for name, weights in layers)


def _names(group: Any, attribute: str) -> list[str]:
    return [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs[attribute]]
