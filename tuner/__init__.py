"""tlstudy: an honest hyperparameter study of a pretrained ResNet-50 on your own photographs.

from tuner import Study

study = Study.open("studies/demo")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.study import Study

__all__ = ["Study", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when it is asked for (PEP 562): the command line's help needs none of it.
    if name == "Study":
        from tuner.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
