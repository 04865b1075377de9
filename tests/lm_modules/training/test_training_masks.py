"""The training's masks from names and numbers."""

from typing import Any

import pytest
import torch

from maskrobust.augment import Batch, SilhouetteBank, sample_keys
from maskrobust.lm_modules.training.training_masks import (
    SilhouetteSource,
    build_masking,
    build_silhouette_bank,
    evaluation_fill,
)

KEYS, CPU = sample_keys(0, torch.arange(6)), torch.device("cpu")
BATCH = Batch(torch.arange(6), torch.ones(6, 3, 8, 12), torch.zeros(6, 1, 8, 12, dtype=torch.bool), torch.arange(6))


class Source:
    """Two batches, with the objects in opposite halves."""

    def annotated_batches(self, split):
        for i in range(2):
            object_mask = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
            object_mask[i, :, :, 6 * i : 6 * i + 6] = True
            yield Batch(torch.arange(2) + 2 * i, torch.zeros(2, 3, 8, 12), object_mask, torch.arange(2))


def masking(mask_family="patches", **changes):
    settings: dict[str, Any] = {
        "fill": "mean",
        "hidden_fraction": (0.25, 0.75),
        "patch_size": 4,
        "probability": 1.0,
        "mean": (0.1, 0.2, 0.3),
        "source": None,
        "device": CPU,
    }
    return build_masking(mask_family, **settings | changes)


def test_a_family_without_weight_is_not_built():
    unused = masking({"patches": 2.0, "silhouettes": 0.0})
    assert torch.equal(unused.draw_visible(KEYS, BATCH), masking().draw_visible(KEYS, BATCH))


def test_several_families_are_mixed():
    mixed = masking({"patches": 1.0, "silhouettes": 1.0}, source=Source())
    visible = mixed.draw_visible(sample_keys(0, torch.arange(200)), BATCH.select(torch.arange(200) % 6))
    halves = (visible[:, 0, 0, [0, 11]].sum(dim=1) == 1) & ((~visible).sum(dim=(1, 2, 3)) == 48)
    assert 60 < halves.sum() < 160


def test_the_heaviest_fill_that_evaluation_knows_is_validated_with():
    assert evaluation_fill({"black": 1.0, "blur": 2.0, "other_image": 9.0}) == "blur"
    assert evaluation_fill({"random_colour": 1.0, "black": {}}) == "black"
    assert evaluation_fill("other_image") == "mean"


def test_silhouettes_are_those_of_the_training_objects():
    bank = build_silhouette_bank("silhouettes", Source(), CPU)
    expected = SilhouetteBank.from_batches(Source().annotated_batches("train"))
    assert bank is not None and torch.equal(bank.object_masks, expected.object_masks)
    assert torch.equal(bank.objects, bank.ids)
    assert build_silhouette_bank({"patches": 1.0, "silhouettes": 0.0}, Source(), CPU) is None


def test_the_bank_goes_to_the_device_of_the_keys():
    bank = build_silhouette_bank("silhouettes", Source(), torch.device("meta"))
    assert bank is not None and bank.object_masks.is_meta


@pytest.mark.parametrize("source", [None, 3, object()])
def test_a_source_without_silhouettes_is_refused_in_one_sentence(source):
    assert isinstance(Source(), SilhouetteSource) and not isinstance(source, SilhouetteSource)
    assert build_silhouette_bank("patches", source, CPU) is None
    with pytest.raises(ValueError, match=type(source).__name__) as refusal:
        build_silhouette_bank("silhouettes", source, CPU)
    message = str(refusal.value)
    assert message.endswith(".") and ". " not in message and "\n" not in message


def test_classes_with_nothing_else_to_draw_are_refused_before_training():
    class Alone(Source):
        def annotated_batches(self, split):
            yield next(super().annotated_batches(split))

    class OneObject(Source):
        def object_of(self, ids):
            return ids % 4

    for source in (Alone(), OneObject()):
        with pytest.raises(ValueError, match="two training objects of each class, got one of class 0;"):
            build_silhouette_bank("own_class_silhouettes", source, CPU)

    class OneClass(Source):
        def annotated_batches(self, split):
            return (
                batch._replace(labels=torch.full_like(batch.labels, 3)) for batch in super().annotated_batches(split)
            )

    with pytest.raises(ValueError, match="of two classes, got those of class 3 alone;"):
        build_silhouette_bank("other_class_silhouettes", OneClass(), CPU)
    assert build_silhouette_bank("own_class_silhouettes", OneClass(), CPU) is not None
