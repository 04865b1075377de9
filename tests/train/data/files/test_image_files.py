"""Files of data: images and masks of any format, photographs, and their views."""

import io
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageOps

from maskrobust.errors import InputError
from maskrobust.train.data.files import image_files, photographs
from maskrobust.train.data.files.image_files import (
    decode_image,
    decode_mask,
    decode_numbers,
    id_of,
    size_of,
)
from maskrobust.train.data.files.photographs import CropSource, random_crop, random_crops

GREY = np.array([[0, 1, 128, 129, 256, 12_345], [65_535, 65_407, 65_406, 257, 514, 40_000]], dtype=np.uint16)
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def as_tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def as_png(pixels):
    """Blue, green, red to a PNG; unlike Pillow, with 16 bits where the numbers have them."""
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(GREY), "png"),
        encoded(Image.fromarray(GREY), "tiff"),
        encoded(Image.fromarray(GREY), "ppm"),
        as_tiff(GREY, byteorder=">"),
    ],
    ids=["png", "tiff", "pgm", "big-endian tiff"],
)
def test_grey_values_of_16_bits_are_scaled_to_8(content):
    image = decode_image(content, "one")
    assert image.dtype == torch.uint8
    assert np.array_equal(image.numpy(), np.stack([np.rint(GREY / 257)] * 3))


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")], ids=str)
def test_numbers_without_a_known_range_are_refused(dtype, mode, tmp_path):
    path = tmp_path / "one.tif"
    path.write_bytes(as_tiff(np.array([[0, 1, 100]], dtype=dtype)))
    with pytest.raises(ValueError, match=rf"^'{path}' cannot be read as an image \(mode {mode} holds .* 16 bits\);"):
        decode_image(path.read_bytes(), str(path))


def test_a_mask_of_several_pages_is_refused_with_their_number():
    content = as_tiff(np.zeros((5, 9, 7), dtype=np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"^'one' cannot be read as an image \(it is a TIFF of 5 pages of one size:"):
        decode_mask(content, "binary", "one")


@pytest.mark.parametrize(
    ("dtype", "options"),
    [(np.uint8, {}), (np.uint16, {"compression": "zlib"}), (np.uint16, {"planarconfig": "contig"})],
    ids=str,
)
@pytest.mark.parametrize("bands", [3, 4])
def test_a_tiff_of_colours_is_read_band_by_band_and_pixel_by_pixel(dtype, options, bands):
    pixels = np.random.default_rng(bands).integers(0, np.iinfo(dtype).max, (bands, 9, 7)).astype(dtype)
    given = pixels.transpose(1, 2, 0) if "planarconfig" in options else pixels
    image = decode_image(as_tiff(given, photometric="rgb", **options), "one")
    assert np.array_equal(image.numpy(), pixels[:3] >> (8 * (dtype == np.uint16)))


def test_a_tiff_with_a_smaller_copy_behind_it_is_read():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(COLOURS, photometric="rgb")
        file.write(COLOURS[::2, ::2], photometric="rgb")
    assert np.array_equal(decode_image(stream.getvalue(), "one").permute(1, 2, 0).numpy(), COLOURS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_8_bits_may_be_stored_in_any_mode(mode):
    stored = Image.fromarray(COLOURS).convert(mode)
    expected = np.asarray(stored.convert("RGB"))
    if mode in ("RGB", "RGBA", "CMYK"):
        assert np.array_equal(expected, COLOURS)
    options = {"transparency": bytes(range(256))} if mode == "P" else {}  # of which Pillow would warn
    image = decode_image(encoded(stored, "tiff" if mode == "CMYK" else "png", **options), "one").permute(1, 2, 0)
    assert np.array_equal(image.numpy(), expected)


OBJECT = np.arange(12).reshape(3, 4) % 3 > 0


def binary(content):
    mask = decode_mask(content, "binary", "mask")
    assert (mask.shape, mask.dtype) == ((1, 3, 4), torch.bool)
    return mask[0].numpy()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_darkest_colour_or_grey_of_a_binary_mask_is_the_object(channel):
    colours = np.zeros((3, 4, 3), dtype=np.uint8)
    colours[..., channel] = OBJECT
    assert np.array_equal(binary(as_png(colours)), OBJECT)
    assert np.array_equal(binary(encoded(Image.fromarray(OBJECT.astype(np.uint16)), "png")), OBJECT)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_binary_mask_that_breaks_off_is_refused(mode):
    content = encoded(Image.effect_noise((64, 48), 90).convert(mode), "png")
    with pytest.raises(InputError, match=r"^'mask' cannot be read as an image .*; repair the file"):
        decode_mask(content[:-60], "binary", "mask")


@pytest.mark.parametrize("colours", [2, 256])
def test_a_binary_mask_with_a_palette_is_read_by_its_colours(colours):
    mask = Image.fromarray(np.where(OBJECT, 0, colours - 1).astype(np.uint8), "P")
    mask.putpalette([0, 0, 1] + [7, 7, 7] * (colours - 2) + [0, 0, 0])
    content = encoded(mask, "png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).any(axis=2), OBJECT)
    assert np.array_equal(binary(content), OBJECT)


CLASSES = np.array([[0, 1, 255], [256, 919, 1000]], dtype=np.uint16)
SEGMENTED = [[[False, True, True], [True, True, False]]]


def test_imagenet_s_masks_are_read_by_red_and_green_or_by_their_grey_value():
    colours = np.stack([CLASSES % 256, CLASSES // 256, np.full_like(CLASSES, 9)], axis=-1).astype(np.uint8)
    for stored in (colours, CLASSES):
        assert decode_mask(encoded(Image.fromarray(stored), "png"), "imagenet_s", "mask").tolist() == SEGMENTED


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_more_pixels_than_a_photograph_has_are_refused_before_they_are_decoded(form, monkeypatch):
    monkeypatch.setattr(image_files, "MOST_PIXELS", 29)
    content = encoded(Image.fromarray(COLOURS), form)
    for decode in (decode_image, partial(decode_mask, code="binary"), size_of):
        with pytest.raises(InputError, match=r"^'one' cannot be read .* 6 x 5 pixels \(height x width\), "):
            decode(content, name="one")


def test_a_format_that_pillow_hands_to_another_program_is_not_read(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    postscript = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(executed) (w) file closefile\nshowpage\n"
    )
    with pytest.raises(InputError, match="it is of no known format"):
        decode_image(postscript, "photograph.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_has_pillows_pixels_and_one_that_breaks_off_is_named(mode):
    content = encoded(Image.effect_noise((61, 47), 80).convert(mode), "jpeg")
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode_image(content, "one.jpg").permute(1, 2, 0).numpy(), expected)
    with pytest.raises(InputError, match=r"^'one.jpg' cannot be read as an image"):
        decode_image(content[:400], "one.jpg")


def exif(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_as_its_exif_orientation_says(form, orientation):
    options = {"lossless": True} if form == "webp" else {}
    content = encoded(Image.fromarray(COLOURS), form, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(content)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert expected.shape[:2] == ((5, 6) if orientation in (5, 6, 7, 8) else (6, 5))
    image = decode_image(content, "one")
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    assert size_of(content, "one") == image.shape[1:]
    assert torch.equal(decode_numbers(content, "one"), image)
    if form in ("jpeg", "webp") and orientation == 6:  # left alone where it is damaged
        assert decode_image(content.replace(b"MM\0*", b"MX\0*"), "one").shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("code", "mode"), [("binary", "L"), ("binary", "RGB"), ("imagenet_s", "L"), ("imagenet_s", "RGB"), ("trimap", "L")]
)
def test_a_mask_is_turned_as_its_exif_orientation_says(code, mode):
    mask = Image.fromarray(np.where(OBJECT, 1, 2 if code == "trimap" else 0).astype(np.uint8)).convert(mode)
    turned = decode_mask(encoded(mask, "png", exif=exif(6)), code, "mask")
    assert np.array_equal(turned[0].numpy(), np.rot90(OBJECT, -1))


@pytest.mark.parametrize("numbers", [OBJECT, OBJECT * np.uint8(255), OBJECT * np.uint8(2)], ids=["1", "255", "2"])
def test_a_mask_that_is_no_trimap_is_not_read_as_one(numbers):
    with pytest.raises(InputError, match="must hold 1, 2 and 3, but holds numbers from "):
        decode_mask(encoded(Image.fromarray(numbers), "png"), "trimap", "mask")


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1, 2]])
def test_a_trimap_is_no_binary_mask(numbers):
    trimap = encoded(Image.fromarray(np.resize(np.uint8(numbers), (6, 6))), "png")
    with pytest.raises(InputError, match=r"it holds 1, 2 and 3 alone, as a trimap does.*set mask_code to trimap"):
        decode_mask(trimap, "binary", "a mask")
    assert decode_mask(trimap, "trimap", "a mask").any()
    assert decode_mask(encoded(Image.new("L", (6, 6), 1), "png"), "binary", "a mask").all()


def test_the_id_of_a_file_whose_name_is_no_utf_8_is_a_hash_as_of_others():
    names = [Path(os.fsdecode(name)) for name in (b"cat/\xff.jpg", b"cat/\xfe.jpg")]
    assert len({*map(id_of, names)}) == 2 and all(0 <= id_of(each) < 2**63 for each in names)


KEEP = 0.9  # the number that neither flips nor transposes


def test_a_crop_averages_blocks_of_the_chosen_square():
    photograph = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    numbers = np.array([0.0, 0.5, 0.25, KEEP, KEEP, KEEP], dtype=np.float32)
    crop = random_crop(photograph, 10, (0.5, 1.0), numbers)
    top, left = int(0.5 * 21), int(0.25 * 41)
    blocks = photograph[top : top + 20, left : left + 20].reshape(10, 2, 10, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - blocks).max() <= 0.5


def test_every_sample_is_cut_from_the_source_chosen_for_it(monkeypatch):
    flat = {"dark": np.full((50, 50, 3), 20, np.uint8), "bright": np.full((50, 50, 3), 240, np.uint8)}
    monkeypatch.setattr(photographs, "read_photograph", flat.__getitem__)
    sources = [CropSource("dark", (0.2, 0.5)), CropSource("bright", (0.2, 0.5))]
    numbers = np.full((3, 6), 0.5, dtype=np.float32)
    crops = random_crops(sources, np.array([1, 0, 1]), 8, numbers, numbers)
    assert crops.shape == (3, 8, 8, 3)
    assert [round(float(crop.mean())) for crop in crops] == [195, 63, 195]
