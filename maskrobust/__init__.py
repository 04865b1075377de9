"""maskrobust: layer masking for CNNs, training with random masks, and measures of what a network reads from a hole.

`__init__.pyi` beside this file lists the public names. Each is imported on first use, so that `maskrobust.LayerMasking`
needs torch and torchvision alone, and nothing of Lightning, albumentations, Weights & Biases or WebDataset.
"""

from typing import Any

import lazy_loader

from maskrobust.errors import InputError, about_library, did_you_mean

_import_on_use, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("maskrobust")
    try:
        return _import_on_use(name)
    except ImportError as error:
        raise InputError(about_library(error)) from error
    except AttributeError as error:
        if name in __all__:
            raise
        raise AttributeError(f"maskrobust has no name '{name}'{did_you_mean(name, __all__)}.", name=name) from error
