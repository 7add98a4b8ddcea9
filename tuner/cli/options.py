"""Arguments and options that several commands share, above all those that stand for keys of study.toml."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.errors import UsageError
from tuner.spec import spec as specs
from tuner.store.options import dotted, from_here


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


STUDY_HELP = "Study folder, its study.toml, or its name under studies/."
Study = Annotated[str | None, typer.Argument(metavar="STUDY", help=STUDY_HELP, show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for every epoch instead of the live display.")]


def study_key(help: str, *names: str, **settings: Any) -> Any:
    """An option of `tlstudy search` and `tlstudy plan` that changes a key of study.toml for this study."""
    panel = "Changes to study.toml, for this study"
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **settings)


Data = Annotated[Path | None, study_key("Folder or .zip of photographs.")]
Weights = Annotated[str | None, study_key('"imagenet", a weights file, or "random".')]
ImageSize = Annotated[int | None, study_key("Side of the square the network sees, pixels.")]
MaxEpochs = Annotated[int | None, study_key("Epochs of the last rung.")]
Factor = Annotated[int | None, study_key("Hyperband keeps one in FACTOR.")]
BatchSize = Annotated[int | None, study_key("Photographs per training step.")]
UnfrozenLayers = Annotated[str | None, study_key("Depths to try, such as 0,10,20.")]
TimeBudget = Annotated[str | None, study_key('Such as "20 min": nothing begins that would not end in time.')]
Assigned = Annotated[
    list[str] | None, study_key("Any key of study.toml, such as search.optimizer=sgd.", "--set", metavar="KEY=VALUE")
]


def changes(
    assigned: list[str] | None = None, unfrozen_layers: str | None = None, **options: str | int | None
) -> dict[str, Any]:
    """What the options change of study.toml, with dotted keys; `options`: its other keys, None or False if not given.

    Raises UsageError.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None and value is not False}
    if unfrozen_layers is not None:
        given["unfrozen_layers"] = _numbers(unfrozen_layers, "--unfrozen-layers")
    return from_here(dotted(given) | assignments(assigned or []))


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option}: found {text!r}, expected whole numbers with commas, such as 0,10,20.") from None


def assignments(pairs: list[str]) -> dict[str, Any]:
    """--set KEY=VALUE, the value as TOML or else as text."""
    known = specs.keys()
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        section, dot, name = key.partition(".")
        if not equals or not dot or section not in known:
            holders = [section for section, names in known.items() if key in names]
            like = f"{holders[0]}.{pair.strip()}" if holders and equals else "search.optimizer=sgd"
            expected = f"expected SECTION.KEY=VALUE with a section of {', '.join(known)}, such as {like}."
            raise UsageError(f"--set {pair}: {expected}")
        if name not in known[section]:
            specs.Spec().override({key: None}, "--set")  # says so, with the nearest right key
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # also what tomllib raises at thousands of digits or brackets
            found[key] = value
    return found
