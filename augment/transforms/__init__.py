"""Masks as albumentations transforms: image, object mask and `visible` stay together through a user's `Compose`.

Only this package needs albumentations; `import augment` does not load it. On import albumentations asks a package index
over the network for its newest version, and warns when it cannot or when there is one. That check stays off for this
process and those that it starts, unless the environment already says otherwise or albumentations was imported before.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from maskrobust.augment.transforms.hide_regions import HideRegions as HideRegions
from maskrobust.augment.transforms.track_visible import TrackVisible as TrackVisible
