"""The study of docs/research-holes.md: five ways to hide pixels from a small vision transformer.

    python docs/studies/vit_garments.py runs/vit_garments

trains it on garments (Debian's package dataset-fashion-mnist) without holes, asks it, and writes vit.md in the folder.
A training that is there already stays. About 15 minutes on one core.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskrobust import load_network, sample_keys
from maskrobust.augment import Batch, SilhouetteBank, patches
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.holes.scenes import draw_shapes
from maskrobust.lm_modules.reliance.measures.outline_pull import outline_pulls
from maskrobust.train.cli import main as maskrobust

sys.path.append(str(Path(__file__).parent))
from fashion import Fashion
from holes_study import Found, holm, over_objects, over_pairs

TRAINING = [
    "fit", "--config", str(Path(__file__).with_name("fashion.yaml")), "--run_name", "vit", "--model.masking", "none",
    "--trainer.callbacks", "[]",
    "--model.architecture", "timm/vit_tiny_patch16_224", "--model.architecture_options",
    "{img_size: 48, patch_size: 8, embed_dim: 96, depth: 4, num_heads: 3}", "--model.optimiser", "adamw",
    "--model.learning_rate", "0.001", "--model.weight_decay", "0.05", "--trainer.max_epochs", "6",
    "--data.train_images", "20000", "--data.val_images", "500",
]  # fmt: skip
METHODS = {
    "layer_masking": "layer masking, partly hidden patches padded",
    "token_dropping": "layer masking, partly hidden patches hidden",
    "inpainting": "inpainting (Telea)",
    "mean": "mean colour",
    "black": "black",
}
PLANNED = (
    ("accuracy", "layer_masking", "inpainting"),
    ("accuracy", "layer_masking", "token_dropping"),
    ("pull", "layer_masking", "inpainting"),
    ("pull", "layer_masking", "token_dropping"),
)
"""What is compared: the first method minus the second."""

TEST_IMAGES, HIDDEN_PATCH, SHAPES, SCENES, BATCH = 1000, 6, 60, 20, 50
"""Hidden patches have another side than the transformer's, 8, so that many of its patches are partly hidden."""

Array = NDArray[Any]


def ask_accuracy(network: TrainedNetwork, method: str, batch: Batch, fraction: float) -> Array:
    """Whether each prediction is right (N,), with a fraction of the patches hidden."""
    predict, right = network.predictor(method), []
    for some in torch.arange(len(batch.ids)).split(BATCH):
        keys, (side, _) = sample_keys(0, batch.ids[some]), batch.images.shape[2:]
        visible = patches(keys, side, side, hidden_fraction=(fraction, fraction), patch_size=HIDDEN_PATCH)
        logits = predict(batch.images[some].float() / 255, visible, keys)
        right.append(logits.argmax(dim=1) == batch.labels[some])
    return torch.cat(right).numpy()


def ask_pull(network: TrainedNetwork, method: str, data: Fashion, bank: SilhouetteBank) -> tuple[Array, Array]:
    """The pull (P, S) of each pair of shapes in each scene, in logits, and the objects (P, 2) of the pairs."""
    predict, shapes = network.predictor(method), draw_shapes(bank, count=SHAPES, seed=0)
    scenes = data.empty_scenes("test", SCENES).images
    passes = torch.arange(len(shapes.objects) * SCENES).split(BATCH)
    found = [
        predict(scenes[some % SCENES], shapes.visible[some // SCENES], sample_keys(0, some % SCENES)) for some in passes
    ]
    logits = torch.cat(found).reshape(len(shapes.objects), SCENES, -1)
    pulls = outline_pulls(logits.numpy(), shapes.labels.numpy(), shapes.pairs.numpy())
    return pulls, shapes.objects.numpy()[shapes.pairs.numpy()]


def shown(what: str, found: Found) -> str:
    """With the half of a 95 % interval."""
    if what == "pull":
        return f"{found.value:.2f} ± {found.half:.2f}"
    return f"{100 * found.value:.1f} ± {100 * found.half:.1f}"


def tables(network: TrainedNetwork) -> list[str]:
    """Lines: the planned comparisons, then a row for each method."""
    data = Fashion(test_images=TEST_IMAGES)
    batch = data.samples("test")
    bank, kinds = SilhouetteBank.from_batches([batch]), np.repeat("photographs", SCENES)
    answers: dict[tuple[str, str], Array] = {}
    for method in METHODS:
        answers["accuracy", method] = ask_accuracy(network, method, batch, 0.5)
        answers["pull", method], pairs = ask_pull(network, method, data, bank)

    def measured(what: str, values: Array) -> Found:
        return over_objects(1.0 * values) if what == "accuracy" else over_pairs(values, pairs, kinds)

    clean = measured("accuracy", ask_accuracy(network, "black", batch, 0.0))
    lines = [f"accuracy with nothing hidden: {shown('accuracy', clean)} %; {len(pairs)} pairs of shapes", ""]
    differences = [measured(what, 1.0 * answers[what, one] - answers[what, other]) for what, one, other in PLANNED]
    corrected = holm([each.p for each in differences])
    lines += ["| planned comparison | difference | p after Holm |", "|---|---|---|"]
    for (what, one, other), each, p in zip(PLANNED, differences, corrected, strict=True):
        lines.append(f"| {what}: {METHODS[one]} − {METHODS[other]} | {shown(what, each)} | {p:.2g} |")
    lines += ["", "| way of hiding | accuracy, half hidden | outline pull, logits |", "|---|---|---|"]
    for method, title in METHODS.items():
        cells = (shown(what, measured(what, answers[what, method])) for what in ("accuracy", "pull"))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out = parser.parse_args(arguments).out
    checkpoint = out / "vit" / "version_0" / "checkpoints" / "best.ckpt"
    if not checkpoint.exists():
        maskrobust([*TRAINING, "--trainer.default_root_dir", str(out)])
    with torch.inference_mode():
        lines = tables(load_network(str(checkpoint)))
    (out / "vit.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
