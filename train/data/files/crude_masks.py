"""Crude object masks for images without annotation: a salient region, a box, or a user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.train.data.files.image_files import decode_image, read_file

CrudeMasks = Literal["box", "saliency", "given"]

IN_WORDS: Mapping[CrudeMasks, str] = {
    "box": "the rectangle in the middle of the image with half of its height and width",
    "saliency": "the largest salient region, by the spectral residual",
    "given": "those in mask_root, which were given as crude",
}

_SALIENCY_SIDE = 64
_MEANS_OF_AN_OBJECT = 3.0


class CrudeMask(NamedTuple):
    """The mask of one image, made from its pixels when it is read.

    Attributes:
        image: the file.
        kind: "box", or "saliency" for `salient_region`.
    """

    image: Path
    kind: CrudeMasks

    def __str__(self) -> str:
        return f"the crude mask of {self.image}"

    def read(self) -> Tensor:
        """The mask at the image's full size, (1, H, W) bool.

        Raises:
            InputError: the image cannot be read.
        """
        image = decode_image(read_file(self.image), str(self.image))
        height, width = image.shape[1:]
        if self.kind == "saliency":
            return torch.from_numpy(salient_region(image.permute(1, 2, 0).numpy())).unsqueeze(0)
        box = torch.zeros(1, height, width, dtype=torch.bool)
        box[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        return box


def salient_region(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The largest connected region of an image whose saliency is at least three times the mean.

    Saliency is the spectral residual of the image in grey, 64 pixels wide (Hou and Zhang, "Saliency Detection: A
    Spectral Residual Approach", CVPR 2007, which has the threshold, too): the phase spectrum with what is left of the
    log amplitude after its local 3 x 3 mean is subtracted, back in space, squared and smoothed.

    Args:
        image: (H, W, 3), red, green and blue.

    Returns:
        (H, W); empty where no region is salient, as in an image of one colour.
    """
    height, width = image.shape[:2]
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float64)
    rows = max(1, round(height * _SALIENCY_SIDE / width))
    spectrum = np.fft.fft2(cv2.resize(grey, (_SALIENCY_SIDE, rows), interpolation=cv2.INTER_AREA))
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.resize(cv2.GaussianBlur(saliency, (9, 9), 2.5), (width, height), interpolation=cv2.INTER_LINEAR)
    salient = (smooth >= _MEANS_OF_AN_OBJECT * smooth.mean()) & bool(np.ptp(grey) > 0)
    count, regions, about, _ = cv2.connectedComponentsWithStats(salient.astype(np.uint8))
    if count < 2:
        return np.zeros((height, width), dtype=np.bool_)
    largest: NDArray[np.bool_] = regions == 1 + int(about[1:, cv2.CC_STAT_AREA].argmax())
    return largest
