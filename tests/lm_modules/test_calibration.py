"""Calibration of masked logits: undoes what is affine, reads nothing into what is not there, spares whole images."""

import pytest
import torch
from torch.nn import functional as F

from maskrobust.augment import sample_keys
from maskrobust.lm_modules.calibration import AffineCalibration, calibrated, fit_calibration

CLASSES = 4


def draw(images=4000, classes=CLASSES, seed=0):
    return 2 * torch.randn(images, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(logits, seed=1):
    return torch.multinomial(logits.softmax(dim=1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]


def mapped(calibration, logits):
    return F.linear(logits, *(each.to(logits.dtype) for each in calibration))


def distortion(classes=CLASSES):
    generator = torch.Generator().manual_seed(2)
    weight = 0.5 * torch.eye(classes) + 0.2 * torch.randn(classes, classes, generator=generator)
    return weight.double(), torch.linspace(-3, 3, classes, dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_known_affine_distortion_is_undone(classes):
    clean = draw(20000, classes)
    weight, bias = distortion(classes)
    found = fit_calibration(clean @ weight.T + bias, sample(clean))
    assert found.weight.shape == (classes, classes) and found.bias.shape == (classes,)
    assert found.weight.dtype == found.bias.dtype == torch.float32
    fresh = draw(500, classes, seed=9)
    restored = mapped(found, fresh @ weight.T + bias)
    difference = (restored.softmax(dim=1) - fresh.softmax(dim=1)).abs()
    assert difference.mean() < 0.01 and difference.max() < 0.1


def test_the_map_is_where_the_penalised_loss_is_least():
    clean = draw(300)
    logits, targets = 3 * clean + 5, sample(clean)
    weight, bias = (each.double() for each in fit_calibration(logits, targets))
    deviation, mean = logits.std(dim=0, correction=0), logits.mean(dim=0)
    standardised = torch.cat([(logits - mean) / deviation, torch.zeros(CLASSES, CLASSES, dtype=torch.float64)])
    observed = torch.cat([targets, torch.arange(CLASSES)])
    shares = torch.cat([torch.ones(300), torch.full((CLASSES,), 1 / CLASSES)]).double()
    w, b = (weight * deviation).requires_grad_(), (bias + weight @ mean).requires_grad_()
    loss = (F.cross_entropy(standardised @ w.T + b, observed, reduction="none") * shares).sum() / shares.sum()
    gradients = torch.autograd.grad(loss + 1e-4 / 2 * w.square().sum(), (w, b))
    assert all(gradient.abs().max() < 1e-4 for gradient in gradients)


def test_logits_that_say_nothing_lead_to_the_shares_of_the_targets():
    targets = torch.tensor([0] * 600 + [1] * 300 + [3] * 100)
    logits = torch.tensor([[0.1, -7.3, 0.0, 1e4]], dtype=torch.float64).expand(1000, -1)
    shares = mapped(fit_calibration(logits, targets), logits[:1]).softmax(dim=1)[0].float()
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.0, 0.1]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("present", [[1, 3], [2]])
def test_classes_that_are_not_among_the_targets_have_rows_and_are_not_predicted(present):
    logits = draw(500)
    targets = torch.tensor(present)[logits[:, present].argmax(dim=1)]
    found = fit_calibration(logits, targets)
    assert all(each.isfinite().all() for each in found)
    predictions = mapped(found, draw(500, seed=5)).argmax(dim=1)
    assert set(predictions.tolist()) == set(present)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_wholly_visible_images_keep_their_logits_and_others_are_mapped(dtype):
    logits = draw(3).to(dtype)
    visible = torch.ones(3, 1, 4, 4, dtype=torch.bool)
    visible[1, 0, 2, 3] = False
    calibration = AffineCalibration(*(each.float() for each in distortion()))
    predict = calibrated(lambda _images, _visible, _keys: logits, calibration)
    found = predict(torch.zeros(3, 3, 4, 4), visible, sample_keys(0, torch.arange(3)))
    assert found.dtype == dtype
    assert torch.equal(found[[0, 2]], logits[[0, 2]])
    torch.testing.assert_close(found[1], mapped(calibration, logits[1:2].float())[0].to(dtype))


@pytest.mark.parametrize(
    ("logits", "targets", "named"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), r"got \(0, 3\)"),
        (torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64), r"got \(5, 1\)"),
        (torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64), r"targets must be \(5,\).* got \(4,\)"),
        (torch.zeros(5, 3), torch.full((5,), 3), r"lie in \[0, 3\), got 3 to 3"),
        (torch.full((5, 3), torch.nan), torch.zeros(5, dtype=torch.int64), "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, targets, named):
    with pytest.raises(ValueError, match=named):
        fit_calibration(logits, targets)
