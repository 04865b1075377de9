"""The networks and pictures of `play`: the user's own, or a small network and pictures with known outlines."""

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import torch
from rich.console import Console

from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.photographs import read_photograph
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.sets.cues import Cues
from maskrobust.train.explain.pictures import Picture, list_pictures, pictures_of, read_picture, square_picture
from maskrobust.train.networks import load_for
from maskrobust.train.play import PlayConfig
from maskrobust.train.running.processes import find_device
from maskrobust.train.storage.files import atomic_path

_EPOCHS = 4

_PHOTOGRAPHS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png")
_NO_OBJECTS = ("brick.png", "grass.png", "gravel.png", "moon.png")


def load_networks(config: PlayConfig, console: Console) -> list[TrainedNetwork]:
    """The networks on the device; without names the small one, which is trained first where the cache lacks it.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or there is no such device.
    """
    device = find_device(config.device)
    if config.network:
        return [load_for(name, None, "32").to(device) for name in config.network]
    data = Cues()
    kept = Path(torch.hub.get_dir()).parent / "maskrobust" / "play-small_resnet-cues.ckpt"
    if not kept.is_file():
        console.print(f"play: training small_resnet on Cues, once; kept as {kept}", markup=False, soft_wrap=True)
        train_small(data, kept)
    network = load_network(str(kept), {"size": data.image_size})
    network.name = "small_resnet, trained on Cues"
    return [network.to(device)]


def train_small(data: Cues, path: Path) -> None:
    """Train small_resnet without masks on generated images, with a progress bar, and write its checkpoint."""
    import pytorch_lightning as pl

    from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
    from maskrobust.train.fit import quiet_lightning

    quiet_lightning()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MaskRobustClassifier("small_resnet", data.num_classes, mean=data.mean, std=data.std, masking="none")
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = pl.Trainer(max_epochs=_EPOCHS, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(network, data)
    with atomic_path(path) as temporary:
        trainer.save_checkpoint(temporary, weights_only=True)


def offered_pictures(config: PlayConfig, reading: Reading) -> list[Picture]:
    """The pictures of `config.image_size` by which the page begins, named for people, files by `reading`.

    Raises:
        MissingFileError, InputError: a file is missing, or is no image.
    """
    size = config.image_size
    if config.images:
        found = [read_picture(name, path, size, reading) for name, path in list_pictures(config.images).items()]
    elif config.network:
        pixels = {PurePath(file).stem: torch.tensor(read_photograph(file)).permute(2, 0, 1) for file in _PHOTOGRAPHS}
        found = [square_picture(name, image, None, size) for name, image in pixels.items()]
    else:
        data = Cues(test_images=8, image_size=size)
        found = [each._replace(name=data.class_names[each.label]) for each in pictures_of(data, "test", 8)]
    return [*found, *_empty_scenes(size)]


def _empty_scenes(size: int) -> Iterator[Picture]:
    """A plain grey, and photographs that show no object."""
    grey = torch.full((3, size, size), 128, dtype=torch.uint8)
    photographs = {PurePath(file).stem: torch.tensor(read_photograph(file)).permute(2, 0, 1) for file in _NO_OBJECTS}
    for name, pixels in ({"grey": grey} | photographs).items():
        yield square_picture(f"empty scene: {name}", pixels, None, size)
