"""Networks of other libraries under layer masking, in a process of their own: `python -m ... FOLDER LIBRARY`.

A process of its own, since Ultralytics replaces functions of torch and OpenCV as it is imported, and torchmetrics would
import transformers into every process that has it. Networks are built from their configurations, with random weights.
"""

import copy
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maskrobust import LayerMasking, MaskedDetector, UnsupportedNetworkError, pad_batch, visible_fraction
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.morphology import hide as hide_by_zero

Networks = dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]
ROOT = Path(__file__).parents[3]


class Answers(nn.Module):
    """A network of transformers, which returns tensors alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images)[0]


def ultralytics() -> Networks:
    from ultralytics.nn import tasks

    kinds = {"yolov8n-seg": "SegmentationModel", "yolo11n-cls": "ClassificationModel"}
    names = ("yolov5n", "yolov8n", "yolo11n", "yolo12n", "yolo26n", *kinds)
    return {
        name: (partial(getattr(tasks, kinds.get(name, "DetectionModel")), f"{name}.yaml", verbose=False), (3, 64, 64))
        for name in names
    }


def transformers() -> Networks:
    import transformers as library

    depths, four = [1, 1, 1, 1], [16, 32, 64, 128]
    vit = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4}
    stages = [f"stage{at}" for at in range(1, 5)]
    upernet = {"hidden_size": 32, "use_auxiliary_head": False, "auxiliary_in_channels": 64}
    configured = {
        "ResNet": ("ImageClassification", {"depths": depths, "hidden_sizes": four, "embedding_size": 16}),
        "ConvNextV2": ("ImageClassification", {"depths": depths, "hidden_sizes": four}),
        "Segformer": (
            "SemanticSegmentation", {"depths": depths, "hidden_sizes": four, "decoder_hidden_size": 32}
        ),
        "ViT": ("ImageClassification", {"image_size": 64, "intermediate_size": 96, **vit}),
        "Dinov2": ("ImageClassification", {"image_size": 64, "patch_size": 8, **vit}),
        "MobileNetV2": ("ImageClassification", {"depth_multiplier": 0.5}),
        "Swin": (
            "ImageClassification",
            {"image_size": 64, "embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        ),
        "UperNet": (
            "SemanticSegmentation",
            {
                "backbone_config": library.ConvNextConfig(depths=depths, hidden_sizes=four, out_features=stages),
                **upernet,
            },
        ),
    }  # fmt: skip

    def make(name: str, task: str, settings: dict[str, Any]) -> nn.Module:
        return Answers(getattr(library, f"{name}For{task}")(getattr(library, f"{name}Config")(**settings)))

    return {
        name: (partial(make, name, task, settings), (3, 128, 128) if task.startswith("Sem") else (3, 64, 64))
        for name, (task, settings) in configured.items()
    }


def monai() -> Networks:
    from monai.networks import nets

    flat, volume = (1, 64, 64), (1, 32, 32, 32)
    strides = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    return {
        "UNet": (partial(nets.UNet, 2, 1, 3, (8, 16, 32), (2, 2), num_res_units=1), flat),
        "BasicUNet": (partial(nets.BasicUNet, 2, 1, 3, features=(8, 8, 16, 16, 32, 8)), flat),
        "SegResNet": (partial(nets.SegResNet, spatial_dims=2, init_filters=8, in_channels=1, out_channels=3), flat),
        "DynUNet": (partial(nets.DynUNet, 2, 1, 3, **strides), flat),
        "DenseNet121": (partial(nets.DenseNet121, 2, 1, 3, block_config=(2, 2, 2, 2)), flat),
        "AttentionUnet": (partial(nets.AttentionUnet, 2, 1, 3, (8, 16, 32), (2, 2)), flat),
        "UNet, volumes": (partial(nets.UNet, 3, 1, 3, (8, 16, 32), (2, 2), num_res_units=1), volume),
    }


def equal(first: Any, second: Any) -> bool:
    pairs = zip(tree_leaves(first), tree_leaves(second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


HIDE = "maskrobust.lm_modules.masking.layer_masking.hide"


def hide_by_seven(images: Tensor, visible: Tensor) -> Tensor:
    """What shows whether each layer ignores hidden pixels, which layer masking draws 0 ahead of the first."""
    return images.masked_fill(~visible, 7.0)


def check(make: Callable[[], nn.Module], size: tuple[int, ...]) -> dict[str, bool]:
    """Other hidden pixels, nothing hidden, and a step of training with other hidden pixels."""
    torch.manual_seed(0)
    network = make().eval()
    masked, untrained = LayerMasking(network), copy.deepcopy(network.state_dict())
    images, visible = torch.rand(2, *size), torch.ones(2, 1, *size[1:], dtype=torch.bool)
    visible[..., 16:40, 8:24] = False
    with torch.no_grad():
        nothing_hidden = equal(masked(images), network(images))
    answers, trained = [], []
    for value, hide in ((torch.nan, hide_by_zero), (0.5, hide_by_seven)):
        network.load_state_dict(untrained)
        given, step = images.masked_fill(~visible, value), torch.optim.SGD(network.parameters(), 0.01)
        with patch(HIDE, hide):
            with torch.no_grad():
                answers.append(masked.eval()(given, visible))
            torch.manual_seed(1)
            leaves = [each for each in tree_leaves(masked.train()(given, visible)) if isinstance(each, Tensor)]
        torch.stack([each.square().mean() for each in leaves if each.requires_grad]).sum().backward()
        step.step()
        step.zero_grad()
        trained.append(copy.deepcopy(network.state_dict()))
    is_finite = all(bool(each.isfinite().all()) for each in trained[0].values())
    return {
        "hidden pixels": equal(*answers), "nothing hidden": nothing_hidden,
        "training": is_finite and equal(*trained) and not equal(untrained, trained[0]),
    }  # fmt: skip


def recipes() -> dict[str, Any]:
    """What the code of docs/libraries.md defines."""
    page = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"(?ms)^```python\n(.*?)^```", page):
        exec(code, names)
    return names


def answers_each_alone(masked: LayerMasking) -> bool:
    """Whether `each` gives two images of two sizes what each gets by itself, of tokens that come first."""
    sizes, visible = torch.tensor([[64, 96], [64, 64]]), torch.ones(2, 1, 64, 96, dtype=torch.bool)
    images, visible[:, :, :32] = torch.rand(2, 3, 64, 96), False
    with torch.no_grad():
        found = masked.each(images, visible, sizes=sizes)
        alone = [masked(images[i : i + 1, ..., :w], visible[i : i + 1, ..., :w]) for i, (_, w) in enumerate(sizes)]
    return all(torch.equal(one[0], other[0]) for one, other in zip(found, alone, strict=True))


def follows_coverage(masked: LayerMasking, name: str) -> bool:
    """Whether coverage of a whole YOLO is refused, and what its refusal and docs/libraries.md say works."""
    visible = torch.ones(1, 1, 96, 96, dtype=torch.bool)
    visible[..., 64:] = False
    try:
        masked.coverage(visible)
    except UnsupportedNetworkError as error:
        layer = re.findall("'(.+?)'.* ends ahead of it", str(error))[0]
    trunk = copy.deepcopy(masked.network)
    if name == "yolo11n":  # attends at its layer 10
        trunk, strides, is_right = trunk.model[:10], [32], layer.startswith("model.10.")
    else:
        strides, is_right = [8, 16, 32], trunk.get_submodule(layer) is trunk.model[-1]
        trunk.get_submodule(layer).forward = lambda maps: maps
    maps = tree_leaves(LayerMasking(trunk).coverage(visible))
    seen = [96 // stride for stride in strides]
    falls = all((each[..., 0] > each[..., -1]).all() for each in maps)
    return is_right and falls and [each.shape for each in maps] == [(1, 1, side, side) for side in seen]


def finding(name: str) -> Any:
    """A YOLO with random weights that finds boxes, in eval mode."""
    from ultralytics import YOLO

    torch.manual_seed(0)
    yolo = YOLO(f"{name}.yaml")
    network = yolo.model.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.5), module.bias.data.uniform_(-0.5, 0.8)
            module.running_var.uniform_(0.2, 0.6)
    for branch in network.model[-1].cv3:
        branch[-1].weight.data.mul_(20)
    return yolo


def boxes(name: str) -> dict[str, int | bool]:
    """Boxes of one image of 640 px with nothing and half of it hidden, and how many lie in the hidden half."""
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import clip_boxes

    yolo = finding(name)
    network, masked, layers = yolo.model, MaskedDetector(yolo), LayerMasking(yolo.model)
    image, half = torch.rand(3, 640, 640), torch.ones(1, 640, 640, dtype=torch.bool)
    half[:, :320] = False

    def hidden(boxes: Tensor) -> int:
        return int((boxes[:, [1, 3]].mean(1) < 320).sum())

    with torch.no_grad():
        (plain,), (same,) = non_max_suppression(network(image[None])[0], iou_thres=0.7), masked([image])
        plain[:, :4] = clip_boxes(plain[:, :4], (640, 640))
        (all_found,) = non_max_suppression(layers(image[None], half[None])[0], iou_thres=0.7)
        (kept,) = masked([image], [half])
        corner, frame = image[:, :100, :70], (0, 26, 0, 28)
        within = F.pad(torch.ones(1, 100, 70, dtype=torch.bool), frame)
        framed = layers(F.pad(corner, frame)[None], within[None])[0][0, 4:].amax(0)
        (of_corner,) = masked([corner])
    shown = same["scores"] > 0.25
    found = torch.cat([same["boxes"], same["scores"][:, None], same["labels"][:, None]], 1)[shown]
    likely = kept["boxes"][kept["scores"] > 0.25]
    return {
        "each": answers_each_alone(layers), "coverage": follows_coverage(layers, name),
        "frame": len(of_corner["scores"]) > 10 and bool(torch.isin(of_corner["scores"], framed).all()),
        "equal": torch.equal(plain, found), "found": len(likely), "hidden": hidden(likely),
        "found without": len(all_found), "hidden without": hidden(all_found),
    }  # fmt: skip


def cells_shown(visible: Tensor, stride: int, min_visible: float) -> Tensor:
    """(N,) bool: at least `min_visible` of a cell of a map is visible, cell by cell."""
    rows, columns = (side // stride for side in visible.shape[1:])
    cells = [(row * stride, column * stride) for row in range(rows) for column in range(columns)]
    shown = [visible[0, top : top + stride, left : left + stride].double().mean() for top, left in cells]
    return torch.stack(shown) >= min_visible


def losses_of_shown(network: Any, image: Tensor, visible: Tensor, target: dict[str, Tensor]) -> list[float]:
    """Ultralytics' losses of one image over a copy of the predictions and anchors without hidden ones."""
    from ultralytics.utils import loss

    predicted = LayerMasking(network)(image[None], visible[None])
    shown = torch.cat([cells_shown(visible, int(stride), 0.5) for stride in network.stride])
    assert 0 < shown.sum() < len(shown)
    for part in [predicted] if "scores" in predicted else predicted.values():
        part |= {name: part[name][:, :, shown] for name in ("boxes", "scores")}
    corners, size = target["boxes"], torch.tensor([*image.shape[:0:-1]] * 2)
    batch = {
        "img": image[None], "batch_idx": torch.zeros(len(corners)), "cls": target["labels"],
        "bboxes": torch.cat([corners[:, :2] + corners[:, 2:], 2 * (corners[:, 2:] - corners[:, :2])], 1) / 2 / size,
    }  # fmt: skip
    make_anchors = loss.make_anchors
    with patch.object(loss, "make_anchors", lambda *given: [each[shown] for each in make_anchors(*given)]):
        return network.loss(batch, predicted)[0].tolist()


def sentence(call: Callable[[], Any]) -> str:
    try:
        call()
    except (TypeError, InputError) as error:
        return str(error)
    raise AssertionError("nothing was refused")


def detector(name: str) -> dict[str, Any]:
    """`MaskedDetector` of a YOLO on images of several sizes: hidden pixels, each alone, its losses, and mistakes."""
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    yolo = finding(name)
    network, masked = yolo.model, MaskedDetector(yolo)
    images = [torch.rand(3, *size) for size in ((128, 96), (100, 70), (64, 64))]
    visible = [torch.ones(1, *image.shape[1:], dtype=torch.bool) for image in images]
    visible[0][:, 28:90, :52], visible[1][:, 99:, 69:], visible[2][:] = False, False, False
    boxes = torch.tensor([[60.0, 20, 90, 70], [30, 40, 94, 120], [5, 35, 40, 80]])
    targets = [{"boxes": boxes, "labels": torch.tensor([0, 3, 5])}, *[{"boxes": boxes[:0], "labels": boxes[:0, 0]}] * 2]
    with_nan = [image.masked_fill(~shown, torch.nan) for image, shown in zip(images, visible, strict=True)]
    untrained = copy.deepcopy(network.state_dict())

    def losses(count: int) -> list[float]:
        network.load_state_dict(untrained)
        return torch.stack([*masked(with_nan[:count], visible[:count], targets[:count]).values()]).tolist()

    with torch.no_grad():
        found = masked(with_nan, visible)
        alone = [masked([image], [shown])[0] for image, shown in zip(images, visible, strict=True)]
        with patch(HIDE, hide_by_seven):
            same = masked(images, visible)
    pairs, seen = zip(found, alone, strict=True), zip(found, visible, strict=True)
    near = [torch.allclose(one["boxes"], other["boxes"], atol=1e-3) for one, other in pairs]
    fractions = torch.cat([visible_fraction(one["boxes"], shown) for one, shown in seen])
    without_gains = sentence(lambda: masked.train()(images, visible, targets))
    network.args = get_cfg()
    shown = {name: each[:2] for name, each in targets[0].items()}  # of the third box nothing is
    of_shown, of_one = losses_of_shown(network, images[0], visible[0], shown), losses(1)
    with patch(HIDE, hide_by_seven):
        of_three = losses(3)
    of_three = [of_three, losses(3)]
    if name == "yolo26n":
        network.eval().end2end = True
    return {
        "found": [len(one["boxes"]) for one in found], "visible": fractions.min().item(),
        "hidden pixels": equal(found, same), "alone": all(near), "losses": [of_one, of_shown], "of three": of_three,
        "refused": [
            without_gains, sentence(lambda: MaskedDetector(yolo if network.end2end else YOLO("yolov8n-seg.yaml")))
        ],
    }  # fmt: skip


def alone_and_batched(name: str) -> dict[str, float]:
    """Largest difference of the answers to an image alone and in a batch of three sizes, in standard deviations.

    Both by the network as it is, and by the recipe for DETR.
    """
    import transformers as library

    torch.manual_seed(0)
    stages = [f"stage{at}" for at in range(2 if name == "DeformableDetr" else 4, 5)]
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 64, 128, 256], "embedding_size": 16}
    settings = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "num_queries": 10}
    backbone = library.ResNetConfig(**sizes, out_features=stages)
    config = getattr(library, f"{name}Config")(backbone_config=backbone, **settings)
    network = getattr(library, f"{name}ForObjectDetection")(config).eval()
    for part, weight in network.named_parameters():
        if "bbox" in part and weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)  # or all boxes are equal
    images = [torch.randn(3, *size) for size in ((100, 201), (130, 150), (192, 224))]

    def answer(batch: list[Tensor], at: int) -> tuple[Tensor, Tensor]:
        canvas, sizes = pad_batch(batch)
        mask = torch.zeros_like(canvas[:, 0], dtype=torch.long)
        for own, (height, width) in zip(mask, sizes.tolist(), strict=True):
            own[:height, :width] = 1
        with torch.no_grad():
            found = network(pixel_values=canvas, pixel_mask=mask)
        return found.logits[at], found.pred_boxes[at]

    def difference() -> float:
        pairs = zip(answer(images[1:2], 0), answer(images, 1), strict=True)
        return max(((alone - batched).abs().max() / alone.std()).item() for alone, batched in pairs)

    plain, model = difference(), network.model
    holder, at = (model.backbone, "conv_encoder") if name == "TableTransformer" else (model, "backbone")
    projections = model.input_proj if name == "DeformableDetr" else []
    setattr(holder, at, recipes()["MaskedBackbone"](getattr(holder, at).model, projections))
    if projections:
        model.input_proj = nn.ModuleList(nn.Identity() for _ in projections)
    return {"plain": plain, "masked": difference()}


def windows() -> dict[str, bool]:
    """The recipe for MONAI's sliding window, on a scan that is smaller than it, and on one that is larger."""
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    names, network = recipes(), UNet(3, 1, 2, (8, 16, 32), (2, 2), num_res_units=1).eval()
    names["masked"] = LayerMasking(network)  # of which `predict` takes one

    def answer(scan: Tensor, visible: Tensor, predict: Callable[[Tensor], Tensor] = names["predict"]) -> Tensor:
        channels = torch.cat([scan.masked_fill(~visible, 0), visible.to(scan.dtype)], 1)
        with torch.no_grad():
            return sliding_window_inference(channels, (32, 32, 32), 4, predict)

    def with_other_padding(window: Tensor) -> Tensor:
        scan, visible = window[:, :-1], window[:, -1:]
        return names["predict"](torch.cat([torch.where(visible > 0.5, scan, 7.0), visible], 1))

    small, large = torch.rand(1, 1, 20, 40, 48), torch.rand(1, 1, 32, 40, 48)
    visible, everything = torch.ones_like(small, dtype=torch.bool), torch.ones_like(large, dtype=torch.bool)
    visible[..., 5:15, 10:20, 10:20] = False
    with torch.no_grad():
        zeros, plain = (sliding_window_inference(each, (32, 32, 32), 4, network) for each in (small, large))
    padded, other = answer(small, visible), answer(small, visible, with_other_padding)
    return {
        "size": padded.shape[2:] == small.shape[2:],
        "padding does not matter": equal(padded, other),
        "zeros would": not equal(answer(small, torch.ones_like(visible)), zeros),
        "nothing hidden": equal(answer(large, everything), plain),
    }


if __name__ == "__main__":
    folder, library = sys.argv[1:]
    sys.path.append(folder)
    os.environ |= {"YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(1)
    networks: Networks = globals()[library]()
    results: dict[str, Any] = {name: check(*of) for name, of in networks.items()}
    if library == "ultralytics":
        results |= {f"boxes of {name}": boxes(name) for name in ("yolov8n", "yolo11n")}
        results |= {f"detector of {name}": detector(name) for name in ("yolov8n", "yolo26n")}
    if library == "transformers":
        names = ("Detr", "ConditionalDetr", "TableTransformer", "DeformableDetr")
        results |= {f"batch of {name}": alone_and_batched(name) for name in names}
    if library == "monai":
        results["windows"] = windows()
    print(json.dumps(results))
