"""The demo's images, drawn here: towns and countryside in every light, so that a first search needs no data.

The two overlap on purpose: villages among trees, towns with parks, fog, dusk, snow and film grain. Colour alone does
not tell them apart; shapes do.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tuner.artifacts.entries import workspace
from tuner.errors import DataError
from tuner.images.names import listed, shown
from tuner.spec.seeds import generator

CLASSES = ("countryside", "town")
NUMBERS = {"train": 48, "val": 20, "test": 50}
"""Images of each class."""

_FILES = {
    f"{split}/{name}/{name}{index:02d}.jpg": (split, name, index)
    for split, number in NUMBERS.items()
    for name in CLASSES
    for index in range(number)
}
_SCALE = 2  # drawn larger and reduced: straight edges without stairs

Colour = tuple[int, int, int]


def draw(folder: Path, seed: int = 0) -> None:
    """Writes `train/`, `val/` and `test/` with `countryside/` and `town/` in each into `folder`, unless it holds them.

    The folder appears whole or not at all. The same seed draws the same images. Raises DataError when it holds other
    files.
    """
    if links := [path for path in _folders(folder) if path.is_symlink()]:
        raise DataError(f"{shown(links[0])}: is a link, expected a folder that the demo draws into. Move it away.")
    if complete(folder):
        return
    if strange := [path for path in folder.rglob("*") if path.is_file() and not _ours(path, folder)]:
        raise DataError(
            f"{shown(folder)}: found {listed(path.name for path in strange[:3])} where the demo's photographs go; "
            "expected an empty or a new folder. Move these files elsewhere, or run it in another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with workspace(folder.parent) as staged:
        temporary = staged.folder / "photos"
        for file, (split, name, index) in _FILES.items():
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            rng = generator(seed, "demo", split, name, index)
            draw_image(name, rng).save(temporary / file, quality=int(rng.integers(80, 95)))
        try:
            os.rename(temporary, folder)
        except OSError:  # it exists: another process was quicker, or some images were removed
            for file in _FILES:
                if not (folder / file).exists():
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(temporary / file, folder / file)


def complete(folder: Path) -> bool:
    """True when every image of the demo is there."""
    return all((folder / file).is_file() for file in _FILES)


def _folders(folder: Path) -> list[Path]:
    return [folder, *(folder / split for split in NUMBERS), *(folder / s / name for s in NUMBERS for name in CLASSES)]


def _ours(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return len(parts) == 3 and parts[0] in NUMBERS and parts[1] in CLASSES and parts[2].startswith(parts[1])


def draw_image(name: str, rng: np.random.Generator) -> Image.Image:
    """One image of class `name`, about 160 x 120 pixels, either way up."""
    width, height = int(rng.integers(144, 200)), int(rng.integers(108, 150))
    if rng.random() < 0.15:
        width, height = height, width
    scene = _Scene(width * _SCALE, height * _SCALE, rng)
    scene.sky()
    scene.countryside() if name == "countryside" else scene.town()
    return _weather(scene.image.resize((width, height), Image.Resampling.BOX), rng)


class _Scene:
    """A canvas, a horizon and the few things that stand on it."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.width, self.height, self.rng = width, height, rng
        self.image = Image.new("RGB", (width, height))
        self.pen = ImageDraw.Draw(self.image)
        self.horizon = int(height * rng.uniform(0.38, 0.6))

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def vary(self, colour: Colour, by: int = 18) -> Colour:
        shift = self.rng.integers(-by, by + 1) + self.rng.integers(-by // 2, by // 2 + 1, 3)
        red, green, blue = np.clip(np.array(colour) + shift, 0, 255)
        return int(red), int(green), int(blue)

    def pick(self, *colours: Colour) -> Colour:
        return self.vary(colours[int(self.rng.integers(len(colours)))])

    def ground(self, depth: float) -> float:
        """The height at which something stands, from 0, the horizon, to 1, the bottom edge."""
        return self.horizon + depth * (self.height - self.horizon)

    # ---- sky and ground ----

    def sky(self) -> None:
        top = self.pick((92, 148, 214), (120, 160, 205), (150, 160, 172), (88, 104, 140), (70, 120, 190))
        low = self.pick((196, 216, 236), (214, 214, 210), (236, 206, 170), (180, 190, 200))
        part = np.linspace(0, 1, self.height)[:, None, None] ** 0.8
        blend = np.array(top) * (1 - part) + np.array(low) * part
        self.image.paste(Image.fromarray(np.repeat(blend.astype(np.uint8), self.width, axis=1)))
        if self.rng.random() < 0.45:
            x, y = self.between(0, self.width), self.between(0, self.horizon * 0.7)
            r = self.between(0.03, 0.06) * self.width
            self.pen.ellipse((x - r, y - r, x + r, y + r), fill=self.pick((255, 244, 190), (255, 226, 160)))
        for _ in range(int(self.rng.integers(0, 5))):
            x, y = self.between(-0.1, 1) * self.width, self.between(0, 0.6) * self.horizon
            for _ in range(5):
                w, h = self.between(0.06, 0.16) * self.width, self.between(0.02, 0.05) * self.height
                dx = self.between(-0.08, 0.08) * self.width
                self.pen.ellipse((x + dx - w, y - h, x + dx + w, y + h), fill=self.vary((232, 234, 238), 8))

    def hill(self, base: float, swing: float, colour: Colour) -> None:
        x = np.arange(0, self.width + 4, 4)
        y = np.full(x.shape, float(base))
        for n in (1, 2, 3):
            y += swing / n * np.sin(x / self.width * 2 * np.pi * n * self.between(0.5, 1.2) + self.between(0, 6.3))
        outline = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        self.pen.polygon([(0, self.height), *outline, (self.width + 4, self.height)], fill=colour)

    def field(self, y: float) -> None:
        """A strip of land across the image, perhaps with furrows that meet at the horizon."""
        colour = self.pick(
            (112, 148, 72), (150, 160, 84), (196, 178, 96), (134, 110, 78), (92, 128, 66), (214, 216, 220)
        )
        self.hill(y, self.height * 0.012, colour)
        if self.rng.random() < 0.5:
            line, x0 = self.vary(colour, 14), self.between(0, self.width)
            for x in np.linspace(-self.width, 2 * self.width, 28):
                self.pen.line((x0 + (x - x0) * 0.3, y + 6, float(x), self.height), fill=line, width=2)

    def road(self, colour: Colour, wide: float) -> None:
        x, foot = self.between(0.3, 0.7) * self.width, self.between(0.2, 0.8) * self.width
        far, near = self.horizon, self.height
        self.pen.polygon([(x - 3, far), (x + 3, far), (foot + wide, near), (foot - wide, near)], fill=colour)

    # ---- what stands on it ----

    def tree(self, x: float, foot: float, size: float) -> None:
        leaf = self.pick((52, 92, 48), (72, 112, 52), (96, 120, 50), (150, 110, 48), (44, 74, 56))
        self.pen.rectangle((x - size * 0.06, foot - size * 0.4, x + size * 0.06, foot), fill=self.vary((88, 66, 48)))
        if self.rng.random() < 0.4:
            for step in range(3):
                w, y = size * (0.36 - 0.08 * step), foot - size * (0.2 + 0.25 * step)
                self.pen.polygon([(x - w, y), (x + w, y), (x, y - size * 0.42)], fill=leaf)
            return
        for _ in range(6):
            dx, dy, r = self.between(-0.2, 0.2) * size, self.between(0.4, 0.85) * size, self.between(0.14, 0.26) * size
            self.pen.ellipse((x + dx - r, foot - dy - r, x + dx + r, foot - dy + r), fill=self.vary(leaf, 10))

    def house(self, x: float, foot: float, w: float, h: float, floors: int, gable: bool) -> None:
        wall = self.pick(
            (206, 196, 178), (180, 160, 140), (168, 110, 88), (150, 152, 156), (196, 176, 130), (124, 134, 120)
        )
        self.pen.rectangle((x, foot - h, x + w, foot), fill=wall)
        shade = self.vary((wall[0] * 3 // 4, wall[1] * 3 // 4, wall[2] * 3 // 4), 6)
        self.pen.rectangle((x + w * 0.9, foot - h, x + w, foot), fill=shade)
        if gable:
            roof = self.pick((150, 74, 56), (96, 70, 62), (90, 92, 100))
            eaves = foot - h
            self.pen.polygon([(x - w * 0.08, eaves), (x + w * 1.08, eaves), (x + w / 2, eaves - w * 0.45)], fill=roof)
        columns = max(2, int(w / (h / floors) * 1.2))
        glass = self.pick((70, 84, 104), (54, 60, 72), (170, 190, 206))
        for row in range(floors):
            for column in range(columns):
                lit = (246, 214, 130) if self.rng.random() < 0.12 else glass
                a, b = x + w * (column + 0.28) / columns, foot - h + h * (row + 0.25) / floors
                self.pen.rectangle((a, b, a + w * 0.42 / columns, b + h * 0.5 / floors), fill=lit)

    def lamp(self, x: float, foot: float, size: float) -> None:
        self.pen.line((x, foot, x, foot - size, x + size * 0.2, foot - size), fill=(58, 60, 64), width=3)
        self.pen.ellipse((x + size * 0.12, foot - size, x + size * 0.28, foot - size * 0.9), fill=(250, 232, 170))

    def fence(self, foot: float) -> None:
        wood, step = self.vary((124, 100, 76)), self.width / 14
        for index in range(15):
            self.pen.line((index * step, foot, index * step, foot - step), fill=wood, width=4)
        for part in (0.35, 0.75):
            self.pen.line((0, foot - step * part, self.width, foot - step * part), fill=wood, width=3)

    def trees(self, number: int, low: float, high: float) -> None:
        """Trees between two depths (0: horizon, 1: bottom edge), the far ones first."""
        for depth in sorted(self.between(low, high) for _ in range(number)):
            x, size = self.between(0, self.width), self.height * (0.12 + 0.45 * depth) * self.between(0.7, 1.3)
            self.tree(x, self.ground(depth), size)

    # ---- the two classes ----

    def countryside(self) -> None:
        for step in range(int(self.rng.integers(1, 4))):
            hill = self.pick((104, 128, 120), (122, 140, 150), (86, 116, 84), (140, 132, 110))
            self.hill(self.horizon - self.height * (0.12 - 0.04 * step), self.height * self.between(0.02, 0.08), hill)
        for part in sorted(self.between(0, 0.7) for _ in range(int(self.rng.integers(1, 5)))):
            self.field(self.ground(part))
        if self.rng.random() < 0.4:
            colour = self.pick((170, 152, 124), (120, 120, 122), (190, 180, 160))
            self.road(colour, self.between(0.06, 0.2) * self.width)
        if self.rng.random() < 0.45:  # a village
            for _ in range(int(self.rng.integers(1, 6))):
                w, depth = self.between(0.07, 0.17) * self.width, self.between(0.02, 0.3)
                x, h = self.between(0, 0.85) * self.width, w * self.between(0.5, 0.9)
                self.house(x, self.ground(depth), w, h, floors=1 + int(self.rng.random() < 0.4), gable=True)
        self.trees(int(self.rng.integers(0, 16)), 0.0, self.between(0.15, 0.8))
        if self.rng.random() < 0.25:
            self.fence(self.height * self.between(0.8, 1.0))

    def town(self) -> None:
        if self.rng.random() < 0.35:
            colour = self.pick((104, 128, 120), (86, 116, 84), (140, 132, 110))
            self.hill(self.horizon - self.height * 0.08, self.height * 0.05, colour)
        tallest = 4 if self.rng.random() < 0.25 else 8  # a small town
        ground = self.pick(
            (128, 128, 130), (156, 150, 140), (112, 140, 76), (142, 150, 88), (186, 172, 120), (206, 208, 212)
        )
        self.hill(self.horizon, 2, ground)
        for depth in sorted(self.between(0.0, 0.35) for _ in range(int(self.rng.integers(1, 3)))):
            foot, x = self.ground(depth), self.between(-0.1, 0.1) * self.width
            end = self.between(0.8, 1.1) * self.width
            while x < end:
                w, floors = self.between(0.1, 0.24) * self.width, int(self.rng.integers(2 + (tallest > 4), tallest))
                h = floors * self.height * self.between(0.06, 0.09)
                self.house(x, foot, w, h, floors, gable=self.rng.random() < 0.45)
                x += w * self.between(0.98, 1.25)
        if self.rng.random() < 0.6:
            self.road(self.pick((84, 86, 90), (110, 110, 114), (150, 142, 130)), self.between(0.15, 0.5) * self.width)
        if self.rng.random() < 0.5:  # a park, an avenue
            self.trees(int(self.rng.integers(2, 9)), 0.05, self.between(0.3, 0.8))
        for _ in range(int(self.rng.integers(0, 4))):
            x, foot = self.between(0, 0.95) * self.width, self.height * self.between(0.75, 0.98)
            self.lamp(x, foot, self.height * self.between(0.25, 0.5))


def _weather(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light, fog and the camera: the same for both classes."""
    values = np.asarray(image, dtype=np.float64)
    if rng.random() < 0.2:
        fog = rng.uniform(0.15, 0.4)
        values = values * (1 - fog) + fog * rng.uniform(170, 225)
    tint = rng.uniform(0.9, 1.08, 3) * rng.uniform(0.7, 1.12)
    values = values * tint + rng.normal(0, rng.uniform(1, 5), values.shape)
    result = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return result.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.1)))) if rng.random() < 0.15 else result
