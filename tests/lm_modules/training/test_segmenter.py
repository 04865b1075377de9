"""`MaskRobustSegmenter` in a real trainer: hidden pixels have no part in loss, gradients and IoU."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from maskrobust import Batch, MaskRobustSegmenter, load_network
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.processes import MeanIoU, counts_of_pixels
from maskrobust.lm_modules.training.segmentation_losses import cross_entropy, dice
from tests.trainers import quiet_trainer

CLASSES, SIDE, IGNORED = 3, 32, 255


class TinyUNet(nn.Module):
    """Two scales and a skip connection, as a dictionary where it is asked for one."""

    def __init__(self, num_classes: int = CLASSES, in_channels: int = 4, as_out: bool = False) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head, self.as_out = nn.Conv2d(16, num_classes, 1), as_out

    def forward(self, images):
        fine = self.down(images)
        logits = self.head(torch.cat([fine, self.up(self.deep(fine))], dim=1))
        return {"out": logits} if self.as_out else logits


def segmenter(network: nn.Module | None = None, **options) -> MaskRobustSegmenter:
    torch.manual_seed(0)
    given = {"mean": (0.5,) * 4, "std": (0.25,) * 4, "masking": "layer_masking", "patch_size": 8} | options
    return MaskRobustSegmenter(network or TinyUNet(), CLASSES, **given)


def batch(number: int = 6, seed: int = 0) -> Batch:
    """Images whose brightest band tells the class, with a hole in each and pixels without a label."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(number, 4, SIDE, SIDE, generator=draw)
    labels = images[:, :CLASSES].argmax(dim=1)
    labels[:, :2] = IGNORED
    visible = torch.ones(number, 1, SIDE, SIDE, dtype=torch.bool)
    visible[:, :, 8:20, 10:30] = False
    return Batch(torch.arange(number), images, torch.zeros_like(visible), labels, visible)


def step(model: MaskRobustSegmenter, of: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    if model.training_masks is None:
        model.build_masks(None)
    model.log = lambda *_, **__: None
    model.zero_grad()
    loss = model.train().training_step(of, 0)
    loss.backward()
    return loss.detach(), [each.grad.clone() for each in model.parameters()]


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "both"])
@pytest.mark.parametrize("masking", ["layer_masking", "fill", "mixture"])
def test_hidden_pixels_and_their_labels_change_no_bit_of_loss_and_gradients(loss, masking):
    one = batch()
    spoilt = one._replace(
        images=one.images.where(one.visible, torch.nan), labels=one.labels.where(one.visible[:, 0], 99)
    )
    found = [step(segmenter(loss=loss, masking=masking, class_weights=(1.0, 2.0, 0.5)), each) for each in (one, spoilt)]
    assert found[0][0] > 0 and torch.equal(found[0][0], found[1][0])
    assert all(map(torch.equal, found[0][1], found[1][1]))


@pytest.mark.parametrize("masking", ["none", "fill", "layer_masking"])
def test_labels_behind_holes_that_are_drawn_or_given_change_no_bit(masking):
    one, model = batch(), segmenter(masking=masking, mask_probability=1.0)
    model.build_masks(None)
    kept = model.present(one).kept & one.visible
    assert masking == "none" or not kept[one.visible].all()
    other = one._replace(labels=one.labels.where(kept[:, 0], 0))
    found = [step(segmenter(masking=masking, mask_probability=1.0), each) for each in (one, other)]
    assert found[0][0] > 0 and torch.equal(found[0][0], found[1][0])
    assert all(map(torch.equal, found[0][1], found[1][1]))


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "both"])
@pytest.mark.parametrize("hide", ["everything", "no label"])
def test_a_batch_without_a_labelled_visible_pixel_has_loss_0_and_trains_on(loss, hide):
    one, model = batch(), segmenter(loss=loss)
    empty = one._replace(visible=torch.zeros_like(one.visible))
    if hide == "no label":
        empty = one._replace(labels=torch.full_like(one.labels, IGNORED))
    found, gradients = step(model, empty)
    assert found == 0 and all(each.isfinite().all() and not each.any() for each in gradients)
    assert all(each.isfinite().all() for each in model.state_dict().values())
    assert step(model, one)[0].isfinite()


def test_losses_are_those_of_torch_and_smp():
    logits, labels = torch.randn(3, CLASSES, 8, 8), torch.randint(0, CLASSES, (3, 8, 8))
    targets = labels.where(torch.rand(3, 8, 8) > 0.3, -1)
    weights = torch.tensor([1.0, 3.0, 0.2])
    torch.testing.assert_close(
        cross_entropy(logits, targets, weights), F.cross_entropy(logits, targets, weights, ignore_index=-1)
    )
    reference = smp.losses.DiceLoss("multiclass", ignore_index=-1)(logits, targets)
    torch.testing.assert_close(dice(logits, targets), reference)


def test_iou_is_torchmetrics_with_each_sample_counted_once():
    predicted, labels = torch.randint(0, 4, (5, 9, 7)), torch.randint(-1, 3, (5, 9, 7))
    ours, theirs = MeanIoU(), MulticlassJaccardIndex(5, average="none", ignore_index=-1)
    theirs.update(predicted, labels)
    occurs = [0, 1, 2, 3]  # 3 is predicted alone, and class 4 is nowhere
    for part in (slice(0, 3), slice(2, 5)):  # a sampler repeats one
        ours.update(torch.arange(5)[part], counts_of_pixels(predicted[part], labels[part], 5))
    torch.testing.assert_close(ours.compute(), theirs.compute()[occurs].mean())


def test_one_trains_on_batches_of_torchgeo_and_is_loaded_called_and_refused_as_a_classifier(tmp_path):
    one = batch(8)
    data = [
        {"image": image.where(visible, torch.nan), "mask": labels, "visible": visible}
        for image, labels, visible in zip(one.images, one.labels, one.visible, strict=True)
    ]
    torch.manual_seed(0)
    colours = {"mean": (0.5,) * 4, "std": (0.25,) * 4}
    small = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    options = {"masking": "layer_masking", "learning_rate": 0.01, "architecture_options": small}
    model = MaskRobustSegmenter("smp/Unet:resnet18", CLASSES, **colours, **options)
    trainer = quiet_trainer(max_epochs=6)
    trainer.fit(model, DataLoader(data, batch_size=4), DataLoader(data, batch_size=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    network = MaskRobustSegmenter.from_checkpoint(str(tmp_path / "last.ckpt")).trained_network()
    logits = network(one.images, one.visible)
    assert logits.shape == (8, CLASSES, SIDE, SIDE)
    counted = one.labels.where(one.visible[:, 0], IGNORED)
    expected = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORED)(logits.argmax(dim=1), counted)
    torch.testing.assert_close(trainer.callback_metrics["val/iou"], expected)
    other = network(one.images.where(one.visible, torch.nan), one.visible)
    assert torch.equal(*(each.where(one.visible, 0.0) for each in (logits, other)))
    with pytest.raises(InputError, match="of a MaskRobustSegmenter, which answers for each pixel"):
        load_network(str(tmp_path / "last.ckpt"))


def test_networks_of_torchvision_and_dictionaries_take_any_bands():
    model = MaskRobustSegmenter("torchvision/lraspp_mobilenet_v3_large", 2, mean=(0.5,) * 5, std=(0.2,) * 5).eval()
    images = torch.rand(1, 5, 64, 64)
    assert model(images).shape == (1, 2, 64, 64)
    assert model.trained_network()(images).shape == (1, 2, 64, 64)
    plain, nested = TinyUNet(), TinyUNet(as_out=True)
    nested.load_state_dict(plain.state_dict())
    assert torch.equal(*(segmenter(each).eval()(batch().images, batch().visible) for each in (plain, nested)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ignore_index": 1}, "ignore_index must be no class"),
        ({"fill": "other_image"}, "not of pixels; choose another fill"),
        ({"loss": "dise"}, "loss must be one of cross_entropy, dice, both"),
        ({"class_weights": (1.0, 2.0)}, "class_weights"),
        ({"architecture": "torchvision/deeplabv3_resnet5"}, "did you mean torchvision/deeplabv3_resnet50"),
        ({"architecture": "smp/Unett:resnet18"}, "Wrong architecture type"),
        ({"architecture": "smp/Unet:resnet18", "architecture_options": {"encoder_weights": "imagenet"}}, "no weights"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options, said):
    with pytest.raises(InputError, match=said):
        MaskRobustSegmenter(**{"architecture": TinyUNet(in_channels=3), "num_classes": CLASSES} | options)


def test_labels_that_are_no_classes_are_refused_where_they_are_visible():
    one, model = batch(), segmenter()
    assert model.on_before_batch_transfer(one._replace(labels=one.labels.where(one.visible[:, 0], 9)), 0)
    with pytest.raises(InputError, match="classes from 0 to 2, or 255 where there is none, got 3; set ignore_index"):
        model.on_before_batch_transfer(one._replace(labels=one.labels.clamp(min=3, max=3)), 0)
    with pytest.raises(InputError, match="labels must be a class for each pixel"):
        model.on_before_batch_transfer(one._replace(labels=one.labels[:, 0, 0]), 0)


def test_a_checkpoint_of_a_stranger_fetches_no_weights(tmp_path):
    model = MaskRobustSegmenter("smp/Unet:resnet18", 2)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content["hyper_parameters"]["architecture_options"] = {"encoder_weights": "imagenet"}
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(InputError, match="asks for the option 'encoder_weights'"):
        MaskRobustSegmenter.from_checkpoint(str(tmp_path / "odd.ckpt"))
