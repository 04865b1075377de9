"""Views are those of torchvision's transforms, for the image and for the mask."""

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from maskrobust.train.data.files.views import evaluation_view, training_view

SIDE = 32


def draw(height, width):
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
    return image, torch.rand(1, height, width, generator=generator) < 0.5


def by_torchvision(transform, image, object_mask):
    seen, seen_mask = transform(tv_tensors.Image(image), tv_tensors.Mask(object_mask.to(torch.uint8)))
    return seen.as_subclass(Tensor), seen_mask.as_subclass(Tensor).bool()


@pytest.mark.parametrize("size", [(40, 60), (375, 500), (7, 9), (33, 31), (SIDE, SIDE)])
def test_both_views_are_torchvisions_pixel_for_pixel(size):
    image, object_mask = draw(*size)
    training = v2.Compose([v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip()])
    evaluation = v2.Compose([v2.Resize(round(SIDE * 256 / 224)), v2.CenterCrop(SIDE)])
    for view, transform, seeds in ((training_view, training, 40), (evaluation_view, evaluation, 1)):
        for seed in range(seeds):
            torch.manual_seed(seed)
            expected = by_torchvision(transform, image, object_mask)
            after = torch.get_rng_state()
            torch.manual_seed(seed)
            seen, seen_mask = view(SIDE)(image, object_mask)
            assert torch.equal(seen, expected[0]) and torch.equal(seen_mask, expected[1])
            assert torch.equal(torch.get_rng_state(), after)
