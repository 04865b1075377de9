"""Whether masked pre-training teaches the outlines of objects: the last section of docs/research-pretraining.md.

    python docs/studies/outlines_taught.py runs/taught --seeds 1 2 3 4 5

The plan, committed before any run. A small ResNet is pre-trained on 4,000 garments over photographs (48 px, 756 steps)
with a hole in the shape of the image's own garment, or of that of the next image in the batch. The holes are the same,
and only "own" has holes that depend on what they hide. Both are done with zeros (as in SparK) and with mean padding.

- *Outline carried*, as in `pretraining_study.py`: the accuracy of a linear probe fitted and tested on garments hidden
  along their outline, minus that of one with the enclosing circle hidden, in points.
- Primary, the only test: own minus other, each pre-trained and asked under zeros, paired by seed, Student's t.
  Pre-training is said to teach outlines if the 95 % interval lies above 0, and else not to be shown to. It is said to
  teach little if the interval ends below 3 points.
- Positive control: the network trained with labels, own-object holes and zeros, minus the untrained one. It is run
  first. If its interval over seeds 1 to 3 is not above 0, no pre-training is run. Null: the untrained network.
- Without a test: own minus other under mean padding, and each pre-training minus the untrained network.
- Seeds 1 to 5 in this order, arms under zeros first. The run ends at an hour fixed before, whatever it shows. A seed
  counts if both of its arms under zeros are done by then; fewer than five are reported as such, and with fewer than
  three nothing is decided.

About 50 minutes of one core. One file for each arm and seed; those that are there stay. Several processes may share a
folder. One that is killed leaves an empty file, to be deleted.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from maskrobust import LayerMasking, build_network
from maskrobust.augment import Batch
from maskrobust.lm_modules.training.pretraining import MaskedPretraining

sys.path.append(str(Path(__file__).parent))
from fashion import Fashion
from pretraining_study import Numbers, computing, interval, outline_numbers, trainer

IMAGES, PROBED, TESTED, EPOCHS, LABELLED_EPOCHS = 4000, 2000, 2000, 12, 10
OPTIONS = {"hidden_fraction": (0.6, 0.6), "patch_size": 8, "decoder_width": 16, "learning_rate": 2e-3}
ARMS = ("untrained", "labels", "own, zeros", "other, zeros", "own, mean", "other, mean")


class ObjectHoles(NamedTuple):
    """Holes in the shape of the image's own object, or of the next one's; in place of a `RandomMasking`."""

    whose: str

    def draw_visible(self, _keys: Tensor, batch: Batch) -> Tensor:
        """(B, 1, H, W) bool."""
        return ~(batch.object_mask if self.whose == "own" else batch.object_mask.roll(1, 0))


def pretrained(network: nn.Module, data: Fashion, arm: str, seed: int) -> float:
    """Pre-train a network, and return the loss of the last step."""
    whose, padding = arm.split(", ")
    module = MaskedPretraining(
        network, mean=data.mean, std=data.std, layer_masking={"padding": padding}, seed=seed, **OPTIONS
    )
    module.training_masks = ObjectHoles(whose)
    fit = trainer(EPOCHS)
    with computing(padding):
        fit.fit(module, datamodule=data)
    return float(fit.callback_metrics["train/loss"])


def trained_with_labels(network: nn.Module, data: Fashion) -> float:
    """Train on labels behind own-object holes, with zeros, and return the loss of the last step."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    masked, loader = LayerMasking(network, padding="zeros"), data.train_dataloader()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=LABELLED_EPOCHS * len(loader))
    for _ in range(LABELLED_EPOCHS):
        for batch in loader:
            images = (batch.images.float() / 255 - mean) / std
            with computing("zeros"):
                loss = nn.functional.cross_entropy(masked(images, ~batch.object_mask), batch.labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return loss.item()


def run(arm: str, seed: int) -> Numbers:
    """All numbers of an arm and a seed."""
    data = Fashion(train_images=IMAGES, val_images=1, test_images=TESTED, seed=seed)
    data.setup("fit")
    pl.seed_everything(seed, verbose=False)
    network, loss, start = build_network("small_resnet", data.num_classes), float("nan"), time.process_time()
    if arm == "labels":
        loss = trained_with_labels(network, data)
    elif arm != "untrained":
        loss = pretrained(network, data, arm, seed)
    trained = time.process_time()
    numbers = outline_numbers(network, data, PROBED) | {"loss": loss}
    return numbers | {"training seconds": trained - start, "probe seconds": time.process_time() - trained}


def table(results: Mapping[tuple[str, int], Numbers]) -> str:
    """Each number of each arm, then the differences of outline carried; in points, with 95 % intervals over seeds."""

    def of(arm: str, key: str) -> dict[int, float]:
        return {seed: 100 * numbers[key] for (name, seed), numbers in results.items() if name == arm}

    lines: list[tuple[str, list[float]]] = []
    for arm in ARMS:
        keys = [f"{what} under {padding}" for padding in ("zeros", "mean") for what in ("outline", "circle", "carried")]
        lines += [(f"{arm}: {key}", [*of(arm, key).values()]) for key in keys]
    pairs = [("labels", "untrained"), ("own, zeros", "other, zeros"), ("own, mean", "other, mean")]
    for one, other in (*pairs, *((arm, "untrained") for arm in ARMS[2:])):
        key = "carried under mean" if "mean" in one else "carried under zeros"
        first, second = of(one, key), of(other, key)
        lines.append((f"{one} minus {other}: {key}", [first[seed] - second[seed] for seed in first if seed in second]))
    return "\n".join(
        "{}: {:.1f} ± {:.1f} ({} seeds)".format(name, *interval(np.array(values)), len(values))
        for name, values in lines
        if len(values) > 1
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what no process has begun, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS, help="what to train")
    parser.add_argument("--seeds", nargs="*", type=int, default=range(1, 6), help="seeds")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed, arm in product(options.seeds, options.arms):
        path = options.out / f"{arm}-{seed}.json"
        if not path.exists():
            path.touch(exist_ok=False)  # so that another process leaves it out
            path.write_text(json.dumps(run(arm, seed)), encoding="utf-8")
    files = {path: path.stem.rsplit("-", 1) for path in options.out.glob("*.json") if path.stat().st_size}
    print(table({(arm, int(seed)): json.loads(path.read_text("utf-8")) for path, (arm, seed) in files.items()}))


if __name__ == "__main__":
    main()
