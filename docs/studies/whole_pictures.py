"""What fine-tuning on holes adds to fine-tuning on whole pictures: the control of docs/research-training.md.

    python whole_pictures.py OUT lite0.safetensors --seeds 6   # in this folder; resumes when run again

Planned on 2026-12-03, before any of its networks was trained. `finetune_cutouts.yaml` raised the accuracy of an
EfficientNet-Lite0 under layer masking, with half of the patches hidden, from 19 to 39 %. That network had seen cut-outs
pasted on photographs in its training, and the network of 19 % had not. So two trainings are compared that see the same
pictures: whole, or with holes under layer masking in half of them. All else is as in `finetune_cutouts.yaml`, but for
the target. The prediction of the frozen network as it is has a loss of 0 on whole pictures, and teaches nothing there.
Its most probable class, in both trainings, does.

One primary pair: layer masking minus whole pictures, tested under layer masking with half of the patches hidden,
accuracy in points on 111 objects in one picture each, paired by seed and by object. Two 95 % intervals are given, of
Student's t over seeds and over objects. A difference is called shown where both leave out 0. All other rows are
descriptive. Seeds are run in order, both trainings of one before the next. As many of 1 to 6 count as are finished at
07:25 of that day, whatever they show, and at least two. (Two were. All six were run on 2026-12-04.)
"""

import argparse
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cutouts import Cutouts
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from maskrobust import load_network, objective, sample_keys
from maskrobust.augment import Batch, patches
from maskrobust.train.cli import main as maskrobust

ARMS = {
    "whole pictures": ["--model.masking=none"],
    "layer masking": ["--model.masking=layer_masking"],
}
TESTS = {"nothing": (None, "layer_masking"), "half": (0.5, "layer_masking"), "half, mean colour": (0.5, "mean")}
"""The fraction of patches hidden, and how they are presented."""

LITE = {"mean": [0.498] * 3, "std": [0.502] * 3, "size": None, "crop": 1.0}


@objective("likeliest_class", needs_holes=False)
def likeliest_class(learner, batch: Batch, shown, teacher) -> Tensor:  # type: ignore[no-untyped-def]
    """Cross-entropy with the most probable class of the frozen network for the whole picture."""
    return F.cross_entropy(learner(shown.images, shown.visible), teacher(batch.images).argmax(dim=1))


def train(out: Path, arm: str, seed: int, weights: str) -> Path:
    """The checkpoint of a training, which is run unless it is there."""
    name = f"{arm.replace(' ', '_')}-{seed}"
    finished = out / f"{name}.ckpt"
    if not finished.exists():
        maskrobust([
            *("fit", "--config", "finetune_cutouts.yaml", *ARMS[arm], f"--model.weights={weights}"),
            *("--model.objective=likeliest_class", "--trainer.limit_val_batches=0"),
            *(f"--seed_everything={seed}", f"--data.init_args.seed={seed}", f"--model.seed={seed}"),
            *(f"--trainer.default_root_dir={out}", f"--run_name={name}", "--trainer.enable_progress_bar=false"),
        ])  # fmt: skip
        newest = max((out / name).glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        newest.rename(finished)
    return finished


def right(name: str) -> NDArray[np.bool_]:
    """Which of the 111 objects a network names right, (tests, objects)."""
    batch = Cutouts(training_objects="others", views=1).samples("test")
    network, rows = load_network(name, LITE), []
    for fraction, method in TESTS.values():
        predict, said = network.predictor(method), []
        for some in torch.arange(len(batch.ids)).split(8):
            images, keys = batch.images[some].float() / 255, sample_keys(1, batch.ids[some])
            visible = torch.ones_like(images[:, :1], dtype=torch.bool)
            if fraction is not None:
                masks = sample_keys(0, batch.ids[some])
                visible = patches(masks, *images.shape[2:], hidden_fraction=(fraction, fraction), patch_size=16)
            said.append(predict(images, visible, keys).argmax(dim=1))
        rows.append((torch.cat(said) == batch.labels).numpy())
    return np.stack(rows)


def interval(values: NDArray[np.float64]) -> str:
    """Mean and half of its 95 % interval by Student's t, in percent."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * values.mean():.1f} ± {100 * half:.1f}"


def main() -> None:
    """Train, test and write the table of all seeds that are there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out, weights = options.out.resolve(), str(Path(options.weights).resolve())
    out.mkdir(parents=True, exist_ok=True)

    def tested(name: str, checkpoint: str) -> NDArray[np.bool_]:
        path = out / f"{name}.npy"
        if not path.exists():
            with torch.inference_mode():
                np.save(path, right(checkpoint))
        return np.asarray(np.load(path))

    with chdir(Path(__file__).parent):
        start = tested("not fine-tuned", f"timm/tf_efficientnet_lite0:{weights}")
        found: dict[str, list[NDArray[np.bool_]]] = {arm: [] for arm in ARMS}
        for seed in range(1, options.seeds + 1):
            for arm, runs in found.items():
                runs.append(tested(f"{arm}-{seed}", str(train(out, arm, seed, weights))))
    lines = [f"| trained on | {' | '.join(TESTS)} |", "|---" * (1 + len(TESTS)) + "|"]
    lines.append(f"| not fine-tuned | {' | '.join(f'{100 * each.mean():.1f}' for each in start)} |")
    lines += [
        f"| {arm}, seed {seed} | {' | '.join(f'{100 * each.mean():.1f}' for each in run)} |"
        for arm, runs in found.items()
        for seed, run in enumerate(runs, start=1)
    ]
    whole, masked = (np.stack(found[arm])[:, 1] * 1.0 for arm in ("whole pictures", "layer masking"))
    for name, minus in {
        "primary, layer masking minus whole pictures": masked - whole,
        "whole pictures minus not fine-tuned": whole - start[1],
        "layer masking minus not fine-tuned": masked - start[1],
    }.items():
        lines.append(f"{name}: over seeds {interval(minus.mean(axis=1))}, over objects {interval(minus.mean(axis=0))}")
    (out / "whole_pictures.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
