"""Shipped configurations made small enough for a test: seconds instead of minutes, the same structure."""

from pathlib import Path
from typing import Any

import yaml

from configs import find_config

TINY_DATA = {"train_images": 48, "val_images": 24, "test_images": 24, "image_size": 48, "batch_size": 16}


def tiny_claim(name: str, path: Path, **changes: Any) -> Path:
    """Write the shipped claim `name`, shrunk and with top-level keys replaced, to `path`."""
    content = yaml.safe_load(find_config(name).read_text())
    content["data"]["init_args"] |= TINY_DATA
    content["model"]["architecture_options"] = {"width": 16}
    content["training"]["epochs"] = 1
    content["evaluation"]["replicates"] = 50
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def tiny_fit(name: str, folder: Path) -> list[str]:
    """Arguments that run the shipped fit configuration `name` for two steps, writing below `folder`."""
    sizes = [f"--data.init_args.{key}={value}" for key, value in TINY_DATA.items()]
    return [
        f"--config={name}",
        f"--trainer.default_root_dir={folder}",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
        "--model.architecture_options={width: 16}",
        *sizes,
    ]
