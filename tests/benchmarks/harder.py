"""A set of drawn images on which fine-tuning has something to find that frozen features show only in part.

    python tests/benchmarks/harder.py FOLDER [--number 480] [--seed 0]

Farmland from the air: parcels of ploughed rows and of orchards, on red soil and on green, as many of each in every
image. In class `red-rows` most ploughed parcels are the red ones and most orchards green, in class `green-rows` the
other way round. So both classes hold the same textures and the same colours, and only which goes with which, parcel by
parcel, tells them apart. A mean over the image loses that but for what each place's features say of the pair: a linear
classifier on frozen pooled features sees some of it, layers trained below the pooling can see more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image, ImageDraw, ImageFilter  # noqa: E402

from tuner.spec.seeds import generator  # noqa: E402

CLASSES = ("red-rows", "green-rows")
NUMBER = 480
SIDE = 160
PARCELS = 4
"""Along each side."""
FAITHFUL = 0.8
"""The share of parcels whose soil is that of the class."""
RED, GREEN = (172, 104, 70), (96, 132, 78)
_SCALE = 2  # drawn larger and reduced: edges without stairs


def draw(folder: Path, number: int = NUMBER, seed: int = 0) -> None:
    """Writes `number` images, half of each class, into class folders; the same seed draws the same ones."""
    for index in range(number):
        name = CLASSES[index % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng = generator(seed, "farmland", index)
        draw_one(name, rng).save(folder / name / f"{index:04d}.jpg", quality=int(rng.integers(82, 95)))


def draw_one(name: str, rng: np.random.Generator) -> Image.Image:
    """One image of a class, 160 x 160 pixels."""
    side = SIDE * _SCALE
    image = Image.new("RGB", (side, side), _soil((150, 146, 120), rng))
    edges = [_edges(side, rng) for _ in range(2)]
    rows = rng.permutation(np.arange(PARCELS**2) % 2).astype(bool)  # half ploughed, half orchards
    for at, ploughed in enumerate(rows.tolist()):
        left, top = edges[0][at % PARCELS], edges[1][at // PARCELS]
        right, bottom = edges[0][at % PARCELS + 1], edges[1][at // PARCELS + 1]
        red = (ploughed == (name == "red-rows")) == (rng.random() < FAITHFUL)
        parcel = _parcel(right - left - 4, bottom - top - 4, ploughed, RED if red else GREEN, rng)
        image.paste(parcel, (left + 2, top + 2))
    values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    light = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.75, 1.1)
    values = values * light + rng.normal(0, rng.uniform(3, 9), values.shape)
    seen = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return seen.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 0.8))))


def _edges(side: int, rng: np.random.Generator) -> list[int]:
    """Where parcels begin and end along one side, in pixels."""
    even = np.linspace(0, side, PARCELS + 1)
    even[1:-1] += rng.uniform(-0.15, 0.15, PARCELS - 1) * side / PARCELS
    return [int(at) for at in even]


def _soil(colour: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.array(colour) + rng.integers(-22, 23) + rng.integers(-16, 17, 3), 0, 255)
    return int(red), int(green), int(blue)


def _parcel(
    width: int, height: int, ploughed: bool, colour: tuple[int, int, int], rng: np.random.Generator
) -> Image.Image:
    soil = _soil(colour, rng)
    darker = rng.uniform(0.55, 0.8)
    plant = tuple(int(value * darker) for value in soil)
    whole = int(np.hypot(width, height)) + 4
    square = Image.new("RGB", (whole, whole), soil)
    pen, step = ImageDraw.Draw(square), float(rng.uniform(9, 14))
    for line in np.arange(0, whole, step):
        if ploughed:
            pen.rectangle((line, 0, line + step * 0.45, whole), fill=plant)
            continue
        for across in np.arange(0, whole, step):
            x, y = line + rng.uniform(-1, 1), across + rng.uniform(-1, 1)
            pen.ellipse((x, y, x + step * 0.7, y + step * 0.7), fill=plant)
    turned = square.rotate(float(rng.uniform(0, 180)), Image.Resampling.BILINEAR, fillcolor=soil)
    left, top = (whole - width) // 2, (whole - height) // 2
    return turned.crop((left, top, left + width, top + height))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=NUMBER)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    draw(o.folder, o.number, o.seed)


if __name__ == "__main__":
    main()
