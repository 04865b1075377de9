"""albumentations, imported without its version check.

On import it asks a package index over the network for its newest version, and warns when it cannot or when there is
one. The check stays off for this process and those that it starts, unless the environment already says otherwise or
albumentations was imported before.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from albumentations.core.pydantic import check_range_bounds, nondecreasing
from albumentations.core.transforms_interface import BaseTransformInitSchema, DualTransform
from albumentations.core.type_definitions import Targets

__all__ = ["BaseTransformInitSchema", "DualTransform", "Targets", "check_range_bounds", "nondecreasing"]
