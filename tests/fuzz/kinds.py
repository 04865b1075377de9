"""The kinds of files that come from strangers: a valid one, how it is changed, and what reads it."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
import yaml
from hypothesis import strategies as st
from PIL import ExifTags, Image

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.exported import CONFIG, WEIGHTS, write_export
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.networks.weights import load_weights
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.arguments import with_config_paths
from maskrobust.train.data import Shards
from maskrobust.train.data.files.image_files import decode_image, decode_imagenet_s, decode_mask, size_of
from maskrobust.train.data.sets.cutouts import list_cutouts, read_cutout
from maskrobust.train.data.sets.fashion import read_garments
from maskrobust.train.data.sets.pets import _read_list
from maskrobust.train.data.shards.format import read_manifest
from maskrobust.train.export import model_card, reliance_rows
from maskrobust.train.fit.checkpoints import (
    AtomicCheckpointIO,
    check_same_training,
    limit_reached,
)
from maskrobust.train.fit.loggers import WandbOptions, _run_to_go_on_with
from maskrobust.train.networks import read_classes
from maskrobust.train.storage.store import Store
from tests.fuzz.mutations import (
    changed_bytes,
    changed_tree,
    with_checksums_of_png,
    with_checksums_of_tar,
    within_archive,
)
from tests.train.data.sets.test_shards import make_sample, write_folder

SHARDS: dict[Any, tuple[int, ...]] = {"train": (2,), "val": (2, 2)}


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
        name: of the file, below the folder of an input.
        files: of changed content.
        read: everything that reads such a file, given its path; ends in an `InputError` where it is not what it was.
    """

    name: str
    files: st.SearchStrategy[bytes]
    read: Callable[[Path], object]


def _bytes_of(*valid: bytes, repair: Callable[[bytes], bytes] | None = None) -> st.SearchStrategy[bytes]:
    changed = st.sampled_from(valid).flatmap(changed_bytes)
    return changed if repair is None else st.one_of(changed, changed.map(repair))


def _json_of(tree: Any) -> st.SearchStrategy[bytes]:
    text = partial(json.dumps, default=str)
    return st.one_of(changed_tree(tree).map(text).map(str.encode), changed_bytes(text(tree).encode()))


@cache
def _folder() -> dict[str, bytes]:
    """A small folder of shards."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        write_folder(Path(name), SHARDS)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def prepare(folder: Path) -> None:
    """Lay out what every input finds around it: whole shards, and files that must stay as they are."""
    (folder / "shards").mkdir(parents=True)
    for name, content in _folder().items():
        (folder / "shards" / name).write_bytes(content)
    (folder / "t10k-images-idx3-ubyte").write_bytes(_idx(3))
    (folder / "train-labels-idx1-ubyte").write_bytes(_idx(1))
    (folder / "exported").mkdir()
    (folder / "exported" / WEIGHTS).write_bytes(_exported()[WEIGHTS])
    (folder / "canary").write_text("must stay")
    (folder / "stranger.py").write_text("open('executed', 'w')\nclass Network: ...\n")


def _read_shards(path: Path) -> None:
    """Evaluate the shards of a split."""
    data = Shards(str(path.parent), view="as_is", image_size=32, num_workers=0)
    list(data.val_dataloader())


def _read_manifest(path: Path) -> None:
    read_manifest(str(path.parent))
    _read_shards(path)


def _labelled(label: bytes) -> bytes:
    """A shard whose first label is as given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in (2, 3):
            sample = make_sample(number).encode()
            about = json.dumps(
                {"id": sample.id, "label": sample.label, "mask": sample.object_mask is not None}
            ).encode()
            files = {"json": label if number == 2 else about, "png": sample.image, "mask.png": sample.object_mask}
            for suffix, content in files.items():
                if content is not None:
                    entry = tarfile.TarInfo(f"{sample.id:019d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _image(form: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    picture = Image.new(mode, (30, 20)) if mode.startswith("I") else noise.convert(mode)
    picture.save(stream, form, **options)
    return stream.getvalue()


def _turned() -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    return tags


def _read_image(path: Path) -> None:
    content = path.read_bytes()
    size = size_of(content, "image")
    assert tuple(decode_image(content, "image").shape[1:]) == size


def _read_mask(path: Path) -> None:
    for code in ("binary", "imagenet_s", "trimap"):
        assert decode_mask(path.read_bytes(), code, "mask").dtype == torch.bool
    assert decode_imagenet_s(path.read_bytes(), "map").dtype == torch.int32


@cache
def _checkpoint() -> dict[str, Any]:
    """What Lightning saves of the smallest training, as plain values; tensors apart."""
    arguments = dict(MaskRobustClassifier(num_classes=4, architecture_options={"width": 16}).hparams)
    done = {"current": {"processed": 1, "started": 1, "completed": 1}}
    return {
        "epoch": 0,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "loops": {"fit_loop": {"epoch_progress": done, "epoch_loop.val_loop.batch_progress": done}},
        "callbacks": {"ModelCheckpoint": {"best_model_path": "canary", "best_k_models": {"canary": 0.5}}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {
            **arguments,
            **{name: list(arguments[name]) for name in ("mean", "std", "hidden_fraction")},
        },
        "config": {"model": {"learning_rate": 0.1}, "data": {"class_path": "Cues", "init_args": {"seed": 0}}},
        "class_names": ["ant", "bee", "cat", "dog"],
        "wandb": {"id": "abc", "name": "run", "project": "maskrobust", "entity": None},
    }


@cache
def _weights() -> dict[str, torch.Tensor]:
    return MaskRobustClassifier(num_classes=4, architecture_options={"width": 16}).state_dict()


def _saved(content: Any, *, old: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def _checkpoints() -> st.SearchStrategy[bytes]:
    whole = {**_checkpoint(), "state_dict": _weights()}
    saved = _saved(whole)
    trees = changed_tree(_checkpoint()).map(
        lambda tree: _saved({"state_dict": _weights(), **tree} if isinstance(tree, dict) else tree)
    )
    pickles = st.randoms(use_true_random=False).map(
        lambda chance: within_archive(saved, "data.pkl", partial(_scrambled, chance))
    )
    return st.one_of(trees, pickles, changed_bytes(saved), changed_bytes(_saved(whole, old=True)))


def _scrambled(chance: Any, content: bytes) -> bytes:
    """A pickle with a few of its bytes or opcodes changed."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content))
        new = chance.choice(
            [bytes([chance.randrange(256)]), b"", b"(", b"t", b"]", b"R", b"Q", b"\x8a\x08" + b"\xff" * 8]
        )
        content = content[:at] + new + content[at + chance.randint(0, 2) :]
    return content


def _read_checkpoint(path: Path) -> None:
    """All that fit and evaluate do with a checkpoint before anything is trained."""
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    now = {"model": {"learning_rate": 0.1}, "data": {"class_path": "Cues", "init_args": {"seed": 0}}}
    check_same_training(checkpoint.get("config"), now, str(path))
    limit_reached(checkpoint, max_epochs=9, max_steps=-1)
    _run_to_go_on_with(str(path), "run", WandbOptions())
    load_network(str(path))


@cache
def _network() -> SmallResNet:
    return SmallResNet(4)


def _read_weights(path: Path) -> None:
    load_weights(_network(), path)


def _named() -> TrainedNetwork:
    origin = Origin("small_resnet", {"width": 16}, layer_masking={"merge": "union"}, training={"seed": 0})
    return TrainedNetwork(
        "net", SmallResNet(4), Preprocessing(size=(32, 32)), 4, class_names=list("abcd"), origin=origin
    )


@cache
def _exported() -> dict[str, bytes]:
    """An exported network's files."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        write_export(_named(), Path(name))
        return {each: (Path(name) / each).read_bytes() for each in (CONFIG, WEIGHTS)}


def _read_reliance(path: Path) -> None:
    model_card(_named(), "net", reliance_rows(path, "net"))


def _safetensors() -> bytes:
    return safetensors.torch.save(_network().state_dict())


def _bank() -> bytes:
    masks = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    masks[:, :, 2:5, 3:6] = True
    columns = {"labels": torch.tensor([0, 1, 1]), "ids": torch.tensor([3, 5, 9]), "objects": torch.tensor([3, 5, 5])}
    return safetensors.torch.save({"object_masks": masks} | columns)


def _read_bank(path: Path) -> None:
    bank = SilhouetteBank.load(path)
    assert len(bank.by_object) == len(bank)


def _idx(dimensions: int) -> bytes:
    shape = (5, 28, 28)[:dimensions]
    return (
        bytes((0, 0, 8, dimensions)) + b"".join(side.to_bytes(4, "big") for side in shape) + bytes(int(np.prod(shape)))
    )


def _archive(*, compressed: bool) -> bytes:
    stream = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(stream, ids=np.arange(4), predictions=np.zeros(4, dtype=np.int64))
    return stream.getvalue()


_RELIANCE = {
    "format": 2,
    "networks": ["net", "other"],
    "methods": ["black"],
    "rows": [
        {
            "network": "net", "method": "black", "measure": "transfer_accuracy", "value": 0.5, "low": 0.4, "high": None,
            "images": 3, "left_out": 0, "parameters": {"family": "patches"}, "seed": None, "compared_with": "",
        }
    ],
}  # fmt: skip
_CUTOUTS = b'file,class\ncanary,n01514859\nshards/manifest.json,"a hen, or not"\n'
_CONFIGURATION = {"model": {"architecture": "resnet18", "learning_rate": 0.1}, "data": {"class_path": "Cues"}}
_PETS = b"Abyssinian_100 1 1 1\nBengal_2 6 1 6\n"


def _read_entry(path: Path) -> None:
    Store(path.parents[1], {}).get(path.parent.name)


_RECORD = {"settings": {"seed": 7, "training": {"epochs": 3}}, "files": ["entry.json"]}

KINDS = {
    "manifest": Kind("shards/manifest.json", _json_of(json.loads(_folder()["manifest.json"])), _read_manifest),
    "tar": Kind(
        "shards/val-000000.tar", _bytes_of(_folder()["val-000000.tar"], repair=with_checksums_of_tar), _read_shards
    ),
    "label": Kind("shards/val-000000.tar", _json_of({"id": 5, "label": 1, "mask": True}).map(_labelled), _read_shards),
    "png": Kind(
        "image.png",
        _bytes_of(
            _image("png"), _image("png", "P"), _image("png", "I;16", exif=_turned()), repair=with_checksums_of_png
        ),
        _read_image,
    ),
    "jpeg": Kind(
        "image.jpg",
        _bytes_of(
            _image("jpeg"), _image("jpeg", exif=_turned()), _image("jpeg", "CMYK"), _image("jpeg", progressive=True)
        ),
        _read_image,
    ),
    "tiff": Kind("image.tif", _bytes_of(_image("tiff"), _image("tiff", "L", compression="tiff_lzw")), _read_image),
    "gif": Kind("image.gif", _bytes_of(_image("gif", "P")), _read_image),
    "other images": Kind("image.bmp", _bytes_of(_image("bmp"), _image("ppm"), _image("webp")), _read_image),
    "mask": Kind(
        "mask.png",
        _bytes_of(_image("png", "1"), _image("png", "L"), _image("png", "P"), repair=with_checksums_of_png),
        _read_mask,
    ),
    "cut-out": Kind(
        "cutout.png",
        _bytes_of(
            _image("png", "RGBA"),
            _image("png", "LA"),
            _image("png", "P", transparency=bytes(range(256))),
            _image("png", "RGB", transparency=(1, 2, 3)),
            _image("png", "I;16", transparency=7),
            repair=with_checksums_of_png,
        ),
        read_cutout,
    ),
    "classes of cut-outs": Kind("classes.csv", _bytes_of(_CUTOUTS), lambda path: list_cutouts(path.parent, path, ())),
    "checkpoint": Kind("last.ckpt", _checkpoints(), _read_checkpoint),
    "export": Kind(
        f"exported/{CONFIG}", _json_of(json.loads(_exported()[CONFIG])), lambda path: load_network(str(path.parent))
    ),
    "reliance": Kind("reliance.json", _json_of(_RELIANCE), _read_reliance),
    "outputs of classes": Kind(
        "outputs.csv", _bytes_of(b'class,output\ncat,3\ndog,n02084071\n"eel",moray\n'), read_classes
    ),
    "state dict": Kind(
        "weights.pt",
        _bytes_of(_saved(_network().state_dict()), _saved(_network().state_dict(), old=True)),
        _read_weights,
    ),
    "safetensors": Kind("weights.safetensors", _bytes_of(_safetensors()), _read_weights),
    "bank": Kind("bank.safetensors", _bytes_of(_bank()), _read_bank),
    "idx": Kind("t10k-labels-idx1-ubyte", _bytes_of(_idx(1), _idx(3)), lambda path: read_garments(path.parent, "test")),
    "compressed idx": Kind(
        "train-images-idx3-ubyte.gz",
        _bytes_of(gzip.compress(_idx(3), mtime=0)),
        lambda path: read_garments(path.parent, "train"),
    ),
    "arrays": Kind(
        "outcomes.npz",
        _bytes_of(_archive(compressed=True), _archive(compressed=False)),
        partial(read_arrays, needed=["ids", "predictions"]),
    ),
    "yaml": Kind(
        "config.yaml",
        st.one_of(
            changed_tree(_CONFIGURATION).map(yaml.safe_dump).map(str.encode),
            _bytes_of(yaml.safe_dump(_CONFIGURATION).encode()),
        ),
        lambda path: with_config_paths(["fit", f"--config={path}"]),
    ),
    "record": Kind("entry.json", _json_of(_RECORD), _read_entry),
    "list of pets": Kind("annotations/test.txt", _bytes_of(_PETS), lambda path: _read_list(path.parents[1], "test")),
}
"""By the word that a report has for it."""
