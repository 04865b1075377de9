"""YOLOs of Ultralytics for `MaskedDetector`, known by their names and attributes: nothing here imports Ultralytics."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from maskrobust.augment.padding import pad_batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.detection.boxes import is_enough, is_visible
from maskrobust.lm_modules.detection.stand_ins import NEVER
from maskrobust.lm_modules.masking.layer_masking import LayerMasking
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError

_HEADS = ("Detect", "v10Detect")
"""Classes of heads that return boxes and scores alone."""
_LEAST_SCORE, _MOST_OVERLAP, _MOST_BOXES = 0.001, 0.7, 300
"""As of Ultralytics' predictor, whose least score is 0.25."""


def yolo_of(detector: Any) -> Any:
    """The network of a YOLO of Ultralytics, which may be its `YOLO` or that one's `.model`; None for all others.

    Raises:
        UnsupportedNetworkError: it selects boxes itself.
    """
    for network in (detector, getattr(detector, "model", None)):
        layers = getattr(network, "model", None)
        if isinstance(layers, nn.Sequential) and type(layers[-1]).__name__ in _HEADS:
            if getattr(layers[-1], "end2end", False):
                raise UnsupportedNetworkError(
                    "a YOLO must leave the selection of boxes to MaskedDetector, but its end2end is True; set "
                    "yolo.model.end2end = False."
                )
            return network
    return None


def find_boxes(masked: LayerMasking, images: list[Tensor], visible: Sequence[Tensor], min_visible: float) -> Any:
    """Boxes, scores and labels in each image, as if it were alone.

    Boxes of which too little is visible go ahead of the suppression, so that they suppress no other.

    Args:
        masked: the network of a YOLO in eval mode.
        images: list of (3, H, W) float.
        visible: list of (1, H, W) bool.
        min_visible: least visible fraction of a box, in [0, 1].

    Returns:
        For each image a dictionary with `boxes` (N, 4), (x1, y1, x2, y2) in pixels, `scores` (N,), from the highest to
        the lowest, and `labels` (N,) int64 from 0.
    """
    found = []
    canvas, shown, sizes = _on_canvas(masked.network, images, visible)
    for output, one in zip(masked.each(canvas, shown, sizes=sizes), visible, strict=True):
        rows = output[0][0]  # (4 + classes, anchors)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        boxes, (scores, labels) = box_convert(rows[:4].T, "cxcywh", "xyxy"), rows[4:].max(0)
        within = clip_boxes_to_image(boxes, (one.shape[1], one.shape[2]))
        is_within = (within[:, :2] < within[:, 2:]).all(1)
        (kept,) = torch.where((scores > _LEAST_SCORE) & is_within & is_visible(boxes, one, min_visible))
        kept = kept[batched_nms(boxes[kept], scores[kept], labels[kept], _MOST_OVERLAP)[:_MOST_BOXES]]
        found.append({"boxes": within[kept], "scores": scores[kept], "labels": labels[kept]})
    return found


def compute_losses(
    masked: LayerMasking,
    images: list[Tensor],
    visible: Sequence[Tensor],
    targets: Any,
    min_visible: float,
) -> dict[str, Tensor]:
    """The losses of Ultralytics, without anchors of whose cell too little is visible.

    Args:
        masked: the network of a YOLO in training mode.
        images: list of (3, H, W) float; beyond those smaller than others nothing is visible.
        visible: list of (1, H, W) bool.
        targets: a dictionary for each image, with `boxes` (N, 4) in pixels and `labels` (N,) from 0.
        min_visible: least visible fraction of a cell, in [0, 1].

    Returns:
        `box_loss`, `cls_loss` and `dfl_loss`, each multiplied by the number of images, as Ultralytics does.

    Raises:
        InputError: the network has no gains of its losses.
    """
    network: Any = masked.network
    if not hasattr(getattr(network, "args", None), "box"):
        raise InputError(
            "a YOLO in training mode needs the gains of its losses as its attribute args, got none; set "
            "yolo.model.args = ultralytics.cfg.get_cfg()."
        )
    canvas, shown, _ = _on_canvas(network, images, visible)
    predicted = masked(canvas, shown)
    for part in [predicted] if "scores" in predicted else predicted.values():  # or "one2many" and "one2one"
        cells = [F.adaptive_avg_pool2d(shown.double(), each.shape[2:]).flatten(1) for each in part["feats"]]
        hidden = ~is_enough(torch.cat(cells, 1), min_visible)
        part["scores"] = part["scores"].masked_fill(hidden[:, None], NEVER)
    height, width = canvas.shape[2:]
    boxes = torch.cat([each["boxes"] for each in targets])
    batch = {
        "img": canvas,
        "batch_idx": torch.cat([torch.full_like(each["labels"], at) for at, each in enumerate(targets)]),
        "cls": torch.cat([each["labels"] for each in targets]),
        "bboxes": box_convert(boxes, "xyxy", "cxcywh") / boxes.new_tensor([width, height, width, height]),
    }
    losses, _ = network.loss(batch, predicted)
    return dict(zip(("box_loss", "cls_loss", "dfl_loss"), losses, strict=True))


def _on_canvas(network: Any, images: list[Tensor], visible: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, what is visible of them, and their sizes, filled up with hidden pixels to multiples of the stride."""
    stride = int(network.model[-1].stride.max())

    def enlarge(image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        return F.pad(image, (0, -width % stride, 0, -height % stride))

    canvas, sizes = pad_batch([enlarge(each) for each in images])
    shown, _ = pad_batch([enlarge(each) for each in visible])
    return canvas, shown, sizes
