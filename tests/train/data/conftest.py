"""Small data sets in Fashion-MNIST's format, and what loaders yield as one batch."""

import gzip

import numpy as np
import pytest

from maskrobust.augment.batch import Batch


def joined(batches):
    """All batches of a loader as one, as they are on a device."""
    return Batch.cat(batches).to("cpu")


def idx_bytes(array):
    """An array of bytes as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    return header + array.astype(np.uint8).tobytes()


def square_garments(count):
    """Bright squares of different size on an empty ground, labelled in turn."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    for row in range(count):
        side = 8 + row % 12
        images[row, 6 : 6 + side, 5 : 5 + side] = 60 + row % 150
    return images, np.arange(count) % 10


def write_fashion_files(folder, compressed=False, train=40, test=20):
    """Write the four files into `folder`, made where it is missing, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        images, labels = square_garments(count)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def fashion_root(tmp_path):
    return write_fashion_files(tmp_path / "fashion")
