"""Whether shape choices say "blind" of networks that use what lies around an object: a table of docs/research-holes.md.

    python docs/studies/blind_worlds.py --seeds 5

In each world something tells the class, and the outline of the object does not, but for the last, a control:

- rim: two tinted pixels beside the object; a network of 1 x 1 convolutions and a global mean, which sees no shape.
- place: the quadrant of the object; a network that sees a grid of 4 x 4 places, and no shape.
- context: the tint of the whole background; `small_resnet`.
- outline: the outline; `small_resnet`.

In training the object of every second picture is hidden in the mean colour, so that networks know holes. Test pictures
are others, with holes in the mean colour. Intervals are of Student's t over seeds of data, weights and order.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from maskrobust import build_network
from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.methods import predictor
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.shape import shape_choice, silhouette_leak
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data import Cues

MEAN, STD = (0.49, 0.43, 0.42), (0.23, 0.21, 0.21)
HUES = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.15, 0.2, 0.95], [0.9, 0.8, 0.1]])
TRAINING, TEST, CLASSES = 1500, 400, 4


def pictures(count: int, seed: int, outline: float) -> Batch:
    """Textured silhouettes of 32 px, whose texture tells nothing and whose outline tells the class so far."""
    cues = Cues(
        train_images=8, val_images=8, test_images=count, image_size=32, num_classes=CLASSES, seed=seed,
        outline_informativeness=outline, texture_informativeness=0.0,
    )  # fmt: skip
    batch = cues.samples("test")
    return batch._replace(images=batch.images.float() / 255)


def tint(batch: Batch, where: Tensor) -> Batch:
    """Mixed evenly with the hue of the class at some pixels."""
    return batch._replace(images=batch.images.where(~where, (batch.images + HUES[batch.labels][..., None, None]) / 2))


def rim(batch: Batch) -> Batch:
    """Two pixels beside the object tell the class."""
    return tint(batch, F.max_pool2d(batch.object_mask.float(), 5, 1, 2).bool() & ~batch.object_mask)


def place(batch: Batch) -> Batch:
    """The quadrant of a larger picture in which the object lies tells the class."""
    right, low = (batch.labels % 2)[:, None, None, None] > 0, (batch.labels // 2)[:, None, None, None] > 0

    def spread(each: Tensor, empty: Tensor) -> Tensor:
        across = torch.cat([each.where(~right, empty), each.where(right, empty)], dim=3)
        nothing = torch.cat([empty, empty], dim=3)
        return torch.cat([across.where(~low, nothing), across.where(low, nothing)], dim=2)

    noise = (0.45 + 0.12 * torch.randn(batch.images.shape)).clamp(0, 1)
    mask = spread(batch.object_mask, torch.zeros_like(batch.object_mask))
    return batch._replace(images=spread(batch.images, noise), object_mask=mask)


def context(batch: Batch) -> Batch:
    """The tint of the background tells the class."""
    return tint(batch, ~batch.object_mask)


def pointwise(places: int) -> nn.Module:
    """Convolutions of 1 x 1 and a mean over each place of a grid."""
    layers = nn.Conv2d(3, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(places)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * places**2, CLASSES))


def small_resnet() -> nn.Module:
    """The network of the claims."""
    return build_network("small_resnet", num_classes=CLASSES)


WORLDS: dict[str, tuple[Callable[[Batch], Batch], float, Callable[[], nn.Module], int, float]] = {
    "rim": (rim, 0.0, lambda: pointwise(1), 400, 0.01),
    "place": (place, 0.0, lambda: pointwise(4), 400, 0.01),
    "context": (context, 0.0, small_resnet, 250, 0.003),
    "outline": (lambda batch: batch, 1.0, small_resnet, 250, 0.003),
}
"""What is done to pictures, what their outline tells, the network, steps of Adam, and its learning rate."""


def trained(network: nn.Module, batch: Batch, steps: int, rate: float) -> nn.Module:
    """The network after steps of 64 pictures each, of half of them without the object."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for _ in range(steps):
        rows = torch.randint(len(batch.ids), (64,))
        hidden = batch.object_mask[rows] & (torch.rand(64, 1, 1, 1) < 0.5)
        images = (batch.images[rows].where(~hidden, mean) - mean) / std
        optimiser.zero_grad()
        F.cross_entropy(network(images), batch.labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()


def measured(world: str, seed: int) -> list[float]:
    """Accuracy whole, behind the outline and behind the circle, the leak, and shape choices, of one network."""
    change, outline, build, steps, rate = WORLDS[world]
    torch.manual_seed(seed)
    train, test = (change(pictures(*each, outline)) for each in ((TRAINING, 2 * seed), (TEST, 2 * seed + 1)))
    asked = {
        "mean": Asked(
            predictor(trained(build(), train, steps, rate), "mean", MEAN, STD), ReliancePlan(hidden_fractions=())
        )
    }
    found = Measurement(asked, SilhouetteBank.from_batches([test]), CLASSES).ask(test)["mean"]
    right = [float((found.predictions[hole] == found.labels).mean()) for hole in ("clean", "silhouette", "circle")]
    return [*right, *(float(estimate(each(), [found]).value) for each in (silhouette_leak, shape_choice))]


def main() -> None:
    """Print a row for each world."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    print("| world | nothing hidden | behind the outline | behind the circle | leak | shape choices |")
    print("|---|---|---|---|---|---|")
    for world in WORLDS:
        values = 100 * np.array([measured(world, seed) for seed in seeds])
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / len(values) ** 0.5
        cells = [f"{mean:.1f} ± {each:.1f}" for mean, each in zip(values.mean(axis=0), half, strict=True)]
        print(f"| {world} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
