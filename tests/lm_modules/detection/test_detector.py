"""`MaskedDetector`: hidden pixels do not matter, each image is answered as if it were alone, and mistakes are told."""

import copy
from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign, box_iou

from maskrobust import LayerMasking, MaskedDetector
from maskrobust.errors import InputError
from maskrobust.lm_modules.detection.boxes import is_visible, visible_fraction
from maskrobust.lm_modules.detection.stand_ins import MaskedPool
from maskrobust.lm_modules.masking.layer_masking import MaskedMap
from tests.conftest import refused
from tests.lm_modules.detection.detectors import CLASSES, DETECTORS, build, draw_batch, with_nan
from tests.lm_modules.masking.cases import assert_close

every_detector = pytest.mark.parametrize("name", DETECTORS)


def assert_same(found, expected, tolerance=0.0):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert all(len(each["boxes"]) > 0 for each in found)


@every_detector
@torch.no_grad()
def test_hidden_pixels_change_no_bit_and_nothing_hidden_is_the_detector_bit_for_bit(name):
    detector, (images, visible, _) = build(name), draw_batch()
    masked, before = MaskedDetector(detector, 0.3), copy.deepcopy(detector.state_dict())
    found = masked(images, visible)
    assert_same(masked(with_nan(images, visible), visible), found)
    for each, shown in zip(found, visible, strict=True):
        assert (visible_fraction(each["boxes"], shown) >= 0.3 - 1e-6).all()
    assert not torch.equal(masked(images)[0]["scores"], found[0]["scores"])
    for image in images:
        assert_same(masked([image]), detector([image]))
    assert all(map(torch.equal, before.values(), detector.state_dict().values()))


@every_detector
@torch.no_grad()
def test_each_image_of_a_batch_of_three_sizes_is_answered_as_if_alone(name):
    detector, (images, visible, _) = build(name).double(), draw_batch(torch.float64)
    masked = MaskedDetector(detector, 0.3)
    alone = [masked([image], [shown])[0] for image, shown in zip(images, visible, strict=True)]
    assert_same(masked(images, visible), alone, 1e-8)
    assert_same(masked(images), [detector([image])[0] for image in images], 1e-8)


@every_detector
def test_hidden_pixels_change_no_loss_and_have_no_gradient(name):
    detector, (images, visible, targets) = build(name), draw_batch()
    masked = MaskedDetector(detector, 0.3).train()
    watched = [image.clone().requires_grad_() for image in images]

    def losses(network, *given):
        torch.manual_seed(0)  # of the sampler
        return network(*given)

    found, other = (losses(masked, some, visible, targets) for some in (watched, with_nan(images, visible)))
    assert all(torch.equal(found[key], other[key]) for key in found)
    sum(found.values()).backward()
    for image, shown in zip(watched, visible, strict=True):
        assert image.grad.any() and not image.grad.masked_select(~shown).any()
    assert all(each.grad is None or each.grad.isfinite().all() for each in detector.parameters())
    images, targets = [images[0], images[0].flip(1)], targets[:1] * 2  # one size
    whole, plain = losses(masked, images, None, targets), losses(detector, images, targets)
    assert all(abs(whole[key] - plain[key]) < 1e-5 * (1 + plain[key]) for key in plain)


class Rows(nn.Module):
    """Features of a detector, and what its own dense head says of each anchor."""

    def __init__(self, detector):
        super().__init__()
        self.backbone, self.head = detector.backbone, getattr(detector, "rpn", detector).head

    def forward(self, x):
        features = self.backbone(x)
        return features, self.head([*features.values()])


def object_of(detector, target, anchors, counts):
    """The object of each anchor, or a negative number."""
    if not isinstance(detector, FCOS):
        return detector.proposal_matcher(box_iou(target["boxes"], anchors))
    with patch.object(detector.head, "compute_loss") as called:
        detector.compute_loss([target], {}, [anchors], counts)
    return called.call_args.args[3][0]


def dense_losses(detector, image, visible, target, min_visible):
    """Losses of one image over visible anchors alone, how many they are means of, and what the heads of RoIs read."""
    kept = is_visible(target["boxes"], visible, min_visible)
    target = {key: each[kept] for key, each in target.items() if key != "image_id"}
    batch, (target,) = detector.transform([image.masked_fill(~visible, 0.0)], [target])
    height, width = batch.image_sizes[0]
    hidden = nn.functional.interpolate((~visible)[None].double(), size=(height, width), mode="bilinear")
    shown = torch.ones(1, 1, *batch.tensors.shape[2:], dtype=torch.bool)
    shown[..., :height, :width] = hidden == 0
    maps, rows = LayerMasking(Rows(detector)).maps(batch.tensors, shown)
    dense, features = getattr(detector, "rpn", detector), [each.features for each in maps.values()]
    (anchors,) = dense.anchor_generator(ImageList(batch.tensors, batch.image_sizes), features)
    counts = [len(anchors) // sum(x[0, 0].numel() for x in features) * x[0, 0].numel() for x in features]
    if dense is not detector:
        scores, boxes = concat_box_prediction_layers(*([each.features for each in levels] for levels in rows))
        rows = {"cls_logits": scores[None], "boxes": boxes[None]}
    seen = rows["cls_logits"][0].any(1) & is_visible(anchors, shown[0, :, :height, :width], min_visible)  # 0 if hidden
    assert 0 < seen.sum() < seen.numel() or visible.all()
    rows = {name: each[:, seen] for name, each in rows.items()}
    if dense is detector:
        objects = object_of(detector, target, anchors, counts)[seen]
        owner = detector if isinstance(detector, SSD) else detector.head
        weight = 1 if isinstance(detector, RetinaNet) else int((objects >= 0).sum())
        return owner.compute_loss([target], rows, [anchors[seen]], [objects]), weight
    (labels,), (matched,) = dense.assign_targets_to_anchors([anchors], [target])
    labels, aims = labels[seen], dense.box_coder.encode([matched], [anchors])[0][seen]
    scores, boxes = (each[0] for each in rows.values())
    losses = dense.compute_loss(scores, boxes, [labels], [aims])
    proposals = dense.box_coder.decode(boxes.detach(), [anchors[seen]]).view(1, -1, 4)
    counts = [int(each.sum()) for each in seen.split(counts)]
    (proposals,), _ = dense.filter_proposals(proposals, scores, batch.image_sizes, counts)
    losses = dict(zip(("loss_objectness", "loss_rpn_box_reg"), losses, strict=True))
    return losses, int((labels >= 0).sum()), maps, proposals, (height, width), target


def pool_alone(pool, maps, _, boxes, sizes):
    each = zip(maps, boxes, sizes, strict=True)
    return torch.cat([MaskedPool(pool, own)(None, [some], [size]) for own, some, size in each])


@every_detector
def test_losses_and_gradients_are_those_of_a_copy_without_hidden_anchors(name):
    detector, (images, visible, targets) = build(name).double().train(), draw_batch(torch.float64)
    for each in detector.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eval()  # as the copy sees the images one by one
        if hasattr(each, "fg_bg_sampler"):
            each.fg_bg_sampler = BalancedPositiveNegativeSampler(10**6, 0.5)  # all
    other, given = copy.deepcopy(detector), zip(images, visible, targets, strict=True)
    losses, weights, *proposed = zip(*(dense_losses(other, *each, 0.4) for each in given), strict=True)
    weights = [max(1, each) / max(1, sum(weights)) for each in weights]
    expected = {key: sum(w * one[key] for w, one in zip(weights, losses, strict=True)) for key in losses[0]}
    if proposed:
        for part, pool in other.roi_heads.named_children():
            if part.endswith("pool"):
                pool.forward = partial(pool_alone, copy.copy(pool), proposed[0])
        expected |= other.roi_heads(None, *map(list, proposed[1:]))[1]
    found = MaskedDetector(detector, 0.4)(images, visible, targets)
    tolerance = 1e-6 if proposed else 1e-9  # torchvision computes the loss of proposals in float32
    assert found.keys() == expected.keys()
    for key, loss in expected.items():
        assert loss > 0 and abs(found[key] - loss) < tolerance * loss, key
    sum(expected.values()).backward()
    sum(found.values()).backward()
    for (key, one), each in zip(detector.named_parameters(), other.parameters(), strict=True):
        if each.grad is not None:
            assert_close(one.grad, each.grad, 10 * tolerance, key)


def test_proposals_are_pooled_over_visible_positions():
    pool, shown = MultiScaleRoIAlign(["0"], 4, 2), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    shown[..., :, 5:11] = False
    x = torch.rand(1, 2, 16, 16, dtype=torch.float64)
    boxes = [torch.tensor([[0.0, 0, 64, 64], [4, 4, 60, 20], [24, 8, 36, 30]], dtype=torch.float64)]
    sizes = torch.tensor([[16, 16]])
    masked = MaskedPool(pool, {"0": MaskedMap(x.masked_fill(~shown, 0.0) * 0 + shown, shown, sizes)})
    assert_close(masked(None, boxes[:1], [(64, 64)])[:2], torch.ones(2, 2, 4, 4, dtype=torch.float64), 1e-12)
    plain = MaskedPool(pool, {"0": MaskedMap(x, shown | True, sizes)})(None, boxes, [(64, 64)])
    assert torch.equal(plain, pool({"0": x}, boxes, [(64, 64)]))
    found = MaskedPool(pool, {"0": MaskedMap(x.masked_fill(~shown, 0.0), shown, sizes)})(None, boxes, [(64, 64)])
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, :, :, 0], plain[0, :, :, 0])  # bins without a hidden position


def test_the_visible_fraction_of_a_box_is_that_of_its_pixels():
    generator = torch.Generator().manual_seed(0)
    visible = torch.rand(1, 9, 13, generator=generator) < 0.6
    corners = (torch.rand(200, 4, generator=generator) * torch.tensor([26.0, 18, 26, 18]) - 4).round() / 2
    boxes = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], 1)
    halves = visible[0].repeat_interleave(2, 0).repeat_interleave(2, 1).double()
    for box, found in zip(boxes, visible_fraction(boxes, visible), strict=True):
        x1, y1, x2, y2 = (2 * box).long().clamp(min=0).tolist()
        inside = halves[y1:y2, x1:x2]
        assert abs(found - (inside.mean() if inside.numel() else 1.0)) < 1e-9
    assert is_visible(boxes, visible, 1.0).sum() < is_visible(boxes, visible, 0.0).sum() <= len(boxes)


@torch.no_grad()
def test_an_image_of_which_nothing_is_visible_has_no_boxes_and_its_batch_the_same_as_ever():
    detector, (images, visible, targets) = build("RetinaNet"), draw_batch()
    masked = MaskedDetector(detector)
    nothing = [visible[0] & False, *visible[1:]]
    found = masked(images, nothing)
    assert len(found[0]["boxes"]) == 0
    assert all(each.isfinite() for each in masked.train()(images, nothing, targets).values())


def test_a_copy_of_a_masked_detector_is_another_one():
    masked, (images, visible, _) = MaskedDetector(build("FCOS")), draw_batch()
    other = copy.deepcopy(masked)
    for each in other.parameters():
        nn.init.zeros_(each)
    with torch.no_grad():
        assert not torch.equal(other(images, visible)[1]["scores"], masked(images, visible)[1]["scores"])
    assert {*masked.state_dict()} == {f"detector.{name}" for name in masked.detector.state_dict()}


IMAGES, VISIBLE, TARGETS = draw_batch()
MISTAKES = {
    "a transformer": (lambda: MaskedDetector(nn.TransformerEncoderLayer(8, 2)), TypeError, ["RetinaNet", "got Tra"]),
    "masked twice": (lambda: MaskedDetector(MaskedDetector(build("FCOS"))), InputError, ["take it as it is"]),
    "a percentage": (lambda: MaskedDetector(build("FCOS"), 50), InputError, ["min_visible", "[0, 1]", "50"]),
    "a batch": (lambda: call(torch.rand(2, 3, 48, 48)), TypeError, ["images", "(2, 3, 48, 48)", "list(batch)"]),
    "lists for tensors": (lambda: call(IMAGES, [each.tolist() for each in VISIBLE]), TypeError, ["visible", "list"]),
    "another size": (lambda: call(IMAGES, [VISIBLE[0]] * 3), InputError, ["(3, 80, 45)", "(1, 50, 72)", "image 1"]),
    "numbers for bools": (lambda: call(IMAGES, [each.float() for each in VISIBLE]), TypeError, ["visible", "bool"]),
    "bytes": (lambda: call([(255 * each).byte() for each in IMAGES]), TypeError, ["float in [0, 1]", "uint8"]),
    "NaN in sight": (lambda: call(with_nan(IMAGES, VISIBLE)), InputError, ["NaN", "image 0", "visible_from"]),
    "no targets": (lambda: call(IMAGES, VISIBLE, training=True), InputError, ["targets", "eval()"]),
    "all hidden": (
        lambda: call(IMAGES, [each & False for each in VISIBLE], TARGETS, training=True),
        InputError, ["all 3 are hidden", "leave such a batch out"],
    ),
}  # fmt: skip


def call(*given, training=False):
    return MaskedDetector(build("FCOS").train(training))(*given)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(mistake):
    make, kind, named = MISTAKES[mistake]
    with refused(kind, *named):
        make()


class Yolo(nn.Module):
    """A small detector of one's own: maps of two scales with an axis of anchors, and their rows, joined."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.heads = nn.ModuleList(nn.Conv2d(8, 2 * (5 + CLASSES), 1) for _ in range(2))

    def forward(self, x):
        first = self.stem(x).relu()
        levels = [head(x) for head, x in zip(self.heads, (first, self.down(first)), strict=True)]
        levels = [x.view(len(x), 2, 5 + CLASSES, *x.shape[2:]).permute(0, 1, 3, 4, 2).sigmoid() for x in levels]
        return levels, torch.cat([x.reshape(len(x), -1, 5 + CLASSES) for x in levels], 1)


def test_a_head_with_an_axis_of_anchors_is_masked_and_its_rows_are_its_maps_where_it_flattens_them():
    images, visible = torch.rand(2, 3, 32, 40), torch.ones(2, 1, 32, 40, dtype=torch.bool)
    visible[:, :, 8:24, 10:30] = False
    masked, redrawn = LayerMasking(Yolo()).eval(), images.masked_fill(~visible, torch.nan)
    (maps, rows), (others, _) = masked(images, visible), masked(redrawn, visible)
    for one, other in zip(maps, others, strict=True):
        assert torch.equal(one, other) and one.shape[-1] == 5 + CLASSES and not one[:, :, 8 * one.shape[2] // 16].all()
    assert torch.equal(rows, torch.cat([each.reshape(2, -1, 5 + CLASSES) for each in maps], 1))
