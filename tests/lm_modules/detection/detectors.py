"""Small detectors of each of torchvision's seven families, with random weights and many boxes."""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from tests.lm_modules.masking.networks import randomise, seeded

SIZES = (16,), (32,), (48,)
CLASSES = 3


def _block(channels: int, made: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU())


def _pyramid(channels: int = 16) -> nn.Module:
    body = nn.Sequential(OrderedDict(stem=_block(3, 8, 2), first=_block(8, 8, 2), second=_block(8, 12, 2)))
    return BackboneWithFPN(body, {"first": "0", "second": "1"}, [8, 12], channels)


class TwoMaps(nn.Module):
    """Features at two scales, the first divided by their norm as those of SSD's VGG-16."""

    out_channels = (8, 12)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(_block(3, 8, 2), _block(8, 8, 2)), _block(8, 12, 2)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        first = self.first(x)
        return OrderedDict([("0", 3 * F.normalize(first)), ("1", self.second(first))])


def _of_proposals(kind, **options):
    few = {"rpn_post_nms_top_n_test": 30, "rpn_post_nms_top_n_train": 30, "box_batch_size_per_image": 16}
    heads = {"box_head": TwoMLPHead(16 * 7 * 7, 32), "box_predictor": FastRCNNPredictor(32, CLASSES)}
    return kind(
        _pyramid(), min_size=48, max_size=80, box_score_thresh=0.0, box_detections_per_img=12,
        rpn_anchor_generator=AnchorGenerator(SIZES, ((0.5, 1.0),) * 3), **few, **heads, **options,
    )  # fmt: skip


def _of_masks():
    return _of_proposals(
        MaskRCNN, mask_head=MaskRCNNHeads(16, (16,), 1), mask_predictor=MaskRCNNPredictor(16, 16, CLASSES)
    )


def _of_keypoints():
    heads = {"keypoint_head": KeypointRCNNHeads(16, (16,)), "keypoint_predictor": KeypointRCNNPredictor(16, 2)}
    return _of_proposals(KeypointRCNN, **heads)


def _ssd(head=None):
    generator = DefaultBoxGenerator([[2]] * 2, steps=[4, 8])
    given = None if head is None else head([8, 12], generator.num_anchors_per_location(), CLASSES)
    return SSD(TwoMaps(), generator, (64, 64), CLASSES, head=given, score_thresh=0.0, detections_per_img=12)


def _dense(kind, ratios, **options):
    generator = AnchorGenerator(SIZES, (ratios,) * 3)
    return kind(
        _pyramid(32), CLASSES, min_size=48, max_size=80, anchor_generator=generator, score_thresh=0.0,
        detections_per_img=12, **options,
    )  # fmt: skip


DETECTORS = {
    "Faster R-CNN": lambda: _of_proposals(FasterRCNN),
    "Mask R-CNN": _of_masks,
    "Keypoint R-CNN": _of_keypoints,
    "RetinaNet": lambda: _dense(RetinaNet, (0.5, 1.0)),
    "FCOS": lambda: _dense(FCOS, (1.0,)),
    "SSD": _ssd,
    "SSDlite": lambda: _ssd(partial(SSDLiteHead, norm_layer=nn.BatchNorm2d)),
}


def build(name: str) -> nn.Module:
    """A new one in eval mode; each time the same."""

    def make() -> nn.Module:
        detector = randomise(DETECTORS[name]())
        for part, each in detector.named_modules():
            if isinstance(each, nn.Conv2d) and ("head" in part or "rpn" in part):  # scores that differ
                nn.init.normal_(each.weight, std=0.1)
        if not isinstance(detector, SSD):
            detector.transform.size_divisible = 8  # so that the strides of anchors depend on the canvas
        return detector.eval()

    return seeded(make)


def draw_batch(dtype: torch.dtype = torch.float32):
    """Three images of three sizes; what is visible of them; targets, of which the hole hides some and cuts others."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator, dtype=dtype) for size in ((50, 72), (80, 45), (48, 48))]
    visible = [torch.ones(1, *each.shape[1:], dtype=torch.bool) for each in images]
    visible[0][:, 10:36, 20:50] = False
    visible[1][:, :30] = False
    targets = []
    for image in images:
        boxes = torch.tensor([[2.0, 3, 20, 22], [22, 12, 44, 34], [14, 20, 34, 44]], dtype=dtype)
        target = {"boxes": boxes, "labels": torch.tensor([1, 2, 1])}
        target["masks"] = torch.ones(3, *image.shape[1:], dtype=torch.uint8)
        target["keypoints"] = torch.tensor([24.0, 24.0, 1.0], dtype=dtype).repeat(3, 2, 1)
        targets.append({**target, "image_id": torch.tensor([7])})
    return images, visible, targets


def with_nan(images, visible):
    return [image.masked_fill(~shown, torch.nan) for image, shown in zip(images, visible, strict=True)]
