"""What is known of an image, in a file of its own: there whole or not at all, and recognised by its settings."""

from pathlib import Path

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import ExplainedImage
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.train.storage.files import write_archive

_FINGERPRINT = "fingerprint"


def read_explained(path: Path, fingerprint: str) -> ExplainedImage | None:
    """An image that an earlier call has explained; None where it has not.

    Raises:
        InputError: the file cannot be read, or has another fingerprint.
    """
    if not path.exists():
        return None
    found = read_arrays(path, [_FINGERPRINT])
    if found.pop(_FINGERPRINT).tobytes() != fingerprint.encode():
        raise InputError(
            f"'{path}' holds an explanation of another image, of another network or with other settings; give another "
            f"--out, or delete '{path.parent}' to have all made anew."
        )
    return ExplainedImage.from_arrays(found)


def write_explained(path: Path, image: ExplainedImage, fingerprint: str) -> None:
    """Write what is known of an image, atomically."""
    write_archive(path, {**image.as_arrays(), _FINGERPRINT: np.frombuffer(fingerprint.encode(), dtype=np.uint8)})
