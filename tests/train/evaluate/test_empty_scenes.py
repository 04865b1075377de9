"""Known truth in empty scenes of each data set that has some: networks that use outlines, and that see circles."""

import pytest
import torch
from torch.nn.functional import one_hot

from maskrobust.augment import SilhouetteBank
from maskrobust.augment.families.shapes.circles import enclosing_circles
from maskrobust.lm_modules.reliance.estimates.crossed import outline_pull
from maskrobust.lm_modules.reliance.holes.scenes import ask_pass, draw_shapes, scene_answers, scene_passes
from maskrobust.train.data import AnnotatedDataModule, Cues, Cutouts, Fashion
from maskrobust.train.data.files.cutout_files import DEBIAN_STAMPS
from maskrobust.train.data.files.idx import DEBIAN_FOLDER
from tests.conftest import require_component

SIZE = 48


def cues():
    return Cues(train_images=8, val_images=8, test_images=200, image_size=SIZE)


def fashion():
    require_component(DEBIAN_FOLDER, "apt install dataset-fashion-mnist")
    return Fashion(train_images=8, val_images=8, test_images=300)


def cutouts():
    require_component(DEBIAN_STAMPS, "apt install tuxpaint-stamps-default")
    return Cutouts(image_size=SIZE, views=3)


@pytest.fixture(scope="module", params=[cues, fashion, cutouts])
def pulls(request):
    """How far each network is pulled in six scenes."""
    data: AnnotatedDataModule = request.param()
    data.prepare_data()
    data.setup("test")
    bank = SilhouetteBank.from_batches(data.test_dataloader())
    shapes = draw_shapes(bank, count=80, seed=0)
    assert len(shapes.objects) > 60
    scenes = shapes.check(data.empty_scenes("test", 6))
    labels = {mask.numpy().tobytes(): int(label) for mask, label in zip(shapes.visible, shapes.labels, strict=True)}
    weights = torch.randn(data.num_classes, scenes.images[0].numel(), generator=torch.Generator().manual_seed(0))

    def reader(images, visible, keys):
        return one_hot(torch.tensor([labels[each.numpy().tobytes()] for each in visible]), data.num_classes).float()

    def circle_reader(images, visible, keys):
        return (images * ~enclosing_circles(~visible)).flatten(1) @ weights.T

    networks = {"uses": reader, "ignores": circle_reader}
    found = [ask_pass(shapes, scenes.images, rows, networks, seed=0) for rows in scene_passes(shapes, 6)]
    given = {name: scene_answers(shapes, scenes, [each[name] for each in found]) for name in networks}
    return {name: outline_pull(each.logits, each.columns, each.pairs, each.kinds) for name, each in given.items()}


def test_a_network_that_uses_the_outline_is_pulled_by_every_hole(pulls):
    assert pulls["uses"].interval(0.999) == pytest.approx((1.0, 1.0, 1.0))


def test_one_that_sees_no_more_than_the_circle_is_not_pulled_towards_the_own_class(pulls):
    """Circles differ by a few pixels, so that its logits do."""
    found = pulls["ignores"].interval(0.999)
    assert found.low <= 0.0 <= found.high and found.low < found.high
