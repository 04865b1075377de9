"""Shipped configurations made small enough for a test: seconds instead of minutes, the same structure."""

from pathlib import Path
from typing import Any

import yaml

from maskrobust.configs import find_config
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data import Cues
from tests.train.data.layouts import write_pairs
from tests.train.data.sets.test_folder import write_tree
from tests.train.data.sets.test_pets import write_pets
from tests.train.data.sets.test_shards import named, write_folder
from tests.train.data.sets.test_tiles import NAMES, write_tiles
from tests.trainers import quiet_trainer

TINY_DATA = {"train_images": 48, "val_images": 24, "test_images": 24, "image_size": 48, "batch_size": 16}
TINY_NETWORK = ["--model.architecture=small_resnet", "--model.architecture_options={width: 16}"]
TWO_STEPS = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
FEW_MEASURES = [
    *("--plan.curve_families=[]", "--plan.transfer_families=[]", "--plan.scenes=0"),
    *("--plan.patch_size=8", "--device=cpu"),
]
"""Arguments of `evaluate` that leave accuracies and the measures of outlines in a tenth of the time."""

TINY_FILES = {"image_size": 32, "batch_size": 4, "num_workers": 0}


def content_of(name: str) -> dict[str, Any]:
    """A shipped YAML as plain values."""
    return yaml.safe_load(find_config(name).read_text())


def tiny_claim(name: str, path: Path, **changes: Any) -> Path:
    """Write the shipped claim `name`, shrunk and with top-level keys replaced, to `path`."""
    content = content_of(name)
    content["data"]["init_args"] |= TINY_DATA
    content["model"]["architecture_options"] = {"width": 16}
    content["training"]["epochs"] = 1
    content["seeds"] = content["seeds"][:2]
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def write_claim(path: Path, **changes: Any) -> Path:
    """One seed of the smallest claim, with a few questions of every kind."""
    content = yaml.safe_load(tiny_claim("claim_cues.yaml", path).read_text())
    content["data"]["init_args"] |= TINY_DATA | {"train_images": 32, "test_images": 16, "image_size": 32}
    arms = {name: content["arms"][name] for name in ("no_masks", "patches_mean", "layer_masking")}
    arms["no_masks"]["method"] = "mean"
    content |= {"arms": arms, "seeds": [1]}
    few = {"curve_families": ["patches"], "curve_orders": ["random"], "curve_fractions": [0.0, 0.5]}
    few |= {"transfer_families": ["patches", "objects"], "sampled_fraction": 0.25}
    content["evaluation"] |= {"methods": ["mean", "layer_masking"]}
    content["evaluation"] |= {"plan": content["evaluation"]["plan"] | few}
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def tiny_data(data: str, folder: Path) -> dict[str, Any]:
    """Arguments of the data module named `data` that make it small, and what it reads, written below `folder`."""
    if "." in data:  # of a page's own, named by its class path
        return TINY_FILES
    match data:
        case "Cues":
            return TINY_DATA
        case "Folder":
            root, mask_root = write_tree(folder / "folder", ("train", "val"))
            folders = {"root": str(root), "mask_root": str(mask_root)}
            small = TINY_FILES | folders | {"mask_code": "binary", "val_fraction": 0.2}
        case "Images":
            small = TINY_FILES | {"root": str(write_tree(folder / "images", ("train",))[0]), "val_fraction": 0.3}
        case "ImagesWithMasks":
            small = TINY_FILES | write_pairs(folder / "pairs", by_class=True)
        case "Pets":
            small = TINY_FILES | {"root": str(write_pets(folder / "pets"))}
        case "Shards":
            small = TINY_FILES | named(write_folder(folder / "shards"))
        case "Tiles":
            small = {"root": str(write_tiles(folder / "tiles")), "crop_size": 32, "batch_size": 2, "num_workers": 0}
            small |= {"class_names": NAMES, "value_range": [0, 4096]}
        case _:
            raise AssertionError(f"no test data for {data}")
    return small


def tiny_fit(name: str, folder: Path) -> list[str]:
    """Arguments that run the shipped fit configuration `name`, with generated images, for two steps on the CPU."""
    sizes = [f"--data.init_args.{key}={value}" for key, value in TINY_DATA.items()]
    run = [f"--trainer.default_root_dir={folder}", *TWO_STEPS]
    return [f"--config={name}", *run, "--model.architecture_options={width: 16}", *sizes]


def write_checkpoint(path: Path, **options: Any) -> str:
    """Train a classifier with these options on small `Cues` for a step; save it, and return the path."""
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    classifier = MaskRobustClassifier(num_classes=8, architecture_options={"width": 16}, **options)
    trainer.fit(classifier, datamodule=Cues(**TINY_DATA))
    trainer.save_checkpoint(path)
    return str(path)
