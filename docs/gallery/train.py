"""A small network trained without masks and with layer masking, with half of the patches hidden. Draws train.png."""

import matplotlib.pyplot as plt
import pytorch_lightning as pl
import torch

from maskrobust import Batch, MaskRobustClassifier, load_network
from maskrobust.augment import patches
from maskrobust.train.data import Cues

data = Cues(train_images=2000, val_images=500, image_size=32, num_classes=4, texture_informativeness=0.5)
batch = Batch.cat(list(data.val_dataloader())).to("cpu")
visible = patches(batch.ids, 32, 32, hidden_fraction=(0.5, 0.5), patch_size=8)
found: dict[str, list[float]] = {}
for seed in (2, 1, 0):
    for masking in ("none", "layer_masking"):
        pl.seed_everything(seed)
        options = {"mean": data.mean, "std": data.std, "masking": masking, "patch_size": 8}
        classifier = MaskRobustClassifier("small_resnet", data.num_classes, **options)  # or a module of your own
        trainer = pl.Trainer(max_epochs=8, logger=False, enable_checkpointing=False)
        trainer.fit(classifier, data)
        trainer.save_checkpoint(f"{masking}.ckpt")
        for method in ("black", "layer_masking"):
            with torch.no_grad():
                logits = load_network(f"{masking}.ckpt").predictor(method)(batch.images, visible, batch.ids)
            right = 100 * (logits.argmax(1) == batch.labels).float().mean().item()
            found.setdefault(f"trained: {masking}\n{method}", []).append(right)
figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
for name, each in found.items():
    axis.bar_label(
        axis.bar(name, sum(each) / 3, color="C0" if "none" in name else "C1"), fmt="%.0f", label_type="center"
    )
    axis.plot([name] * 3, each, "k_")
axis.set(ylabel="accuracy (%)", title="half of the patches hidden")
axis.tick_params(labelsize=7)
figure.savefig("train.png")
