"""Writes study.toml: every key, its value and its explanation, from the same metadata that checks it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from tuner.spec.spec import SECTIONS, Range, Spec

TITLES = {
    "data": "What the network learns from.",
    "backbone": "The pretrained network, ResNet-50 without its top.",
    "space": "What is searched: a number fixes it, a list is a choice, a table { min, max, sampling, step } a range.",
    "search": "How it is searched: Hyperband (Li et al., JMLR 18, 2018).",
    "confirm": "What the winner has to show against the frozen baseline before a gain is claimed.",
}


def render(spec: Spec, heading: str = "") -> str:
    """The commented TOML text of `spec`; `tuner.spec.spec.load` reads it back to an equal Spec."""
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
