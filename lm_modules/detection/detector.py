"""`MaskedDetector`: a detector that ignores hidden pixels and answers each image as if alone."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from maskrobust.augment.batch import check_floating, check_tensor, check_visible
from maskrobust.errors import InputError, check_within
from maskrobust.lm_modules.detection.boxes import anchors_of_each, is_visible
from maskrobust.lm_modules.detection.stand_ins import (
    Given,
    Heads,
    HiddenAnchors,
    head_parts,
    last_convolutions,
    masked_roi_heads,
    stand_in,
)
from maskrobust.lm_modules.detection.yolo import compute_losses, find_boxes, yolo_of
from maskrobust.lm_modules.masking.layer_masking import LayerMasking, MaskedMap
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.visible_map import MergeRule, PaddingRule

_OF_BOXES = ("boxes", "labels", "scores", "masks", "keypoints", "keypoints_scores", "area", "iscrowd")


class MaskedDetector(nn.Module):
    """A detector that sees visible pixels only, and each image of a batch as if it were alone.

    Backbone and the convolutions of the dense head are one network of maps, computed by `LayerMasking`. All that
    follows (anchors, matching, losses, suppression, scaling back) is torchvision's own code, on these maps. What hidden
    pixels hold, NaN included, changes no bit of the result. With nothing hidden, one image gives the detector's own
    result bit for bit.

    A YOLO of Ultralytics is computed as a whole, and its boxes are suppressed here as its predictor does (an IoU of at
    most 0.7, 300 boxes), but with a score above 0.001 for 0.25. It takes images as they are, so resize them as the YOLO
    was trained. A side that is no multiple of its largest stride (32) is filled up with hidden pixels. Labels begin at
    0. In training mode anchors of whose cell too little is visible have no loss.

    Args:
        detector: `FasterRCNN`, `MaskRCNN`, `KeypointRCNN`, `RetinaNet`, `FCOS` or `SSD` of
            `torchvision.models.detection` with a convolutional backbone, or a `YOLO` of Ultralytics that detects, or
            its `.model`. It is shared and never changed: load and save weights, and set devices and modes, there or
            here.
        min_visible: least visible fraction of the area of an anchor, a target and a found box, in [0, 1], as far as
            they lie within the image. Those with less, or nothing, are left out: such anchors have no score and no
            loss, such targets are not trained on, such boxes are not returned.
        merge: as of `LayerMasking`.
        detach_padding: likewise.
        padding: likewise.

    Raises:
        TypeError: `detector` is none of these.
        InputError: `min_visible` or `padding` is not one of those that can be.
        UnsupportedNetworkError: the backbone has an operation that layer masking cannot compute.

    Examples:
        >>> masked = MaskedDetector(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT").eval())
        >>> found = masked(images, visible)  # lists of (3, H, W) and (1, H, W) -> list of {"boxes": (N, 4), ...}
    """

    def __init__(
        self,
        detector: nn.Module,
        min_visible: float = 0.5,
        *,
        merge: MergeRule = "intersection",
        detach_padding: bool = True,
        padding: PaddingRule = "mean",
    ) -> None:
        super().__init__()
        yolo = yolo_of(detector)
        self.detector = _check_detector(detector) if yolo is None else yolo
        check_within("[0, 1]", "min_visible", min_visible)
        self.min_visible, whole = min_visible, _DenseMaps(detector) if yolo is None else yolo
        network = LayerMasking(whole, merge=merge, detach_padding=detach_padding, padding=padding)
        self.__dict__["_network"] = network  # not registered: its parameters are those of the detector
        self._network: LayerMasking

    def forward(
        self,
        images: Sequence[Tensor],
        visible: Sequence[Tensor] | None = None,
        targets: Sequence[dict[str, Tensor]] | None = None,
    ) -> Any:
        """What the detector returns: boxes of each image in eval mode, losses in training mode.

        Args:
            images: list of (3, H, W) float in [0, 1], of any sizes.
            visible: list of (1, H, W) bool, True where a pixel may be seen; None for all pixels of all images.
            targets: of the detector, as in training mode.

        Returns:
            In eval mode a list of dictionaries with `boxes` (N, 4) in pixels of the image, `labels`, `scores`, and
            `masks` or `keypoints`; in training mode a dictionary of losses.

        Raises:
            TypeError: `images` or `visible` is no list of tensors of the right dtype.
            InputError: they do not fit each other, a visible pixel is NaN, or targets are missing or nothing of any
                image is visible in training mode.
        """
        detector: Any = self.detector
        if visible is None:
            check_list("images", images)
            visible = [torch.ones_like(each[:1], dtype=torch.bool) for each in images]
        _check(images, visible, targets, training=detector.training)
        images = [image.masked_fill(~shown, 0.0) for image, shown in zip(images, visible, strict=True)]
        _refuse_nan(images)
        if targets is not None:
            targets = [self._kept(each, shown) for each, shown in zip(targets, visible, strict=True)]
        if detector is self._network.network:  # a YOLO
            if detector.training:
                return compute_losses(self._network, images, visible, targets, self.min_visible)
            return find_boxes(self._network, images, visible, self.min_visible)
        batch, transformed_targets = detector.transform(images, targets)
        shown = _transformed(visible, batch)
        divisor = detector.transform.size_divisible
        sizes = torch.tensor([[-(-side // divisor) * divisor for side in size] for size in batch.image_sizes])
        self._network.training = detector.training
        features, heads = self._network.maps(batch.tensors, shown, sizes=sizes)
        found = self._on_maps(batch, shown, sizes, features, heads, transformed_targets)(images, targets)
        if detector.training:
            return found
        return [self._kept(each, one) for each, one in zip(found, visible, strict=True)]

    def _kept(self, boxed: dict[str, Any], visible: Tensor) -> dict[str, Any]:
        """A target or a result without the boxes of which too little is visible."""
        kept = is_visible(boxed["boxes"], visible, self.min_visible)
        return {name: each[kept] if name in _OF_BOXES else each for name, each in boxed.items()}

    def _on_maps(
        self,
        batch: ImageList,
        shown: Tensor,
        sizes: Tensor,
        features: dict[str, MaskedMap],
        heads: Heads,
        targets: list[dict[str, Tensor]] | None,
    ) -> Any:
        """The detector with known answers in place of its transform, backbone, anchors and dense convolutions."""
        detector: Any = self.detector
        found = stand_in(detector)
        found.transform = stand_in(detector.transform)
        found.transform.forward = lambda *_: (batch, targets)
        found.backbone = Given(OrderedDict((name, each.features) for name, each in features.items()))
        anchors = anchors_of_each(_dense(detector).anchor_generator, batch, sizes, [*features.values()])
        hidden = HiddenAnchors(self._seen(batch, shown, anchors, next(iter(heads.values()))), _dense(detector))
        dense = found
        if isinstance(detector, GeneralizedRCNN):
            dense = found.rpn = stand_in(detector.rpn)
            found.roi_heads = masked_roi_heads(detector.roi_heads, features)
        dense.anchor_generator = Given(anchors)
        dense.head = hidden.head(heads)
        hidden.leave_out_of_losses(dense)
        return found

    def _seen(self, batch: ImageList, shown: Tensor, anchors: list[Tensor], scores: list[MaskedMap]) -> list[Tensor]:
        """For each level (B, A, H, W) bool: the position of the map is visible, and so is enough of the anchor."""
        counts = _dense(self.detector).anchor_generator.num_anchors_per_location()
        enough = torch.stack(
            [
                is_visible(each, one[:, :height, :width], self.min_visible)
                for each, one, (height, width) in zip(anchors, shown, batch.image_sizes, strict=True)
            ]
        )
        shapes = [(*each.features.shape[2:], count) for each, count in zip(scores, counts, strict=True)]
        levels = enough.split([height * width * count for height, width, count in shapes], 1)
        return [
            level.view(-1, *shape).permute(0, 3, 1, 2) & each.visible
            for level, each, shape in zip(levels, scores, shapes, strict=True)
        ]


class _DenseMaps(nn.Module):
    """Backbone and the convolutions of the dense head, as one network that returns maps."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, _dense(detector).head

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], dict[tuple[str, str], list[Tensor]]]:
        features = self.backbone(images)
        if isinstance(features, Tensor):
            features = {"0": features}
        heads: dict[tuple[str, str], list[Tensor]] = {}
        for name, part in head_parts(self.head):
            for level, x in enumerate(features.values()):
                if hasattr(part, "module_list"):
                    heads.setdefault((name, "module_list"), []).append(part.module_list[level](x))
                    continue
                tower = part.conv(x)
                for last in last_convolutions(part):
                    heads.setdefault((name, last), []).append(getattr(part, last)(tower))
        return dict(features), heads


def _dense(detector: Any) -> Any:
    """What holds the dense head and the anchors: the proposal network, or the detector itself."""
    return detector.rpn if isinstance(detector, GeneralizedRCNN) else detector


def _transformed(visible: Sequence[Tensor], batch: ImageList) -> Tensor:
    """(B, 1, H, W) bool: a pixel of the resized image is visible if all that it is made from is.

    So is the frame that torchvision adds: the zeros there are what the detector sees of an image alone.
    """
    shown = torch.ones_like(batch.tensors[:, :1], dtype=torch.bool)
    for one, whole, (height, width) in zip(shown, visible, batch.image_sizes, strict=True):
        hidden = (~whole).to(batch.tensors.dtype)[None]
        resized = F.interpolate(hidden, size=(height, width), mode="bilinear", align_corners=False)
        one[:, :height, :width] = resized[0] == 0
    return shown


def _check_detector(detector: Any) -> Any:
    if isinstance(detector, MaskedDetector):
        raise InputError("detector must be a plain one, but has layer masking already; take it as it is.")
    if not isinstance(detector, GeneralizedRCNN | RetinaNet | FCOS | SSD):
        raise TypeError(
            "detector must be a Faster, Mask or Keypoint R-CNN, RetinaNet, FCOS or SSD of "
            "torchvision.models.detection, or a YOLO of Ultralytics that finds boxes alone, got "
            f"{type(detector).__name__}; for another network mask the part that returns maps, with "
            "LayerMasking(network).maps(images, visible)."
        )
    for name, part in head_parts(_dense(detector).head):
        if not hasattr(part, "conv") and not hasattr(part, "module_list"):
            raise UnsupportedNetworkError(
                f"the dense head of the detector must have a part '{name}.conv' or '{name}.module_list', as "
                f"torchvision's own, got {type(part).__name__}; use one of torchvision's heads."
            )
    return detector


def check_list(name: str, values: object) -> None:
    """Refuse what is no list of tensors.

    Raises:
        TypeError: naming what was given.
        InputError: the list is empty.
    """
    if not isinstance(values, list | tuple):
        shape = f" of shape {tuple(values.shape)}" if isinstance(values, Tensor) else ""
        raise TypeError(
            f"{name} must be a list with one tensor for each image, got {type(values).__name__}{shape}; for a batch "
            "give list(batch)."
        )
    if not values:
        raise InputError(f"{name} must hold at least one image, got an empty list; give one or more.")
    for each in values:
        check_tensor(f"each of {name}", each)


def _check(images: Any, visible: Any, targets: Any, *, training: bool) -> None:
    check_list("images", images)
    check_list("visible", visible)
    for name, values in (("visible", visible), ("targets", targets)):
        if values is not None and len(values) != len(images):
            raise InputError(
                f"{name} must hold one entry for each of {len(images)} images, got {len(values)}; give as many."
            )
    for index, (image, shown) in enumerate(zip(images, visible, strict=True)):
        check_floating(image)
        if image.ndim != 3 or shown.ndim != 3 or shown.shape != (1, *image.shape[1:]):
            raise InputError(
                f"images must be (3, H, W), each with visible (1, H, W), got shapes {tuple(image.shape)} and "
                f"{tuple(shown.shape)} for image {index}; give a mask of the size of its image."
            )
        check_visible(image[None], shown[None])
    if training and targets is None:
        raise InputError("targets must be given in training mode, got None; give them, or call eval() first.")
    if training and not any(shown.any() for shown in visible):
        raise InputError(
            f"visible must show a pixel of at least one image of a training batch, but all {len(images)} are hidden; "
            "leave such a batch out."
        )


def _refuse_nan(images: list[Tensor]) -> None:
    for index, image in enumerate(images):
        if image.device.type == "cpu" and image.isnan().any():
            raise InputError(
                f"visible pixels must be numbers, got NaN at a visible pixel of image {index}; hide such pixels, as "
                "visible_from(images) does."
            )
