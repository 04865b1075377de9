"""Small detectors of each of torchvision's seven families, with random weights and many boxes.

With REAL_DETECTORS=1 in the environment they are torchvision's own builders', which takes minutes.
"""

import os
from collections import OrderedDict
from functools import partial

import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation as Block

from tests.lm_modules.masking.networks import randomise, seeded

SIZES, CLASSES = ((16,), (32,), (48,)), 3
ALL_BOXES = {"score_thresh": 0.0, "detections_per_img": 12}
OF_PROPOSALS = {
    "rpn_post_nms_top_n_test": 30, "rpn_post_nms_top_n_train": 1000, "box_batch_size_per_image": 16,
    "box_score_thresh": 0.0, "box_detections_per_img": 12,
}  # fmt: skip


def _pyramid(channels: int = 16) -> nn.Module:
    body = OrderedDict(stem=Block(3, 8, 3, 2), first=Block(8, 8, 3, 2), second=Block(8, 12, 3, 2))
    return BackboneWithFPN(nn.Sequential(body), {"first": "0", "second": "1"}, [8, 12], channels)


def _of_proposals(kind, **options):
    options |= {"box_head": TwoMLPHead(16 * 7 * 7, 32), "box_predictor": FastRCNNPredictor(32, CLASSES)}
    anchors = AnchorGenerator(SIZES, ((0.5, 1.0),) * 3)
    return kind(_pyramid(), min_size=48, max_size=80, rpn_anchor_generator=anchors, **OF_PROPOSALS, **options)


def _of_anchors(kind, *ratios):
    anchors = AnchorGenerator(SIZES, (ratios,) * 3)
    return kind(_pyramid(32), CLASSES, min_size=48, max_size=80, anchor_generator=anchors, **ALL_BOXES)


def _of_default_boxes(kind, **options):
    boxes = DefaultBoxGenerator([[2]] * 3, steps=[4, 8, 16])
    head = kind([16] * 3, boxes.num_anchors_per_location(), CLASSES, **options)
    return SSD(_pyramid(), boxes, (64, 64), CLASSES, head=head, **ALL_BOXES)


def _of_torchvision(name):
    options = OF_PROPOSALS if "rcnn" in name else ALL_BOXES
    options = options if "ssd" in name else {"min_size": 96, "max_size": 160, **options}
    options = {"num_keypoints": 2, **options} if "keypoint" in name else options
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **options)


DETECTORS = {
    "Faster R-CNN": lambda: _of_proposals(FasterRCNN),
    "Mask R-CNN": lambda: _of_proposals(
        MaskRCNN, mask_head=MaskRCNNHeads(16, (16,), 1), mask_predictor=MaskRCNNPredictor(16, 16, CLASSES)
    ),
    "Keypoint R-CNN": lambda: _of_proposals(
        KeypointRCNN, keypoint_head=KeypointRCNNHeads(16, (16,)), keypoint_predictor=KeypointRCNNPredictor(16, 2)
    ),
    "RetinaNet": lambda: _of_anchors(RetinaNet, 0.5, 1.0),
    "FCOS": lambda: _of_anchors(FCOS, 1.0),
    "SSD": lambda: _of_default_boxes(SSDHead),
    "SSDlite": lambda: _of_default_boxes(SSDLiteHead, norm_layer=nn.BatchNorm2d),
}
if os.environ.get("REAL_DETECTORS"):
    DETECTORS |= {name: partial(_of_torchvision, name) for name in models.list_models(models.detection)}


def build(name: str) -> nn.Module:
    """A new one in eval mode; each time the same."""
    detector = seeded(lambda: randomise(DETECTORS[name]()).eval())
    for number, (part, each) in enumerate(detector.named_modules()):
        if isinstance(each, nn.Conv2d) and ("head" in part or "rpn" in part):  # scores that differ
            seeded(partial(nn.init.kaiming_normal_, each.weight), number)
    if not isinstance(detector, SSD):
        detector.transform.size_divisible = 8  # so that the strides of anchors depend on the canvas
    return detector


def draw_batch(dtype: torch.dtype = torch.float32):
    """Three images of three sizes; what is visible of them; targets, of which the hole hides some and cuts others."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator, dtype=dtype) for size in ((50, 72), (80, 45), (48, 48))]
    visible = [torch.ones(1, *each.shape[1:], dtype=torch.bool) for each in images]
    visible[0][:, 10:36, 20:50] = False
    visible[1][:, :30] = False
    boxes = torch.tensor([[2.0, 3, 20, 22], [22, 12, 44, 34], [14, 20, 34, 44]], dtype=dtype)
    keypoints = torch.tensor([24.0, 24.0, 1.0]).repeat(3, 2, 1)
    target = {"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "keypoints": keypoints, "image_id": torch.tensor([7])}
    targets = [{**target, "masks": torch.ones(3, *image.shape[1:], dtype=torch.uint8)} for image in images]
    return images, visible, targets


def with_nan(images, visible):
    return [image.masked_fill(~shown, torch.nan) for image, shown in zip(images, visible, strict=True)]
