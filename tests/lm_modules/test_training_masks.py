"""Mask families from names and numbers."""

from collections.abc import Iterator

import pytest
import torch

from augment import Batch, SilhouetteBank, patches, rectangles, sample_keys, silhouettes
from lm_modules.training_masks import SilhouetteSource, build_mask_family

KEYS, CPU = sample_keys(0, torch.arange(6)), torch.device("cpu")


class Source:
    """Two batches, with the objects in opposite halves."""

    def training_batches(self) -> Iterator[Batch]:
        for i in range(2):
            object_mask = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
            object_mask[i, :, :, 6 * i : 6 * i + 6] = True
            yield Batch(torch.arange(2) + 2 * i, torch.zeros(2, 3, 8, 12), object_mask, torch.arange(2))


def build(name: str, source: object = None, device: torch.device = CPU, fraction: tuple[float, float] = (0.25, 0.75)):
    return build_mask_family(name, hidden_fraction=fraction, patch_size=4, silhouette_source=source, device=device)


def test_patches_and_rectangles_take_their_numbers() -> None:
    expected = patches(KEYS, 8, 12, hidden_fraction=(0.25, 0.75), patch_size=4)
    assert torch.equal(build("patches")(KEYS, 8, 12), expected)
    expected = rectangles(KEYS, 8, 12, hidden_fraction=(0.25, 0.75))
    assert torch.equal(build("rectangles")(KEYS, 8, 12), expected)
    assert not build("patches", fraction=(1.0, 1.0))(KEYS, 8, 12).any()


def test_silhouettes_are_those_of_the_training_objects() -> None:
    bank = SilhouetteBank.from_batches(Source().training_batches())
    assert len(bank) == 2
    visible = build("silhouettes", Source())(KEYS, 8, 12)
    assert torch.equal(visible, silhouettes(KEYS, 8, 12, bank=bank))
    assert torch.equal(visible[..., 0, [0, 11]].sum(dim=-1), torch.ones(6, 1, dtype=torch.int64))


def test_the_bank_goes_to_the_device_of_the_keys() -> None:
    assert build("silhouettes", Source(), torch.device("meta")).keywords["bank"].object_masks.is_meta


@pytest.mark.parametrize("source", [None, 3, object()])
def test_a_source_without_silhouettes_is_refused_in_one_sentence(source: object) -> None:
    assert isinstance(Source(), SilhouetteSource) and not isinstance(source, SilhouetteSource)
    build("patches", source)
    with pytest.raises(ValueError, match=type(source).__name__) as refusal:
        build("silhouettes", source)
    message = str(refusal.value)
    assert message.endswith(".") and ". " not in message and "\n" not in message
