"""Mask-effect centring: against its formula picture by picture, and where its truth is known."""

import pytest
import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import centred, feature_extractor, predictor
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_bank, shape_batch

STATISTICS = (0.5, 0.25, 0.125), (0.5, 2.0, 0.25)


def question() -> tuple[Tensor, Tensor, Tensor]:
    """Three images, of the last of which everything may be seen."""
    generator = torch.Generator().manual_seed(0)
    visible = torch.rand(3, 1, 16, 16, generator=generator) < 0.6
    visible[2] = True
    return torch.rand(3, 3, 16, 16, generator=generator), visible, torch.arange(3)


def backgrounds(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ask", [predictor, feature_extractor])
@pytest.mark.parametrize("fill", ["black", "random_colour"])
@torch.no_grad()
def test_answers_are_those_of_the_formula_picture_by_picture(ask, fill: str) -> None:
    images, visible, keys = question()
    plain = ask(SmallResNet(3).eval(), fill, *STATISTICS)
    found = centred(plain, backgrounds())(images, visible, keys)
    assert torch.equal(found[2], plain(images, visible, keys)[2])
    for row in range(2):
        key, hole, whole = keys[row : row + 1], visible[row : row + 1], torch.ones_like(visible[:1])
        expected = plain(images[row : row + 1], hole, key)
        for each in backgrounds():
            expected += (plain(each[None], whole, key) - plain(each[None], hole, key)) / len(backgrounds())
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-5)


def test_a_hole_that_adds_something_to_every_answer_is_taken_off_whole() -> None:
    images, visible, keys = question()
    weights = torch.randn(2, 16 * 16, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def adding(shown: Tensor, seen: Tensor, _keys: Tensor) -> Tensor:
        return shown.mean(dim=1).flatten(1).double() @ weights[0] + (~seen).flatten(1).double() @ weights[1]

    whole = adding(images, torch.ones_like(visible), keys)
    assert (adding(images, visible, keys) - whole)[:2].abs().min() > 0.1
    torch.testing.assert_close(centred(adding, backgrounds(1))(images, visible, keys), whole)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 16, 16\) of the images, got \(3, 8, 8\)"):
        centred(lambda shown, *_: shown, backgrounds()[..., :8, :8])(*question())


def test_networks_are_asked_under_the_centred_method_by_its_name() -> None:
    torch.manual_seed(0)
    network, bank = MaskRobustClassifier("small_resnet", NUM_CLASSES).trained_network(), shape_bank(16)
    batch = shape_batch(12, seed=5)
    plan = ReliancePlan(patch_size=4, all_shapes=False, features=True)
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
    features = [found["a", method].features["silhouette"] for method in ("black", "black+centred")]
    assert features[0].shape == features[1].shape and (features[0] != features[1]).any()
    with pytest.raises(InputError, match=r"'black\+centred' needs pictures"):
        outcomes_of()
    with pytest.raises(InputError, match=r"got one for 'black\+centred'"):
        outcomes_of(backgrounds=pictures, predictors={"a": {"black+centred": by_hand}})
