"""Known truth in empty scenes, on each data set that has some: networks that ignore, half use and use outlines."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from maskrobust.augment import SilhouetteBank, fold_in, uniform
from maskrobust.augment.families.circles import enclosing_circles
from maskrobust.lm_modules.reliance.bootstrap import Interval
from maskrobust.lm_modules.reliance.estimation import Statistic, estimate
from maskrobust.lm_modules.reliance.measures.empty_scenes import scene_2afc, scene_pull
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.scenes import ask_pass, mean_pulls, scene_pairs, scene_passes
from maskrobust.train.data import AnnotatedDataModule, Cues, Cutouts, Fashion
from maskrobust.train.data.files.cutout_files import DEBIAN_STAMPS
from maskrobust.train.data.files.idx import DEBIAN_FOLDER
from tests.conftest import require_component
from tests.lm_modules.reliance.tables import make_outcomes

SIZE, PAIRS = 48, 80


def cues() -> AnnotatedDataModule:
    return Cues(train_images=8, val_images=8, test_images=200, image_size=SIZE)


def fashion() -> AnnotatedDataModule:
    require_component(DEBIAN_FOLDER, "apt install dataset-fashion-mnist")
    return Fashion(train_images=8, val_images=8, test_images=300)


def cutouts() -> AnnotatedDataModule:
    require_component(DEBIAN_STAMPS, "apt install tuxpaint-stamps-default")
    return Cutouts(image_size=SIZE, views=3)


@pytest.fixture(scope="module", params=[cues, fashion, cutouts])
def asked(request: pytest.FixtureRequest) -> dict[str, Outcomes]:
    """What each network answers about one scene for each pair."""
    data: AnnotatedDataModule = request.param()
    data.prepare_data()
    data.setup("test")
    bank = SilhouetteBank.from_batches(data.test_dataloader())
    pairs = scene_pairs(bank, data.object_of(bank.ids), count=PAIRS, seed=0)
    assert len(pairs) == PAIRS
    scenes = data.empty_scenes("test", 1)
    assert scenes is not None
    labels = {shape(mask): int(label) for mask, label in zip(bank.object_masks, bank.labels, strict=True)}
    weights = torch.randn(data.num_classes, scenes[0].numel(), generator=torch.Generator().manual_seed(0))

    def reader(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        return one_hot(torch.tensor([labels[shape(~each)] for each in visible]), data.num_classes).float()

    def half_reader(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        return reader(images, visible, keys) * (uniform(fold_in(keys, 5)) < 0.5)[:, None]

    def circle_reader(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        return (images * ~enclosing_circles(~visible)).flatten(1) @ weights.T

    networks = {"uses": reader, "half uses": half_reader, "ignores": circle_reader}
    plain: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(
        networks, lambda images: images.new_zeros(len(images), data.num_classes)
    )
    pulls = [ask_pass(pairs, scenes, rows, {}, networks, plain, seed=0) for rows in scene_passes(pairs, 1)]
    return {
        name: replace(make_outcomes(3, 0), pairs=mean_pulls(pairs, 1, [each[name] for each in pulls]))
        for name in networks
    }


def shape(mask: Tensor) -> tuple[int, bytes]:
    """The object of a mask (1, H, W) in its bounding box."""
    rows, columns = mask[0].any(dim=1).nonzero(), mask[0].any(dim=0).nonzero()
    box = mask[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return box.shape[1], box.numpy().tobytes()


def interval(measure: Statistic, outcomes: Outcomes) -> Interval:
    found = estimate(measure, [outcomes], confidence=0.999).interval
    assert found is not None
    return found


def test_a_network_that_uses_the_outline_tells_every_pair_apart(asked: dict[str, Outcomes]) -> None:
    assert interval(scene_2afc(), asked["uses"]) == (1.0, 1.0, 1.0)
    assert interval(scene_pull(), asked["uses"]) == pytest.approx((1.0, 1.0, 1.0))


def test_one_that_uses_every_other_outline_tells_three_quarters_of_the_pairs_apart(asked: dict[str, Outcomes]) -> None:
    for measure, truth in ((scene_2afc(), 0.75), (scene_pull(), 0.5)):
        found = interval(measure, asked["half uses"])
        assert found.low <= truth <= found.high and found.low > 0.25


def test_one_that_sees_no_more_than_the_circle_tells_none_apart(asked: dict[str, Outcomes]) -> None:
    """Circles differ by a few pixels, so that its logits do: but not towards the class of either object."""
    for measure, truth in ((scene_2afc(), 0.5), (scene_pull(), 0.0)):
        found = interval(measure, asked["ignores"])
        assert found.low <= truth <= found.high and found.low < found.high
