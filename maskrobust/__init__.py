"""maskrobust: layer masking for CNNs, training with random masks, and measures of what a network reads from a hole.

`__init__.pyi` beside this file lists the public names. Each is imported on first use, so that `maskrobust.LayerMasking`
needs torch, torchvision, NumPy and OpenCV alone, and nothing of Lightning, albumentations, Weights & Biases or
WebDataset.
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from maskrobust.errors import did_you_mean, library_needed


def _places_in_stub() -> dict[str, str]:
    """The module of each public name, in alphabetical order; of a module that is public itself, the package."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [each for each in stub.body if isinstance(each, ast.ImportFrom)]
    return dict(sorted((alias.name, f".{each.module or ''}") for each in imports for alias in each.names))


_PLACES = _places_in_stub()
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("maskrobust")
    if name not in _PLACES:
        raise AttributeError(_unknown(name), name=name)
    place = _PLACES[name]
    with library_needed():
        found = import_module(f".{name}", __name__) if place == "." else getattr(import_module(place, __name__), name)
    globals()[name] = found
    return found


@cache  # jsonargparse asks for names of other modules here, some of them dozens of times a command
def _unknown(name: str) -> str:
    return f"maskrobust has no name '{name}'{did_you_mean(name, __all__)}."


def __dir__() -> list[str]:
    return __all__
