"""Options of `tlstudy search` and `tlstudy plan` that change the question: the same in both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Changes to study.toml, for this study"

Data = Annotated[
    Path | None, typer.Option(help="Folder or .zip of photographs.", rich_help_panel=PANEL, show_default=False)
]
Weights = Annotated[
    str | None,
    typer.Option(help='"imagenet", a weights file, or "random".', rich_help_panel=PANEL, show_default=False),
]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Side of the square the network sees, pixels.", rich_help_panel=PANEL, show_default=False),
]
MaxEpochs = Annotated[
    int | None, typer.Option(help="Epochs of the last rung.", rich_help_panel=PANEL, show_default=False)
]
Factor = Annotated[
    int | None, typer.Option(help="Hyperband keeps one in FACTOR.", rich_help_panel=PANEL, show_default=False)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Photographs per training step.", rich_help_panel=PANEL, show_default=False)
]
UnfrozenLayers = Annotated[
    str | None, typer.Option(help="Depths to try, such as 0,10,20.", rich_help_panel=PANEL, show_default=False)
]
Assigned = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of study.toml, such as search.optimizer=sgd.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
