"""study.toml as frozen dataclasses: what is asked, checked when it is read.

Each field carries its help text and its check in its metadata; `render` writes the commented file from
the same metadata, so a key cannot exist without an explanation.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tuner.errors import SpecError
from tuner.spec import values
from tuner.spec.configuration import RENAMED
from tuner.spec.rules import NUMERICS
from tuner.spec.values import Range as Range
from tuner.spec.values import Searched as Searched

OBJECTIVES = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_f1", "val_auc", "val_brier")
AUTO_TEST = 0.2
LEAST_TEST = 50
LEAST_TEST_GROUPS = 5


def _key(
    default: Any, help: str, check: Callable[[Any], Any], *, answer: bool = True, before: Any = None, since: int = 5
) -> Any:
    """`answer`: whether another value makes another study; False for where things lie and what they may take. `before`:
    the default of studies that began under numerics older than `since`, where it was another.
    """
    was = (since, default if before is None else before)
    return field(default=default, metadata={"help": help, "check": check, "answer": answer, "before": was})


# ---- the sections --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSpec:
    """The images: where they are, how they are split and squared."""

    path: str = _key(
        "photos",
        "folder or .zip: train/ and val|valid|validation/ (test/ optional) with a folder per class,\n"
        "or class folders alone, split by the fractions below; relative to this file;\n"
        '"drawn:towns-and-countryside" is the demo that tlstudy draws itself',
        values.data_path,
        answer=False,  # whether the images are the same is told by their bytes
    )
    validation_fraction: float = _key(
        0.2, "share of each class held out for validation when the data come unsplit", values.real(0.0, 0.9, above=True)
    )
    test_fraction: float | str = _key(
        "auto",
        "share of each class sealed as a test set when the data come unsplit;\n"
        '"auto": 0.2 where that makes 50 photographs or more (and 5 groups, where they are given), else 0',
        values.auto_or(values.real(0.0, 0.9)),
    )
    groups: str = _key(
        "",
        "images that belong together (a patient, a video, a burst) and so never stand in two splits or folds:\n"
        '"groups.csv", a table with the columns file and group ("table.csv:patient": another column), looked for\n'
        "beside this file, then in the data folder; '^(patient\\d+)_', a regular expression whose one part in\n"
        'brackets is the group in a file name; or "folders", those inside a class folder; "": each its own',
        values.groups,
        answer=False,  # whether the groups are the same is told by themselves
    )
    image_size: int = _key(224, "side of the square the network sees, in pixels", values.whole(32, 1024))
    resize: str = _key(
        "crop",
        '"crop" (shorter side, centre), "pad" (black bars) or "squash" (aspect ratio lost)',
        values.one_of("crop", "pad", "squash"),
    )
    allow_leak: bool = _key(
        False, "go on although the same photograph stands in two splits; every table then says so", values.flag
    )
    strict: bool = _key(False, "a single file that cannot be used is an error, instead of up to 5 %", values.flag)
    recursive: bool = _key(False, "folders inside a class folder belong to the class, instead of an error", values.flag)

    views: int = _key(
        8, "how many views of each training image are drawn and stored for space.augmentation", values.whole(1, 64)
    )

    def test_share(self, images: int, groups: int | None = None) -> float:
        """`test_fraction`, or what "auto" means for so many images in so many groups, None where none are given: a
        sealed set too small to tell anything costs images and gives nothing.
        """
        enough = images * AUTO_TEST >= LEAST_TEST and self.validation_fraction + AUTO_TEST < 1
        enough = enough and (groups is None or groups * AUTO_TEST >= LEAST_TEST_GROUPS)
        return values.number_or(self.test_fraction, AUTO_TEST if enough else 0.0)


@dataclass(frozen=True)
class BackboneSpec:
    """The pretrained network."""

    weights: tuple[str, ...] = _key(
        ("imagenet",),
        '"imagenet", the path of a weights file (.h5, .weights.h5, .keras), or "random";\n'
        "a list means the first that can be had",
        values.weights,
    )
    batch_norm: str = _key(
        "frozen",
        '"frozen" (inference mode, as Keras\'s transfer-learning guide says) or "trained"',
        values.one_of("frozen", "trained"),
    )


@dataclass(frozen=True)
class SpaceSpec:
    """The hyperparameters; each may be fixed, a choice or a range."""

    unfrozen_layers: Searched = _key(
        (0, 10, 20, 32, 42, 52),
        "layers of ResNet-50 trained from the top, as Keras counts them (0 to 175);\n"
        "block boundaries: 0, 10, 20, 32, 42, 52, 62, 72, 82, 94, 104, 114, 124, 136, 146, 156, 168, 175",
        values.searched(values.whole(0, 175)),
    )
    learning_rate: Searched = _key(
        Range(1e-5, 1e-2, "log"), "the optimizer's learning rate", values.searched(values.real(0.0, 10.0, above=True))
    )
    head_width: Searched = _key(
        (0, 64, 128, 256, 512),
        "units of the head's hidden layer; 0: straight from pooled features to the classes",
        values.searched(values.whole(0, 8192)),
    )
    dropout: Searched = _key(0.0, "dropout before the last layer", values.searched(values.real(0.0, 0.95)))
    weight_decay: Searched = _key(
        0.0,
        "decoupled weight decay per step, times the learning rate (Loshchilov and Hutter 2019)",
        values.searched(values.real(0.0, 1.0)),
    )
    label_smoothing: Searched = _key(
        0.0, "label smoothing in the training loss", values.searched(values.real(0.0, 0.9))
    )
    backbone_lr_multiplier: Searched = _key(
        1.0, "the unfrozen layers' learning rate over the head's", values.searched(values.real(0.0, 100.0, above=True))
    )
    head_init: Searched = _key(
        "linear_probe",
        'the head before the first epoch of a trial with unfrozen layers: "linear_probe", which is the linear\n'
        'classifier fitted to the frozen features (LP-FT, Kumar et al. 2022), or "random"',
        values.searched(values.one_of("random", "linear_probe"), words=True),
        before="random",
    )
    layer_decay: Searched = _key(
        1.0,
        "each block's learning rate over that of the block above it; 1: all the same",
        values.searched(values.real(0.0, 1.0, above=True)),
    )
    augmentation: Searched = _key(
        "none",
        'what training images may look like: "none", "flip" (left and right), "light" (also cropped, mild colour) or\n'
        '"strong"; validation and test images stay as they are',
        values.searched(values.one_of("none", "flip", "light", "strong"), words=True),
    )
    mixup: Searched = _key(
        0.0,
        "mixup's alpha: pairs of training rows are mixed at the cut, their targets too (Zhang et al. 2018); 0: none",
        values.searched(values.real(0.0, 10.0)),
    )
    head_features: Searched = _key(
        "several",
        'what the head of a trial with unfrozen layers reads: "pooled", the last block\'s output averaged over the\n'
        'image, or "several", the averages at several cuts joined (Head2Toe, Evci et al. 2022)',
        values.searched(values.one_of("pooled", "several"), words=True),
        before="pooled",
        since=6,
    )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """What training images may look like besides plain."""
        asked = self.augmentation if isinstance(self.augmentation, tuple) else (self.augmentation,)
        return tuple(str(name) for name in asked if name != "none")


@dataclass(frozen=True)
class SearchSpec:
    """Hyperband, and how a trial trains."""

    objective: str = _key(
        "val_loss",
        '"val_loss", "val_accuracy", "val_balanced_accuracy", "val_f1" (macro), "val_auc" (each class against the\n'
        'rest) or "val_brier"; ties are broken by loss',
        values.one_of(*OBJECTIVES),
    )
    max_epochs: int = _key(27, "epochs of a configuration that reaches the last rung", values.whole(1, 100_000))
    factor: int = _key(3, "Hyperband keeps one in `factor` from rung to rung", values.whole(2, 100))
    hyperband_iterations: int = _key(1, "how often Hyperband's brackets are run through", values.whole(1, 1000))
    batch_size: int = _key(24, "photographs per training step", values.whole(1, 65_536))
    optimizer: str = _key(
        "adam",
        '"adam", "adamw" (the same: weight decay is decoupled here), "rmsprop" or "sgd" (momentum 0.9)',
        values.one_of("adam", "adamw", "rmsprop", "sgd"),
    )
    schedule: str = _key(
        "cosine",
        'the learning rate over the `max_epochs` epochs: "cosine" down to zero (Loshchilov and Hutter 2017), or\n'
        '"constant"; a promoted trial goes on along it',
        values.one_of("constant", "cosine"),
        before="constant",
    )
    warmup_epochs: float = _key(
        1.0, "epochs in which the learning rate rises from zero before that", values.real(0.0, 1000.0), before=0.0
    )
    ema: float = _key(
        0.0,
        "momentum, such as 0.9, of the moving average of the weights that is evaluated and kept; 0: none",
        values.real(0.0, 0.9999),
    )
    checkpoint: str = _key(
        "last",
        'the epoch that counts of a trial: its "last", so that a lucky one cannot win, or its "best"',
        values.one_of("best", "last"),
        before="best",
    )
    patience: int = _key(
        0,
        "a trial ends early when none of its last so many epochs was a new best one, as Keras's EarlyStopping counts;\n"
        'needs checkpoint = "best"; 0: never',
        values.whole(0, 100_000),
    )
    tta: str = _key(
        "none",
        '"flip": every prediction, the baseline\'s too, is the mean over an image and its mirror image',
        values.one_of("none", "flip"),
    )
    time_budget: str = _key(
        "none",
        'such as "20 min": no trial begins that is not expected to end in time; the confirmation has its share',
        values.duration,
        answer=False,
    )
    class_weight: str = _key(
        "none",
        '"none", or "balanced": each class weighs the same in the training loss',
        values.one_of("none", "balanced"),
    )
    precision: str = _key(
        "float32",
        '"float32", or "mixed_bfloat16" for the trained layers (fast on recent GPUs)',
        values.one_of("float32", "mixed_bfloat16"),
    )
    seed: int = _key(0, "everything random is named from this number", values.whole(0, 2**31 - 1))
    feature_budget_gb: float = _key(
        16.0,
        "disk for stored features, GB: cuts beyond it are recomputed from the nearest stored one,\n"
        "and what other studies left and is unused for longest goes",
        values.real(0.0, 1e6),
        answer=False,
    )

    @property
    def mirrored(self) -> bool:
        """Whether predictions are averaged over an image and its mirror image: two passes instead of one."""
        return self.tta == "flip"


@dataclass(frozen=True)
class ConfirmSpec:
    """What has to hold before a gain is claimed; fixed before the search, like everything here."""

    seeds: int | str = _key(
        "auto",
        "fresh seeds with which winner and baselines are trained again, more can be added later;\n"
        '"auto": 5, or 10 where that is cheap, and 20 of a side whose first ones come out unlike each other',
        values.auto_or(values.whole(1, 100)),
        answer=False,  # seeds are only ever added
    )
    margin: float = _key(
        0.02, "smallest gain in accuracy worth the name: 0.02 is two points", values.real(0.0, 0.5, above=True)
    )
    folds: int = _key(
        0,
        "folds of a cross-validation of winner and baseline over training and validation images; 0: none",
        values.whole(0, 20),
    )
    repeats: int = _key(2, "how often the folds are drawn anew", values.whole(1, 50))


@dataclass(frozen=True)
class Spec:
    """The whole question. Immutable; `override` returns a changed copy."""

    data: DataSpec = DataSpec()
    backbone: BackboneSpec = BackboneSpec()
    space: SpaceSpec = SpaceSpec()
    search: SearchSpec = SearchSpec()
    confirm: ConfirmSpec = ConfirmSpec()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (tuples as lists, ranges as tables); `from_dict` takes them back."""
        return {s: {k: _plain(v) for k, v in vars(getattr(self, s)).items()} for s in SECTIONS}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], source: str = "study.toml", numerics: int = NUMERICS) -> Spec:
        """Checks a parsed table of a study that began under `numerics`. Raises SpecError naming the key, what was found
        and what is expected.
        """
        if not isinstance(table, Mapping):
            raise SpecError(f"{source}: found {_shown(table)}, expected a table with {', '.join(SECTIONS)}.")
        if unknown := [k for k in table if k not in SECTIONS]:
            raise SpecError(_unknown(source, "", unknown[0], tuple(SECTIONS)))
        sections = {name: _section(kind, table.get(name, {}), name, source) for name, kind in SECTIONS.items()}
        return cls(**{n: replace(_before(SECTIONS[n], numerics), **found) for n, found in sections.items()})

    def override(self, changes: Mapping[str, Any], source: str = "option") -> Spec:
        """A copy with dotted keys changed, for example {"search.seed": 1}, each checked as in the file."""
        spec = self
        for dotted, value in changes.items():
            name, _, key = dotted.partition(".")
            if name not in SECTIONS:
                raise SpecError(_unknown(source, "", name, tuple(SECTIONS)))
            section = _section(SECTIONS[name], {key: value}, name, source)
            spec = replace(spec, **{name: replace(getattr(spec, name), **section)})
        spec.check_together(source)
        return spec

    def check_together(self, source: str) -> None:
        """What no single key can tell. Raises SpecError."""
        validation, test = self.data.validation_fraction, values.number_or(self.data.test_fraction, 0.0)
        if validation + test >= 1:
            raise SpecError(
                f"{source}: data.validation_fraction and data.test_fraction leave nothing to train on: "
                f"found {validation:g} + {test:g}, expected a sum below 1."
            )
        if self.confirm.folds == 1:
            raise SpecError(f"{source}: confirm.folds: found 1, expected 0 for none or at least 2.")
        if self.search.patience and self.search.checkpoint != "best":
            raise SpecError(
                f"{source}: search.patience: found {self.search.patience} with search.checkpoint = "
                f'"{self.search.checkpoint}", expected search.checkpoint = "best": where the last epoch counts, every '
                "trial is trained to its last one. Set that too, or search.patience = 0."
            )


SECTIONS: dict[str, type] = {f.name: type(f.default) for f in fields(Spec)}


def keys() -> dict[str, tuple[str, ...]]:
    """The keys of each section, earlier names too."""
    found = {name: tuple(f.name for f in fields(kind)) for name, kind in SECTIONS.items()}
    return found | {"space": (*found["space"], *RENAMED)}


def load(path: Path, numerics: int = NUMERICS) -> Spec:
    """Reads and checks a study.toml, of a study that began under `numerics`. Raises SpecError with the file and the
    line or key.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait for a writer for ever
        raise SpecError(f"{path}: found no regular file, expected a text file with the study's settings.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        beside = path.with_name("study.db").exists()
        hint = " Its results are beside it: bring the file back, or ask anew with `tlstudy init PHOTOS`." * beside
        raise SpecError(f"{path}: cannot be read ({error.strerror}).{hint}") from error
    try:
        table = tomllib.loads(raw.decode("utf-8-sig"))  # some editors on Windows put a mark in front
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path}: found bytes that are not UTF-8 (offset {error.start}); TOML files are UTF-8 text."
        ) from error
    except (ValueError, RecursionError) as error:  # also what tomllib raises at thousands of digits or brackets
        raise SpecError(f"{path}: not valid TOML: {error}.") from error
    spec = Spec.from_dict(table, str(path), numerics)
    spec.check_together(str(path))
    return spec


TITLES = {
    "data": "What the network learns from.",
    "backbone": "The pretrained network, ResNet-50 without its top.",
    "space": "What is searched: a number fixes it, a list is a choice, a table { min, max, sampling, step } a range.",
    "search": "How it is searched: Hyperband (Li et al., JMLR 18, 2018).",
    "confirm": "What the winner has to show against the frozen baseline before a gain is claimed.",
}


def render(spec: Spec, heading: str = "") -> str:
    """The commented TOML text of `spec`; `load` reads it back to an equal Spec."""
    lines = [f"# {line}" for line in heading.splitlines()] + ([""] if heading else [])
    for name, kind in SECTIONS.items():
        lines += [f"# {TITLES[name]}", f"[{name}]"]
        for f in fields(kind):
            lines += [f"# {line}" for line in f.metadata["help"].splitlines()]
            lines += [f"{f.name} = {toml(getattr(getattr(spec, name), f.name))}"]
        lines.append("")
    return "\n".join(lines)


def toml(value: Any) -> str:
    """A checked value of a Spec as TOML text on one line."""
    if isinstance(value, Range):
        parts = [f"{name} = {toml(part)}" for name, part in vars(value).items() if part is not None]
        return "{ " + ", ".join(parts) + " }"
    if isinstance(value, tuple):
        single = len(value) == 1 and isinstance(value[0], str)
        return toml(value[0]) if single else "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, except DEL, which JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def differences(old: Spec, new: Spec, *, all_keys: bool = False) -> list[str]:
    """One line for each key whose value differs: `search.seed: 0 -> 1`; of all keys, or of those that change an answer:
    where the images lie and how much disk features take do not.
    """
    before, after = old.to_dict(), new.to_dict()
    return [
        f"{s}.{f.name}: {before[s][f.name]!r} -> {after[s][f.name]!r}"
        for s, kind in SECTIONS.items()
        for f in fields(kind)
        if before[s][f.name] != after[s][f.name] and (all_keys or f.metadata["answer"])
    ]


def refused_by_extension(old: Spec, new: Spec) -> list[str]:
    """The differences that an extension cannot take: all but more of Hyperband's iterations and a wider space."""
    lines = []
    for line in differences(old, new):
        section, _, key = line.partition(":")[0].partition(".")
        before, after = getattr(getattr(old, section), key), getattr(getattr(new, section), key)
        more = section == "search" and key == "hyperband_iterations" and after > before
        if not (more or (section == "space" and values.holds(after, before))):
            lines.append(line)
    return lines


def _before(kind: type, numerics: int) -> Any:
    """A section as it is where nothing is said."""
    before = {f.name: f.metadata["before"] for f in fields(kind)}
    return kind(**{name: default for name, (since, default) in before.items() if numerics < since})


def _section(kind: type, table: Any, name: str, source: str) -> dict[str, Any]:
    """The checked values of a section by today's names."""
    if not isinstance(table, Mapping):
        raise SpecError(f"{source}: [{name}] must be a table, found {_shown(table)}.")
    known = {f.name: f for f in fields(kind)}
    checked: dict[str, Any] = {}
    for key, value in table.items():
        today, convert = RENAMED[key] if name == "space" and key in RENAMED else (key, lambda value: value)
        if today not in known:
            raise SpecError(_unknown(source, name, key, tuple(known)))
        if today in checked:
            raise SpecError(f"{source}: {name}.{key}: found {today} too, expected one of them: it is its earlier name.")
        try:
            checked[today] = known[today].metadata["check"](convert(value))
        except ValueError as error:
            raise SpecError(f"{source}: {name}.{key}: found {_shown(value)}, expected {error}.") from None
    return checked


def _shown(value: Any) -> str:
    """The value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python does not write whole numbers of thousands of digits
        return "thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _unknown(source: str, section: str, key: str, known: tuple[str, ...]) -> str:
    key = key if key.isprintable() and len(key) <= 100 else _shown(key)
    where = f"{section}.{key}" if section else f"[{key}]"
    elsewhere = [s for s, kind in SECTIONS.items() if section and key in {f.name for f in fields(kind)}]
    hint = f"; {key} belongs in [{elsewhere[0]}]" if elsewhere else values.nearest(key, known)
    return f"{source}: unknown key {where}{hint}. Known here: {', '.join(known)}."


def _plain(value: Any) -> Any:
    if isinstance(value, Range):
        return {k: v for k, v in asdict(value).items() if v is not None}
    return list(value) if isinstance(value, tuple) else value
