"""The study of docs/detectors.md: what a hidden region does to boxes, with and without training for it.

    python docs/studies/detector_regions.py retinanet OUT SEED...
    PYTHONPATH=FOLDER python docs/studies/detector_regions.py yolo OUT SEED...

trains and tests the networks of each seed that has no OUT/SEED.json yet, and prints the tables over all seeds in OUT.
FOLDER holds Ultralytics (`pip install --no-deps --target FOLDER ultralytics`).

Pictures of 96 px have one to four squares and discs of 12 to 27 px, at most one in each quarter, on a ground of noise.
A region, a rectangle or an ellipse of 28 to 64 px each way, is hidden in each picture of the test and in 70 % of those
of the trainings with regions. A small RetinaNet is trained three times on the same pictures, "clean" without regions,
"painted" with black ones, and "masked" by `MaskedDetector`. Each is tested in each of `WAYS` on new pictures of its
seed. "Dropped" leaves out boxes of which less than a quarter is visible.

A box finds an object if its class is right and its IoU is at least 0.5 with the object, or with the bounding box of the
visible part. Objects of which less than a quarter is visible count neither as found nor as missed, in any way. A false
box has a smaller IoU with every object; it is at the edge if it comes within 8 px of the region. A network has one
threshold of scores for all ways, at which it finds 60 % of the objects of other pictures without regions.

A YOLOv8 of half the width of YOLOv8n is trained on the same pictures, "clean" alone, and tested likewise. Steps, batch
and learning rate are those of the RetinaNet, tried once with a seed of 100.

Planned before any seed was run: the differences of `PLANNED`, paired by seed; of the YOLO the first one. Intervals of
95 % are Student's t over seeds; each has its own pictures and initial weights, so that both vary.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from maskrobust import MaskedDetector
from maskrobust.lm_modules.detection.boxes import is_visible, visible_fraction

SIDE, BATCH, STEPS, PICTURES = 96, 8, 400, 100
LEAST_VISIBLE, NEAR, FRACTION_FOUND = 0.25, 8, 0.6
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
TRAININGS = ("clean", "painted", "masked")
WAYS = (
    "nothing hidden", "black", "black, dropped", "mean colour", "mean colour, dropped",
    "masked, 0", "masked, 0.25", "masked, 0.5",
)  # fmt: skip
"""How the region is presented in the test; the number is `min_visible`."""

PLANNED = (
    ("clean: masked, 0.25", "clean: black, dropped"),
    ("masked: masked, 0.25", "painted: black, dropped"),
    ("painted: mean colour, dropped", "painted: black, dropped"),
)
MEASURES = ("whole objects found (%)", "cut objects found (%)", "false boxes", "false boxes at the edge")
"""The last two are per 100 pictures."""

Picture = tuple[Tensor, dict[str, Tensor], Tensor]


def draw(generator: torch.Generator) -> Picture:
    """A picture (3, SIDE, SIDE) in [0, 1], its boxes and labels, and what a region leaves visible (1, SIDE, SIDE)."""

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    ground = F.interpolate(rand(1, 3, 12, 12), size=(SIDE, SIDE), mode="bicubic")[0] * 0.5 + 0.25
    image = (ground + 0.08 * torch.randn(3, SIDE, SIDE, generator=generator)).clamp(0, 1)
    boxes, labels = [], []
    for quarter in torch.randperm(4, generator=generator)[: int(4 * rand(1)) + 1].tolist():
        side, is_disc = 12 + int(16 * rand(1)), bool(rand(1) < 0.5)
        left, top = (SIDE // 2 * which + int(rand(1) * (SIDE // 2 - side)) for which in divmod(quarter, 2))
        u, v = x + 0.5 - left - side / 2, y + 0.5 - top - side / 2
        distance = (u * u + v * v).sqrt() if is_disc else u.abs().maximum(v.abs())
        colour = rand(3) if rand(1) < 0.5 else rand(1).expand(3)
        image = torch.where(distance <= side / 2, colour[:, None, None], image)
        boxes, labels = [*boxes, [left, top, left + side, top + side]], [*labels, 1 + is_disc]
    (a, b), (left, top) = 14 + 18 * rand(2), SIDE * (0.1 + 0.8 * rand(2))
    u, v = (x - left) / a, (y - top) / b
    hidden = u.abs().maximum(v.abs()) < 1 if rand(1) < 0.5 else u * u + v * v < 1
    return image, {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)}, ~hidden[None]


def small_retinanet(seed: int) -> RetinaNet:
    """Five convolutions with a map at an eighth of the size, and anchors of 12, 17 and 24 px."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for read, made, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(read, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 32
    head = RetinaNetHead(32, 3, 3, norm_layer=nn.BatchNorm2d)
    anchors = AnchorGenerator(((12, 17, 24),), ((1.0,),))
    return RetinaNet(backbone, 3, min_size=SIDE, max_size=SIDE, anchor_generator=anchors, head=head)


def small_yolo(seed: int) -> nn.Module:
    """A YOLOv8 of Ultralytics of an eighth of the full width."""
    os.environ["YOLO_OFFLINE"] = "true"
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    torch.manual_seed(seed)
    network = DetectionModel(
        yaml_model_load("yolov8n.yaml") | {"scales": {"n": [1 / 3, 1 / 8, 1024]}}, nc=3, verbose=False
    )
    network.args = get_cfg()  # the gains of its losses
    return network


NETWORKS: dict[str, tuple[Callable[[int], Any], Sequence[str]]] = {
    "retinanet": (small_retinanet, TRAININGS),
    "yolo": (small_yolo, TRAININGS[:1]),
}
"""How each is made, and how it is trained."""


def plain(network: nn.Module) -> Callable[..., Any]:
    """The network without layer masking, called as torchvision's are: YOLO's own boxes and losses."""
    if isinstance(network, RetinaNet):
        return network
    detector = MaskedDetector(network)
    return lambda images, targets=None: detector(images, None, targets)


def kept(boxed: dict[str, Tensor], visible: Tensor) -> dict[str, Tensor]:
    """A target or a result without boxes of which less than `LEAST_VISIBLE` is visible."""
    enough = is_visible(boxed["boxes"], visible, LEAST_VISIBLE)
    return {name: each[enough] for name, each in boxed.items()}


def train(kind: str, seed: int) -> dict[str, nn.Module]:
    """The networks of all trainings."""
    generator = torch.Generator().manual_seed(seed)
    make, trainings = NETWORKS[kind]
    networks = {name: make(seed).train() for name in trainings}
    detectors = {name: plain(network) for name, network in networks.items()}
    if "masked" in networks:
        detectors["masked"] = MaskedDetector(networks["masked"], LEAST_VISIBLE)
    optimisers = {name: torch.optim.AdamW(each.parameters()) for name, each in networks.items()}
    schedules = [torch.optim.lr_scheduler.OneCycleLR(each, 3e-3, STEPS) for each in optimisers.values()]
    for _ in range(STEPS):
        images, targets, visible = zip(*(draw(generator) for _ in range(BATCH)), strict=True)
        visible = [each | bool(torch.rand(1, generator=generator) < 0.3) for each in visible]
        black = [image * shown for image, shown in zip(images, visible, strict=True)]
        for name, network in networks.items():
            if name == "masked":
                losses = detectors[name](images, visible, targets)
            elif name == "painted":
                losses = detectors[name](black, [*map(kept, targets, visible)])
            else:
                losses = detectors[name](images, targets)
            optimisers[name].zero_grad()
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimisers[name].step()
        for schedule in schedules:
            schedule.step()
    return {name: network.eval() for name, network in networks.items()}


def detect(network: nn.Module, way: str, images: list[Tensor], visible: list[Tensor]) -> list[dict[str, Tensor]]:
    """Boxes, labels and scores of each image."""
    if way.startswith("masked"):
        found: list[dict[str, Tensor]] = MaskedDetector(network, float(way.split()[1]))(images, visible)
        return found
    colour = MEAN if way.startswith("mean") else torch.zeros(3, 1, 1)
    if way != "nothing hidden":
        images = [torch.where(shown, image, colour) for image, shown in zip(images, visible, strict=True)]
    found = plain(network)(images)
    return [*map(kept, found, visible)] if way.endswith("dropped") else found


def visible_part(box: Tensor, visible: Tensor) -> Tensor:
    """The bounding box (4,) of what is visible of a box (4,); 0 if it is hidden."""
    left, top, right, bottom = box.int().tolist()
    rows, columns = visible[0, top:bottom, left:right].nonzero(as_tuple=True)
    if not len(rows):
        return torch.zeros(4)
    return torch.stack([left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1]).float()


@torch.no_grad()
def compare(network: nn.Module, way: str, pictures: Sequence[Picture]) -> Iterator[tuple[Tensor, ...]]:
    """For each picture: (M,) best score and visible fraction of objects; (N,) score of false boxes, and if at edge."""
    for start in range(0, len(pictures), 25):
        some = pictures[start : start + 25]
        found = detect(network, way, [each[0] for each in some], [each[2] for each in some])
        for result, (_, target, visible) in zip(found, some, strict=True):
            boxes, scores, whole = result["boxes"], result["scores"], target["boxes"]
            parts = torch.stack([visible_part(box, visible) for box in whole])
            overlap = box_iou(boxes, whole).maximum(box_iou(boxes, parts))
            right = (overlap >= 0.5) & (result["labels"][:, None] == target["labels"])
            best = torch.cat([scores[:, None] * right, torch.zeros(1, len(whole))]).amax(0)
            at_edge = visible_fraction(boxes + NEAR * torch.tensor([-1, -1, 1, 1]), visible) < 1
            is_false = (overlap < 0.5).all(1)
            yield best, visible_fraction(whole, visible), scores[is_false], at_edge[is_false]


def test(networks: dict[str, nn.Module], seed: int) -> dict[str, list[float]]:
    """`MEASURES` of each training in each way."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    others, pictures = ([draw(generator) for _ in range(PICTURES)] for _ in range(2))
    found = {}
    for name, network in networks.items():
        clean = torch.cat([best for best, *_ in compare(network, "nothing hidden", others)])
        threshold = clean.quantile(1 - FRACTION_FOUND)
        for way in WAYS:
            best, fraction, scores, at_edge = map(torch.cat, zip(*compare(network, way, pictures), strict=True))
            is_found, is_false = best > threshold, scores > threshold
            counts = [100 * each.sum().item() / PICTURES for each in (is_false, is_false & at_edge)]
            whole, cut = fraction == 1, (fraction >= LEAST_VISIBLE) & (fraction < 1)
            shares = [100 * is_found[some].float().mean().item() for some in (whole, cut)]
            found[f"{name}: {way}"] = [*shares, *counts]
    return found


def interval(values: NDArray[np.float64]) -> str:
    """Mean and half of its 95 % interval over seeds (S,)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.1f} ± {half:.1f}"


def tables(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines: each training in each way, then the planned differences."""
    found = {name: np.array([each[name] for each in seeds]) for name in seeds[0]}
    found |= {f"{one}, minus {other}": found[one] - found[other] for one, other in PLANNED if one in found}
    yield f"| training: test | {' | '.join(MEASURES)} |\n{'|---' * 5}|"
    for name, values in found.items():
        yield f"| {name} | {' | '.join(map(interval, values.T))} |"


def run_seeds(folder: str, seeds: Sequence[str], run: Callable[[int], Any]) -> list[dict[str, Any]]:
    """What `run` returns of all seeds in a folder; seeds that are missing there are run."""
    torch.set_num_threads(1)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = out / f"{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(int(seed)), indent=1) + "\n", encoding="utf-8")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]


def main(kind: str, folder: str, *seeds: str) -> None:
    """Run the seeds that are missing, and print the tables."""
    done = run_seeds(folder, seeds, lambda seed: test(train(kind, seed), seed))
    if len(done) > 1:
        print("\n".join(tables(done)))


if __name__ == "__main__":
    main(*sys.argv[1:])
