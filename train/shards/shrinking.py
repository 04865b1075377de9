"""Samples in fewer pixels, so that less has to be read and decoded."""

import io

import torch
from PIL import Image
from torch import Tensor

from maskrobust.train.data.files.image_files import decode_image, decode_mask, size_of
from maskrobust.train.data.files.views import shrinking_view
from maskrobust.train.data.stored import EncodedSample, encode_png

JPEG_QUALITY = 95
"""Of the images that were JPEG files, in Pillow's scale of 0 to 100, colours at half the resolution (4:2:0)."""

_JPEG_START = b"\xff\xd8"


def shrink(sample: EncodedSample, shorter_side: int, name: str) -> EncodedSample:
    """A sample whose image and object mask have `shorter_side` pixels on their shorter side.

    Images are resized by the antialiased bilinear filter of `views.evaluation_view`, masks to the nearest pixel; an
    object of which no pixel is left has no mask. A JPEG becomes one of `JPEG_QUALITY`, anything else a PNG of 8 bits
    for each colour, and both are turned as their EXIF orientation said.

    Args:
        sample: to be reduced; one that is no larger is returned as it is.
        shorter_side: in pixels, at least 1.
        name: of the image, for messages.

    Raises:
        InputError: the image is none that can be read whole.
    """
    if min(size_of(sample.image, name)) <= shorter_side:
        return sample
    image = decode_image(sample.image, name)
    stored_mask = sample.object_mask
    nothing = torch.zeros_like(image[:1], dtype=torch.bool)
    small, small_mask = shrinking_view(shorter_side)(
        image, nothing if stored_mask is None else decode_mask(stored_mask, "binary", name)
    )
    is_jpeg = sample.image.startswith(_JPEG_START)
    return sample._replace(
        image=_encode_jpeg(small) if is_jpeg else encode_png(small.permute(1, 2, 0).numpy()),
        suffix="jpg" if is_jpeg else "png",
        object_mask=encode_png(small_mask[0].numpy()) if small_mask.any() else None,
    )


def _encode_jpeg(image: Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "jpeg", quality=JPEG_QUALITY)
    return stream.getvalue()
