"""The silhouette bank as a file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from maskrobust.augment import SilhouetteBank

Fields = dict[str, Tensor]


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


FAULTS: list[tuple[Callable[[Fields], Fields], str]] = [
    (lambda _: {}, "got nothing"),
    (lambda fields: {"labels": fields["labels"]}, "got labels"),
    (lambda fields: fields | {"more": torch.zeros(1)}, "more"),
    (lambda fields: fields | {"object_masks": fields["object_masks"].byte()}, "torch.uint8"),
    (lambda fields: fields | {"labels": fields["labels"].int()}, "torch.int32"),
    (lambda fields: fields | {"ids": fields["ids"].float()}, "torch.float32"),
    (lambda fields: fields | {"object_masks": fields["object_masks"][:, 0]}, "(6, 7, 9)"),
    (lambda fields: fields | {"labels": fields["labels"][:5]}, "labels (5,)"),
    (lambda fields: fields | {"ids": fields["ids"][:, None]}, "ids (6, 1)"),
    (lambda fields: fields | {"objects": fields["objects"][:5]}, "objects (5,)"),
    (lambda fields: {name: tensor[:0] for name, tensor in fields.items()}, "labels (0,)"),
    (lambda fields: fields | {"ids": fields["ids"].flip(0)}, "ascend"),
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
