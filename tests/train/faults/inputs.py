"""Good inputs for every command, small and below one folder; each fault spoils a copy of them."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.train.cli import main
from tests.train.data.sets.test_shards import write_folder
from tests.train.tiny import tiny_claim, tiny_fit

CHECKPOINT = "runs/cues/version_0/checkpoints/last.ckpt"

_SMALL = ["--data.image_size=32", "--data.batch_size=4", "--data.num_workers=0"]
_QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_epochs=1",
    "--trainer.default_root_dir=runs",
    "--model.architecture_options={width: 16}",
]
CUES = [*tiny_fit("cues.yaml", Path("runs")), "--trainer.callbacks=[]"]
FOLDER = ["--data=Folder", "--data.root=images", "--data.mask_root=masks", *_SMALL, *_QUICK]
SHARDS = ["--data=Shards", "--data.root=shards", "--data.view=as_is", *_SMALL, *_QUICK]
EVALUATE = ["evaluate", "--config=cues.yaml", "--methods=[black]", "--replicates=50", "--out=out"]
WRITE_SHARDS = [
    "shards",
    "--data=Cues",
    *("--data.train_images=8", "--data.val_images=4", "--data.test_images=4"),
    *("--out=written", "--workers=1"),
]
CLAIM = ["claim", "--config=claim.yaml", "--out=claim"]


def write_inputs(folder: Path) -> Path:
    """Fill the current folder, `folder`, with images, masks, shards, weights, a run and a claim."""
    for split, count in {"train": 8, "val": 4, "test": 4}.items():
        for number in range(count):
            _write_image(folder, f"{split}/{('bird', 'cat')[number % 2]}/{number}")
    write_folder(folder / "shards")
    weights = {name: tensor.contiguous() for name, tensor in SmallResNet(8, width=16).state_dict().items()}
    torch.save(weights, folder / "weights.pt")
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    main(["fit", *CUES])
    return folder


def _write_image(folder: Path, name: str) -> None:
    image, mask = folder / "images" / f"{name}.jpg", folder / "masks" / f"{name}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((48, 40), 70).convert("RGB").save(image)
    object_mask = np.zeros((40, 48), dtype=np.uint8)
    object_mask[8:30, 10:36] = 255
    Image.fromarray(object_mask).save(mask)
