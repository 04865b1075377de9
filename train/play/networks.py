"""The networks that the page asks: those that the user names, or a small one of its own."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from maskrobust.lm_modules.networks.loading import load_network
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.sets.cues import Cues
from maskrobust.train.networks import load_for
from maskrobust.train.play.config import PlayConfig
from maskrobust.train.running.devices import find_device
from maskrobust.train.storage.files import atomic_path

_EPOCHS = 4


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
    from maskrobust.train.fit.quiet import quiet_lightning

    quiet_lightning()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MaskRobustClassifier("small_resnet", data.num_classes, mean=data.mean, std=data.std, masking="none")
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = pl.Trainer(max_epochs=_EPOCHS, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(network, data)
    with atomic_path(path) as temporary:
        trainer.save_checkpoint(temporary, weights_only=True)
