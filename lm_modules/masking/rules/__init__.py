"""The rules of layer masking, one file for each kind of operation; every file of this folder is imported."""

from maskrobust.augment.registry import import_modules

import_modules(__name__)
