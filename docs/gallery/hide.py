"""An edge detector on a picture with a hole: black, and under layer masking. Draws hide.png."""

import matplotlib.pyplot as plt
import torch
from skimage.data import chelsea
from skimage.transform import resize

from maskrobust import LayerMasking

image = torch.from_numpy(resize(chelsea(), (100, 150)).mean(axis=2)).float()[None, None]
visible = torch.ones(1, 1, 100, 150, dtype=torch.bool)  # True where a pixel may be seen
visible[..., 27:67, 47:100] = False
edges = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
edges.weight[:] = torch.tensor([1.0, 0, -1]).expand(1, 1, 3, 3)
black = image * visible
found = {"edges, black hole": edges(black), "edges, layer masking": LayerMasking(edges)(image, visible)}
figure, axes = plt.subplots(1, 3, figsize=(6, 1.6), layout="constrained")
for axis, (title, values) in zip(axes, {"picture": black, **found}.items(), strict=True):
    axis.imshow(values.abs()[0, 0].numpy(), cmap="gray")
    axis.set_title(title, fontsize=9)
    axis.axis("off")
figure.savefig("hide.png")
