"""Options that stand for keys of study.toml, as dotted changes."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import Any

from tuner.errors import UsageError
from tuner.spec import spec as specs


def only_given(changes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in changes.items() if v is not None}


def numbers(text: str | None, option: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option}: found {text!r}, expected whole numbers with commas, such as 0,10,20.") from None


def assignments(pairs: list[str]) -> dict[str, Any]:
    """--set KEY=VALUE, the value as TOML or else as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        section, dot, _name = key.strip().partition(".")
        if not equals or not dot or section not in specs.SECTIONS:
            known = [s for s, kind in specs.SECTIONS.items() if key.strip() in {f.name for f in fields(kind)}]
            like = f"{known[0]}.{pair.strip()}" if known and equals else "search.optimizer=sgd"
            raise UsageError(
                f"--set {pair}: expected SECTION.KEY=VALUE with a section of {', '.join(specs.SECTIONS)}, "
                f"such as {like}."
            )
        if key.strip().partition(".")[2] not in {f.name for f in fields(specs.SECTIONS[section])}:
            specs.Spec().override({key.strip(): None}, "--set")  # says so, with the nearest right key
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # also what tomllib raises at thousands of digits or brackets
            found[key.strip()] = value.strip()
    return found
