"""The bank of silhouettes, the holes drawn from it, and its file."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from scipy import stats

from maskrobust.augment import (
    Batch,
    SilhouetteBank,
    sample_keys,
    silhouettes,
)

HEIGHT, WIDTH = 6, 9


def object_masks(ids):
    """A different non-empty mask for each id: its binary digits, and one pixel in the corner."""
    digits = (ids[:, None] >> torch.arange(HEIGHT * WIDTH)) & 1
    digits[:, -1] = 1
    return digits.bool().reshape(-1, 1, HEIGHT, WIDTH)


def batch_of(ids, empty=frozenset()):
    """Samples whose label is id modulo 4; those in `empty` have no object."""
    numbers = torch.tensor(ids, dtype=torch.int64)
    masks = object_masks(numbers)
    for position, number in enumerate(ids):
        masks[position] &= number not in empty
    return Batch(numbers, torch.zeros(len(ids), 3, HEIGHT, WIDTH), masks, numbers % 4)


def test_the_bank_keeps_mask_label_and_id_together_and_sorted_by_id():
    bank = SilhouetteBank.from_batches([batch_of([30, 5, 21]), batch_of([4, 90]), batch_of([])])
    assert bank.ids.tolist() == [4, 5, 21, 30, 90]
    assert torch.equal(bank.object_masks, object_masks(bank.ids))
    assert torch.equal(bank.labels, bank.ids % 4)
    assert len(bank) == 5


def class_bank(size=40):
    return SilhouetteBank.from_batches([batch_of(list(range(1, size + 1)))])


def positions(hidden, bank):
    """Position in the bank of each drawn silhouette; exactly one has to match pixel for pixel."""
    matches = (hidden[:, None] == bank.object_masks[None]).flatten(2).all(dim=2)
    assert (matches.sum(dim=1) == 1).all()
    return matches.int().argmax(dim=1)


@pytest.mark.parametrize("size", [1, 2, 37])
def test_every_silhouette_of_the_bank_is_drawn_unchanged_and_equally_often(size):
    bank = SilhouetteBank.from_batches([batch_of(list(range(size)))])
    drawn = positions(~silhouettes(sample_keys(0, torch.arange(3000)), HEIGHT, WIDTH, bank=bank), bank)
    counts = torch.bincount(drawn, minlength=size)
    assert len(counts) == size
    assert size == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_class_of_the_outline_is_independent_of_the_class_of_the_image():
    bank, ids = class_bank(), torch.arange(4000)
    outline_class = bank.labels[positions(~silhouettes(sample_keys(0, ids), HEIGHT, WIDTH, bank=bank), bank)]
    table = torch.bincount((ids % 4) * 4 + outline_class, minlength=16).reshape(4, 4)
    assert stats.chi2_contingency(table.numpy()).pvalue > 1e-3


def bank_of(count):
    masks = torch.rand(count, 1, 7, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    return SilhouetteBank(masks, torch.arange(count) % 3, torch.arange(count) * 5 - 7, torch.arange(count) // 2)


def fields_of(bank):
    return {"object_masks": bank.object_masks, "labels": bank.labels, "ids": bank.ids, "objects": bank.objects}


def test_a_bank_comes_back_as_it_was_saved(tmp_path):
    bank = bank_of(6)
    bank.save(tmp_path / "new folder" / "bank.safetensors")
    again = SilhouetteBank.load(tmp_path / "new folder" / "bank.safetensors")
    for name, tensor in fields_of(bank).items():
        assert torch.equal(getattr(again, name), tensor)


def test_each_mask_is_of_an_object_of_its_own_unless_a_file_says_otherwise(tmp_path):
    fields = fields_of(bank_of(6))
    del fields["objects"]
    safetensors.torch.save_file(fields, tmp_path / "bank.safetensors")
    assert torch.equal(SilhouetteBank.load(tmp_path / "bank.safetensors").objects, fields["ids"])


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "bank.safetensors"
    bank_of(3).save(path)

    def fail_half_way(_tensors, target):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        bank_of(5).save(path)
    assert len(SilhouetteBank.load(path)) == 3 and len(list(tmp_path.iterdir())) == 1


FAULTS = [
    (lambda _: {}, "got nothing"),
    (lambda fields: {"labels": fields["labels"]}, "got labels"),
    (lambda fields: fields | {"more": torch.zeros(1)}, "more"),
    (lambda fields: fields | {"object_masks": fields["object_masks"].byte()}, "torch.uint8"),
    (lambda fields: fields | {"object_masks": fields["object_masks"][:, 0]}, "(6, 7, 9)"),
    (lambda fields: fields | {"labels": fields["labels"][:5]}, "labels (5,)"),
    (lambda fields: {name: tensor[:0] for name, tensor in fields.items()}, "labels (0,)"),
    (lambda fields: fields | {"ids": torch.zeros_like(fields["ids"])}, "ascend"),
    (lambda fields: fields | {"object_masks": torch.zeros_like(fields["object_masks"])}, "empty"),
]


@pytest.mark.parametrize(("spoil", "named"), FAULTS, ids=[named for _, named in FAULTS])
def test_a_file_that_holds_no_bank_is_refused_in_one_sentence(tmp_path, spoil, named):
    path = tmp_path / "bank.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in spoil(fields_of(bank_of(6))).items()}, path)
    with pytest.raises(ValueError, match="no silhouette bank") as refusal:
        SilhouetteBank.load(path)
    message = str(refusal.value)
    assert named in message and "bank.safetensors" in message
    assert message.endswith(".") and "; " in message and ". " not in message and "\n" not in message


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        SilhouetteBank.load(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"not a bank")
    with pytest.raises(ValueError, match=r"damaged\.safetensors' is not a readable safetensors file"):
        SilhouetteBank.load(tmp_path / "damaged.safetensors")
