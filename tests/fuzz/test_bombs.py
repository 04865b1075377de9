"""Small files that claim to be enormous: one sentence, without the memory that they ask for."""

import gzip
import io
import struct
import tarfile
import zlib
from functools import partial

import pytest
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import MOST_PIXELS, decode_image, decode_mask
from maskrobust.train.data.sets.fashion import read_garments
from maskrobust.train.data.sets.shards import Shards
from maskrobust.train.data.shards.format import ShardRecord, read_shard
from maskrobust.train.data.shards.reader import ShardReader
from tests.fuzz.limits import REFUSED, ends_with_little_memory
from tests.train.data.conftest import write_fashion_files
from tests.train.data.sets.test_shards import key_of, write_folder

SIDE = 50_000


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits=8, colours=2):
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colours, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def encoded(form, find, replace, mode="RGB"):
    """An image of 24 x 16 pixels, whose header is changed."""
    stream = io.BytesIO()
    Image.new(mode, (24, 16)).save(stream, form)
    assert find in stream.getvalue()
    return stream.getvalue().replace(find, replace, 1)


def jpeg(*, with_metadata=False):
    sides = struct.pack(">BHH", 8, SIDE, SIDE)
    content = encoded("jpeg", struct.pack(">BHH", 8, 16, 24), sides)
    return content[:2] + b"\xff\xe1\x00\x08Exif\x00\x00" + content[2:] if with_metadata else content


def tiff():
    stream = io.BytesIO()
    Image.new("RGB", (24, 16)).save(stream, "tiff")
    content = stream.getvalue()
    for tag, side in ((256, 24), (257, 16)):
        found = next(entry for kind in (3, 4) if (entry := struct.pack("<HHI", tag, kind, 1)) in content)
        place = content.index(found)
        assert content[place + 8] == side
        content = content[:place] + struct.pack("<HHII", tag, 4, 1, SIDE) + content[place + 12 :]
    return content


IMAGES = {
    "png": png,
    "grey png of a bit": lambda: png(1, 0),
    "jpeg": jpeg,
    "jpeg with metadata": lambda: jpeg(with_metadata=True),
    "gif": lambda: encoded("gif", struct.pack("<HH", 24, 16), struct.pack("<HH", SIDE, SIDE), "P"),
    "tiff": tiff,
    "bmp": lambda: encoded("bmp", struct.pack("<ii", 24, 16), struct.pack("<ii", SIDE, SIDE)),
    "ppm": lambda: b"P6\n50000 50000\n255\n" + bytes(1000),
}


@pytest.mark.parametrize("make", IMAGES.values(), ids=IMAGES)
def test_an_image_of_50000_by_50000_pixels_is_refused_by_its_header(make):
    content = make()
    assert len(content) < 10**5
    message = rf"it has 50000 x 50000 pixels, and at most {MOST_PIXELS} may be|could be decompression bomb"
    for read in (decode_image, partial(decode_mask, code="binary"), partial(decode_mask, code="trimap")):
        with pytest.raises(InputError, match=message):
            read(content, name="bomb")
        assert ends_with_little_memory(partial(read, name="bomb"), content) == REFUSED


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(executed) (w) file closefile\nshowpage\n"
)


def test_a_format_that_pillow_hands_to_another_program_is_not_read(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(InputError, match="it is of no known format"):
        decode_image(POSTSCRIPT, "photograph.jpg")


def header(name, kind=tarfile.REGTYPE, size=0, **fields):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    entry.linkname = fields.get("linkname", "")
    return entry.tobuf(tarfile.GNU_FORMAT)


FIRST = f"{key_of(1)}"
HEADERS = {
    "of a terabyte": (header(f"{FIRST}.png", size=2**40), "bytes, and at most 256 MiB may be"),
    "of a negative size": (header(f"{FIRST}.png", size=-512), "bytes, and at most 256 MiB may be"),
    "a link to elsewhere": (header(f"{FIRST}.png", tarfile.SYMTYPE, linkname="/etc/passwd"), "is no file of a sample"),
    "a hard link": (header(f"{FIRST}.png", tarfile.LNKTYPE, linkname=f"{FIRST}.json"), "is no file of a sample"),
    "a device": (header(f"{FIRST}.png", tarfile.CHRTYPE), "is no file of a sample"),
    "a pipe": (header(f"{FIRST}.png", tarfile.FIFOTYPE), "is no file of a sample"),
    "a folder": (header(FIRST, tarfile.DIRTYPE), "is no file of a sample"),
    "an absolute path": (header(f"/{FIRST}.png"), "is no file of a sample"),
    "a climbing path": (header(f"../{FIRST}.png"), "is no file of a sample"),
    "a long name of a terabyte": (header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2**40), "is no file of a sample"),
    "a pax header of a terabyte": (header("pax", tarfile.XHDTYPE, 2**40), "is no file of a sample"),
    "a sparse file": (header(f"{FIRST}.png", tarfile.GNUTYPE_SPARSE, 2**40), "is no file of a sample"),
    "an unknown kind": (header(f"{FIRST}.png", b"Z"), "is no file of a sample"),
}


def read_all(content, seekable):
    stream = io.BytesIO(content)
    if not seekable:
        stream.seekable = lambda: False
    list(read_shard(stream))


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(("block", "message"), HEADERS.values(), ids=HEADERS)
def test_what_a_shard_never_holds_is_refused_by_its_header(block, message, seekable):
    label = header(f"{FIRST}.json", size=2) + b"{}".ljust(512, b"\0")
    for content in (block, label + block):
        with pytest.raises(tarfile.ReadError, match=message):
            read_all(content + bytes(10_240), seekable)


def test_a_sample_has_three_files_at_most():
    content = b"".join(header(f"{FIRST}.{suffix}") for suffix in ("json", "png", "mask.png", "txt"))
    with pytest.raises(tarfile.ReadError, match="has more than 3 files"):
        read_all(content + bytes(10_240), True)


def evaluate(folder):
    list(Shards(str(folder), view="as_is", image_size=32, num_workers=0).val_dataloader())


def test_a_file_of_a_terabyte_in_a_shard_takes_no_memory(tmp_path):
    folder = write_folder(tmp_path / "shards", {"val": (3,)})
    assert ends_with_little_memory(evaluate, folder) == 0
    path = folder / "val-000000.tar"
    path.write_bytes(HEADERS["of a terabyte"][0] + path.read_bytes())
    assert ends_with_little_memory(evaluate, folder) == REFUSED


LABELS = [
    b"[" * 900 + b"]" * 90, b" " * 1001, b"[]", b'{"id": 1, "label": true, "mask": true}',
    b'{"id": 9223372036854775808, "label": 0, "mask": true}', b'{"id": -1, "label": 0, "mask": true}',
    b'{"id": 1.0, "label": 0, "mask": true}', b'{"id": 1, "label": 0, "mask": "yes"}', b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_a_label_of_another_form_is_a_fault(label):
    content = header(f"{FIRST}.json", size=len(label)) + label.ljust(-(-len(label) // 512) * 512, b"\0")
    (sample,) = read_shard(io.BytesIO(content + bytes(10_240)))
    record = ShardRecord(name="val-000000.tar", samples=1, masks=0)
    with pytest.raises(InputError, match="has no readable label"):
        ShardReader("", 5).decode(record, sample)


def test_a_compressed_idx_file_of_gigabytes_is_refused(tmp_path):
    write_fashion_files(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    (tmp_path / path.stem).unlink()
    path.write_bytes(gzip.compress(_labels(bytes(20))))
    assert ends_with_little_memory(read_garments, tmp_path, "test") == 0
    part = gzip.compress(bytes(2**24), 9)
    path.write_bytes(gzip.compress(_labels(b"")[:4] + (2**32 - 1).to_bytes(4, "big")) + part * 64)
    assert path.stat().st_size < 2**21
    assert ends_with_little_memory(read_garments, tmp_path, "test") == REFUSED


def _labels(content):
    return bytes((0, 0, 8, 1)) + len(content).to_bytes(4, "big") + content
