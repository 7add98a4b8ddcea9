"""What the benchmark trains on: photographs drawn here and weights made here, so that it needs nothing from outside.

    python tests/benchmarks/material.py photos FOLDER [--train 72 --val 20]
    python tests/benchmarks/material.py weights FILE.weights.h5 --photos FOLDER [--image-size 224]

The photographs are the demo's towns and countryside, as many as asked. The weights are tlstudy's own random ones (He's
initialisation, BatchNorm calibrated on the photographs), saved once: every program that is compared reads the same
file, as it would read a pretrained one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tuner.images.demo import CLASSES, draw_image  # noqa: E402
from tuner.spec.seeds import generator  # noqa: E402

VARIANTS = 8  # photographs made of one drawing when many are wanted: drawing takes longer than decoding
FEW = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("photos", "weights"))
    parser.add_argument("target", type=Path)
    parser.add_argument("--train", type=int, default=72)
    parser.add_argument("--val", type=int, default=20)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--image-size", type=int, default=224)
    o = parser.parse_args()
    if o.what == "photos":
        photographs(o.target, o.train, o.val)
    elif o.photos is None:
        parser.error("weights are calibrated on photographs: --photos FOLDER")
    else:
        weights(o.target, o.photos, o.image_size)


def photographs(folder: Path, train: int, val: int, seed: int = 0) -> None:
    """Writes `train/` and `val/`, each with both classes in it, together `train` and `val` photographs."""
    for split, total in (("train", train), ("val", val)):
        for at, name in enumerate(CLASSES):
            number = total // 2 + (at < total % 2)
            (folder / split / name).mkdir(parents=True)
            variants = 1 if number <= FEW else VARIANTS
            for first in range(0, number, variants):
                drawn = draw_image(name, generator(seed, "benchmark", split, name, first))
                for index in range(first, min(first + variants, number)):
                    rng = generator(seed, "benchmark variant", split, name, index)
                    image = drawn if index == first else _cropped(drawn, rng)
                    image.save(folder / split / name / f"{name}{index:05d}.jpg", quality=int(rng.integers(80, 95)))


def _cropped(image: object, rng: np.random.Generator) -> object:
    """Another view of a drawing: a part of it, perhaps mirrored, with grain of its own."""
    from PIL import Image

    values = np.asarray(image, np.float64)
    height, width = values.shape[:2]
    top, left = int(rng.integers(height // 4)), int(rng.integers(width // 4))
    part = values[top : top + height * 3 // 4, left : left + width * 3 // 4]
    part = (part[:, ::-1] if rng.random() < 0.5 else part) * rng.uniform(0.8, 1.1, 3) + rng.normal(0, 6, part.shape)
    return Image.fromarray(np.clip(part, 0, 255).astype(np.uint8)).resize((width, height))


def weights(file: Path, photos: Path, image_size: int) -> None:
    """Writes weights that `keras.applications.ResNet50(include_top=False, weights=file)` reads."""
    from tuner.backends import backend

    backend.start()
    import keras
    from PIL import Image

    from tuner.backbones.weights import CALIBRATION_IMAGES, Weights, load_into

    paths = sorted((photos / "train").rglob("*.*"))
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), CALIBRATION_IMAGES)).astype(int)]
    images = np.stack([np.asarray(Image.open(p).convert("RGB").resize((image_size, image_size))) for p in paths])
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(image_size, image_size, 3))
    ready = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_into(model, Weights("random", "random", None, "benchmark"), Path(cache), lambda: ready)
    model.save_weights(file)


if __name__ == "__main__":
    main()
