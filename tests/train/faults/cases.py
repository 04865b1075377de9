"""Faults and bad inputs under the words of messages.md: what is spoilt in the current folder, and who meets it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from PIL import ExifTags, Image

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.train.cli import main
from tests.lm_modules.networks.test_weights import Malicious
from tests.train.data.conftest import write_fashion_files
from tests.train.data.sets import test_shards as shards
from tests.train.faults.inputs import CHECKPOINT, CLAIM, CUES, EVALUATE, FOLDER, SHARDS, WRITE_SHARDS


class Case(NamedTuple):
    """A fault.

    Attributes:
        command: the command that meets it.
        spoil: makes it, in the current folder.
        leaves: files that the command adds before it ends, as patterns; none where it ends before it begins.
    """

    command: list[str]
    spoil: Callable[[], object] = lambda: None
    leaves: tuple[str, ...] = ()


def cut(path: str, keep: float = 0.5) -> Callable[[], object]:
    """Shorten a file, as an interrupted copy does."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: int(Path(path).stat().st_size * keep)])


def write(path: str, text: str) -> Callable[[], object]:
    """Put a text where something else belongs."""
    return lambda: Path(path).write_text(text)


def delete(path: str) -> Callable[[], object]:
    """Delete a file, or a folder with all it holds."""
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def in_shards(spoil: Callable[[Path], object]) -> Callable[[], object]:
    """Spoil a shard of the validation split."""
    return lambda: spoil(Path("shards"))


def new_class() -> None:
    """Add a class to the validation images alone."""
    shutil.copytree("images/val/cat", "images/val/dog")


def empty_class() -> None:
    """Leave a class without training images."""
    for path in Path("images/train/cat").iterdir():
        path.unlink()


def heic_class() -> None:
    """Give the images of a class a suffix that is not read."""
    for path in Path("images/train/cat").iterdir():
        path.rename(path.with_suffix(".heic"))


def rename_masks() -> None:
    """Give all masks of the training images an ending of their own."""
    for path in Path("masks/train").rglob("*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))


def small_mask() -> None:
    """Replace a mask by one of another size."""
    Image.new("L", (20, 20)).save("masks/train/bird/2.png")


def turned_image() -> None:
    """Replace a training image by one that a camera held on its side has taken; its mask fits the raw pixels."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (48, 40)).save("images/train/bird/2.jpg", exif=tags)


def float_image() -> None:
    """Replace a training image by one of floating-point numbers, as an instrument writes it."""
    Path("images/train/bird/2.jpg").unlink()
    Image.new("F", (48, 40), 0.5).save("images/train/bird/2.tif")


def break_fashion() -> None:
    """Write Fashion-MNIST's four files, one of them cut short."""
    write_fashion_files(Path("fashion"), compressed=True)
    cut("fashion/train-images-idx3-ubyte.gz")()


def malicious(path: str) -> Callable[[], object]:
    """Write a checkpoint that makes the folder `executed` when it is unpickled."""
    return lambda: torch.save({"state_dict": {}, "extra": Malicious(Path("executed"))}, path)


def name_a_class() -> None:
    """Write a checkpoint whose network is a class of a module that makes the file `executed` when it is imported."""
    Path("stranger.py").write_text("open('executed', 'w')\nclass Network: ...\n")
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["hyper_parameters"]["architecture"] = {"class_path": "stranger.Network"}
    torch.save(checkpoint, "own.ckpt")


def save(path: str, network: Callable[[], torch.nn.Module]) -> Callable[[], object]:
    """Write the weights of another network."""
    return lambda: torch.save(network().state_dict(), path)


def keep(entries: list[str]) -> Callable[[], object]:
    """Write a checkpoint that holds only these entries of a whole one, as `save_weights_only` does."""

    def spoil() -> None:
        checkpoint = torch.load(CHECKPOINT)
        torch.save({name: checkpoint[name] for name in entries}, "weights.ckpt")

    return spoil


CALLBACK = "data: Cues\ntrainer:\n  callbacks:\n  - class_path: ModelChekpoint\n"
STARTED = ("runs/cues/version_1/*", "runs/lightning_logs/version_0/*", "runs/run/version_0/*")

DATA = {
    "the folder of images is not there": Case(["fit", *FOLDER], delete("images")),
    "the folder of images is that of a split": Case(["fit", *FOLDER, "--data.root=images/train"]),
    "images with masks are those of all splits": Case(
        [
            *EVALUATE[:1],
            "--data=ImagesWithMasks",
            "--data.images=images",
            "--data.masks=masks",
            *EVALUATE[2:],
            f"--network={CHECKPOINT}",
        ]
    ),
    "silhouettes are drawn from no masks": Case(
        ["fit", *FOLDER, "--data.mask_root=null", "--model.masking=fill", "--model.mask_family=silhouettes"],
        leaves=STARTED,
    ),
    "a class has no training image": Case(["fit", *FOLDER], empty_class),
    "a class has files of an unknown format alone": Case(["fit", *FOLDER], heic_class),
    "validation has a class that training has not": Case(["fit", *FOLDER], new_class),
    "the folder of masks is not there": Case(["fit", *FOLDER, "--data.mask_root=maks"]),
    "masks lie in other folders than train, val and test": Case(["fit", *FOLDER, "--data.mask_root=masks/train"]),
    "masks have other names than the images": Case(["fit", *FOLDER], rename_masks),
    "a training image breaks off": Case(["fit", *FOLDER], cut("images/train/bird/2.jpg"), STARTED),
    "an image for evaluation is an error page": Case(
        ["fit", *FOLDER], write("images/val/bird/2.jpg", "<html>404</html>"), STARTED
    ),
    "a training image holds floating-point numbers": Case(["fit", *FOLDER], float_image, STARTED),
    "a mask breaks off": Case(["fit", *FOLDER], cut("masks/train/bird/2.png", keep=0.7), STARTED),
    "a mask has another size than its image": Case(["fit", *FOLDER], small_mask, STARTED),
    "a mask has the size of a photograph before it is turned": Case(["fit", *FOLDER], turned_image, STARTED),
    "a file of Fashion-MNIST breaks off": Case(
        ["fit", *CUES, "--data=Fashion", "--data.init_args.root=fashion"], break_fashion
    ),
    "the manifest of shards is not there": Case(["fit", *SHARDS], delete("shards/manifest.json")),
    "a shard of validation breaks off": Case(["fit", *SHARDS], in_shards(shards.truncate), STARTED),
    "a shard of validation is not there": Case(["fit", *SHARDS], in_shards(shards.delete), STARTED),
    "a shard of training is not there": Case(["fit", *SHARDS], delete("shards/train-000001.tar"), STARTED),
    "an image in a shard breaks off": Case(["fit", *SHARDS], in_shards(shards.break_the_image), STARTED),
    "a mask is missing in a shard": Case(["fit", *SHARDS], in_shards(shards.drop_the_mask), STARTED),
    "a label in a shard is no class": Case(["fit", *SHARDS], in_shards(shards.relabel), STARTED),
    "an id comes twice in a shard": Case(["fit", *SHARDS], in_shards(shards.repeat_a_key), STARTED),
    "shards are written into a folder of shards": Case(WRITE_SHARDS, lambda: main(WRITE_SHARDS)),
}

CONFIGURATION = {
    "a shipped configuration is misspelt": Case(["fit", *CUES, "--config=cue.yaml"]),
    "a YAML cannot be parsed": Case(["fit", "--config=own.yaml"], write("own.yaml", "model: [unclosed")),
    "an option is misspelt": Case(["fit", *CUES, "--model.maskng=fill"]),
    "an option in a YAML is misspelt": Case(
        ["fit", "--config=own.yaml"], write("own.yaml", "model:\n  maskng: fill\ndata: Cues\n")
    ),
    "an option is shortened": Case(["fit", *CUES, "--model.mask_fam=blobs"]),
    "options are missing": Case(["masks"]),
    "data are missing": Case(["fit", "--trainer.max_epochs=1"]),
    "a claim is not stated": Case(["claim", "--out=claim"]),
    "an option is that of another command": Case(["fit", *CUES, "--network=a.ckpt"]),
    "an option is that of fit": Case([*EVALUATE, "--model.masking=fill"]),
    "an option is that of other projects": Case(["fit", *CUES, "--lr=0.1"]),
    "a network is given as the model": Case(["fit", *CUES, "--model=resnet18"]),
    "a folder is given as the data": Case(["masks", "--data=images", "--out=out"]),
    "an option has no value": Case(["fit", *CUES, "--ckpt_path"]),
    "an option of the data is misspelt": Case(["fit", "--data=Folder", "--data.rot=images"]),
    "a number is a word": Case(["fit", *CUES, "--data.init_args.batch_size=many"]),
    "a number that may be left open is a word": Case(["fit", *CUES, "--trainer.max_epochs=two"]),
    "a choice is none of those": Case(["fit", *CUES, "--model.masking=foo"]),
    "W&B is neither switched on nor off": Case(["fit", *CUES, "--wandb=maybe"]),
    "a network of one's own cannot be found": Case(
        ["fit", *CUES, "--model.architecture.class_path=my_networks.SmallNetwork"]
    ),
    "a callback is misspelt": Case(["fit", "--config=own.yaml"], write("own.yaml", CALLBACK)),
    "a range is the wrong way round": Case(["fit", *CUES, "--model.hidden_fraction=[0.9, 0.1]"]),
    "a range is in percent": Case(["fit", *CUES, "--model.hidden_fraction=[50, 50]"]),
    "a learning rate is negative": Case(["fit", *CUES, "--model.learning_rate=-0.1"]),
    "an architecture is misspelt": Case(["fit", *CUES, "--model.architecture=resnet51"]),
    "layer masking of a transformer": Case(
        [
            "fit",
            *CUES,
            "--model.architecture=vit_b_16",
            "--model.architecture_options=null",
            "--data.init_args.image_size=224",
        ]
    ),
    "data of a name that is none": Case(["fit", *CUES, "--data=Fashon"]),
    "a GPU is asked for where none is": Case(["fit", *CUES, "--trainer.accelerator=cuda"]),
    "more devices than there are": Case(["fit", *CUES, "--trainer.devices=-3"]),
    "a schedule without an end": Case(["fit", *CUES, "--trainer.max_epochs=-1"], leaves=STARTED),
    "an arm of a claim is misspelt": Case([*CLAIM, "--rule.baseline=no_mask"]),
}

CHECKPOINTS = {
    "a checkpoint is not there": Case(["fit", *CUES, "--ckpt_path=none.ckpt"]),
    "a checkpoint is not there, but others are": Case(
        ["fit", *CUES, "--ckpt_path=runs/cues/version_0/checkpoints/first.ckpt"]
    ),
    "a checkpoint breaks off": Case(["fit", *CUES, f"--ckpt_path={CHECKPOINT}"], cut(CHECKPOINT)),
    "a checkpoint to go on from would run code": Case(["fit", *CUES, "--ckpt_path=evil.ckpt"], malicious("evil.ckpt")),
    "weights to start from would run code": Case(["fit", *CUES, "--model.weights=evil.pt"], malicious("evil.pt")),
    "a checkpoint to evaluate would run code": Case([*EVALUATE, "--network=evil.ckpt"], malicious("evil.ckpt")),
    "a checkpoint of a network of one's own is evaluated": Case([*EVALUATE, "--network=own.ckpt"], name_a_class),
    "a run goes on with another learning rate": Case(
        ["fit", *CUES, f"--ckpt_path={CHECKPOINT}", "--model.learning_rate=0.3"]
    ),
    "a run goes on on data of other classes": Case(
        ["fit", *CUES, f"--ckpt_path={CHECKPOINT}", "--data.init_args.num_classes=4"]
    ),
    "weights are given as a checkpoint to go on from": Case(["fit", *CUES, "--ckpt_path=weights.pt"]),
    "a checkpoint without the optimiser is given to go on from": Case(
        ["fit", *CUES, "--ckpt_path=weights.ckpt"], keep(["state_dict", "loops", "pytorch-lightning_version"])
    ),
    "a checkpoint of another framework is given to go on from": Case(
        ["fit", *CUES, "--ckpt_path=weights.ckpt"], keep(["state_dict", "epoch"])
    ),
    "a safetensors file breaks off": Case(
        ["fit", *CUES, "--model.weights=weights.safetensors"], cut("weights.safetensors")
    ),
    "weights are of another network": Case(
        ["fit", *CUES, "--model.weights=other.pt"], save("other.pt", lambda: torchvision.models.resnet18(num_classes=8))
    ),
    "weights are for other classes": Case(
        ["fit", *CUES, "--model.weights=other.pt"], save("other.pt", lambda: SmallResNet(5, width=16))
    ),
    "weights without an architecture are evaluated": Case([*EVALUATE, "--network=[weights.pt]"]),
    "a network is evaluated on classes that it does not have": Case(
        [*EVALUATE, "--network=small_resnet:other.pt"], save("other.pt", lambda: SmallResNet(5, width=16))
    ),
    "a network is evaluated without a word on its weights": Case([*EVALUATE, "--network=resnet18"]),
}

LOGS_AND_DISK = {
    "two loggers are asked for in two ways": Case(["fit", *CUES, "--wandb=true", "--trainer.logger=true"]),
    "the folder of the runs is a file": Case(["fit", *CUES, "--trainer.default_root_dir=weights.pt"]),
}

SECTIONS = {
    "Data": DATA,
    "Configuration": CONFIGURATION,
    "Checkpoints": CHECKPOINTS,
    "Loggers and disk": LOGS_AND_DISK,
}
