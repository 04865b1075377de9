"""Masks as albumentations transforms: image, object mask and `visible` stay together through a user's `Compose`.

Only this package needs albumentations; `import augment` does not load it.
"""

from maskrobust.augment.transforms.hide_regions import HideRegions as HideRegions
from maskrobust.augment.transforms.track_visible import TrackVisible as TrackVisible
