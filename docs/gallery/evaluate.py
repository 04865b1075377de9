"""What the hole of an object gives away to the network of train.py, from none.ckpt. Draws evaluate.png."""

import matplotlib.pyplot as plt
import torch

from maskrobust import Batch, load_network
from maskrobust.augment import enclosing_circles
from maskrobust.train.data import Cues

network = load_network("none.ckpt")
data = Cues(val_images=500, image_size=32, num_classes=4, texture_informativeness=0.5)
batch = Batch.cat(list(data.val_dataloader())).to("cpu")
holes = {"along its outline": batch.object_mask, "with its circle": enclosing_circles(batch.object_mask)}
methods = ("black", "mean", "inpainting", "layer_masking")
figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
for number, (name, hole) in enumerate(holes.items()):
    with torch.no_grad():
        logits = [network.predictor(method)(batch.images, ~hole, batch.ids) for method in methods]
    right = [100 * (each.argmax(1) == batch.labels).float().mean().item() for each in logits]
    bars = axis.bar([place + number / 3 for place in range(4)], right, width=0.3, label=f"object hidden {name}")
    axis.bar_label(bars, fmt="%.0f")
axis.axhline(25, color="black", linestyle=":", label="chance")
axis.set(xticks=[place + 1 / 6 for place in range(4)], xticklabels=methods, ylabel="accuracy (%)", ylim=(0, 75))
axis.legend(fontsize=8)
figure.savefig("evaluate.png")
