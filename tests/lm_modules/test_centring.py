"""Mask-effect centring and calibration of masked logits, against their formulas and where the truth is known."""

import pytest
import torch
from torch.nn import functional as F

from maskrobust.augment import Batch, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.calibration import AffineCalibration, calibrated, fit_calibration
from maskrobust.lm_modules.methods import centred, predictor
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_bank, shape_batch

STATISTICS = (0.5, 0.25, 0.125), (0.5, 2.0, 0.25)


def question():
    """Three images, of the last of which everything may be seen."""
    generator = torch.Generator().manual_seed(0)
    visible = torch.rand(3, 1, 16, 16, generator=generator) < 0.6
    visible[2] = True
    return torch.rand(3, 3, 16, 16, generator=generator), visible, torch.arange(3)


def backgrounds(count=4):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fill", ["black", "random_colour"])
@torch.no_grad()
def test_answers_are_those_of_the_formula_picture_by_picture(fill):
    images, visible, keys = question()
    plain = predictor(SmallResNet(3).eval(), fill, *STATISTICS)
    found = centred(plain, backgrounds())(images, visible, keys)
    assert torch.equal(found[2], plain(images, visible, keys)[2])
    for row in range(2):
        key, hole, whole = keys[row : row + 1], visible[row : row + 1], torch.ones_like(visible[:1])
        expected = plain(images[row : row + 1], hole, key)
        for each in backgrounds():
            expected += (plain(each[None], whole, key) - plain(each[None], hole, key)) / len(backgrounds())
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-5)


def test_a_hole_that_adds_something_to_every_answer_is_taken_off_whole():
    images, visible, keys = question()
    weights = torch.randn(2, 16 * 16, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def adding(shown, seen, _keys):
        return shown.mean(dim=1).flatten(1).double() @ weights[0] + (~seen).flatten(1).double() @ weights[1]

    whole = adding(images, torch.ones_like(visible), keys)
    assert (adding(images, visible, keys) - whole)[:2].abs().min() > 0.1
    torch.testing.assert_close(centred(adding, backgrounds(1))(images, visible, keys), whole)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"shape \(3, 16, 16\) of the images, got \(3, 8, 8\)"):
        centred(lambda shown, *_: shown, backgrounds()[..., :8, :8])(*question())


def test_networks_are_asked_under_the_centred_method_by_its_name():
    network, bank = MaskRobustClassifier("small_resnet", NUM_CLASSES).trained_network(), shape_bank(16)
    batch = shape_batch(12, seed=5)
    plan = ReliancePlan(patch_size=4, swap_pull=False)
    pictures = torch.rand(3, *batch.images.shape[1:], generator=torch.Generator().manual_seed(1))

    def outcomes_of(**options):
        methods = ("black", "black+centred")
        return Measurement(
            {"a": network}, bank, dict.fromkeys(methods, plan), num_classes=NUM_CLASSES, seed=3, **options
        )

    found = outcomes_of(backgrounds=pictures).ask(Batch(*batch))
    by_hand = centred(network.predictor("black"), pictures)
    expected = outcomes_of(backgrounds=pictures, predictors={"a": {"black": by_hand}}).ask(Batch(*batch))
    for name, predictions in expected["a", "black"].predictions.items():
        assert (found["a", "black+centred"].predictions[name] == predictions).all()
    with pytest.raises(InputError, match=r"'black\+centred' needs pictures"):
        outcomes_of()
    with pytest.raises(InputError, match=r"got one for 'black\+centred'"):
        outcomes_of(backgrounds=pictures, predictors={"a": {"black+centred": by_hand}})


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
