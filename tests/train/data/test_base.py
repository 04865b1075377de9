"""What every data module does, one of one's own too: the contract, order, splits, workers, DDP, scenes."""

import pickle
import threading

import pytest
import torch

from maskrobust.augment import Batch
from maskrobust.train.data import Cues, loading
from maskrobust.train.data.batches import numbered_batches
from maskrobust.train.data.loading import EpochSampler
from tests.train.data.layouts import joined

SIZES = {"train_images": 30, "val_images": 7, "test_images": 12}
SPLITS = ("train", "val", "test")


@pytest.fixture
def make_data():
    """A function that makes a data module with small splits, of samples in memory."""
    return lambda **arguments: Cues(**{**SIZES, "batch_size": 8, **arguments})


def loader(data, split):
    return getattr(data, f"{split}_dataloader")()


def ids_made(data):
    """A list that gets the ids of the samples of a data module when they are made."""
    made, make_samples = [], data.make_samples
    data.make_samples = lambda split, ids: made.extend(ids.tolist()) or make_samples(split, ids)
    return made


def test_batches_have_the_shapes_types_and_ranges_of_the_contract(make_data):
    data = make_data()
    for split in SPLITS:
        batch = next(iter(loader(data, split)))
        count = min(8, SIZES[f"{split}_images"])
        assert isinstance(batch, Batch)
        assert (batch.ids.shape, batch.ids.dtype) == ((count,), torch.int64)
        assert (batch.images.shape, batch.images.dtype) == ((count, 3, 48, 48), torch.uint8)
        assert (batch.object_mask.shape, batch.object_mask.dtype) == ((count, 1, 48, 48), torch.bool)
        assert (batch.labels.shape, batch.labels.dtype) == ((count,), torch.int64)
        assert batch.images.max() > 127
        assert batch.object_mask.flatten(1).any(dim=1).all()
        assert batch.labels.min() >= 0 and batch.labels.max() < data.num_classes


def test_every_sample_comes_once_and_ids_are_disjoint_over_splits(make_data):
    data = make_data()
    ids = [joined(loader(data, split)).ids.tolist() for split in SPLITS]
    assert [len(each) for each in ids] == [30, 7, 12]
    assert len({one for each in ids for one in each}) == 49


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(make_data):
    for split in SPLITS:
        first, second, other = (make_data(seed=seed).samples(split) for seed in (3, 3, 4))
        assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
        assert not torch.equal(first.images, other.images)


def test_samples_are_made_when_they_are_asked_for_and_only_once(make_data):
    data = make_data()
    made = ids_made(data)
    loaders = [data.test_dataloader() for _ in range(2)]
    assert made == []
    for each in loaders:
        list(each)
    assert made == data.samples("test").ids.tolist() == data.ids("test").tolist()


def test_a_sample_is_the_same_whichever_are_made_with_it(make_data):
    whole = make_data().samples("train")
    rows = torch.tensor([7, 2, 29])
    for kept, one in zip(whole.select(rows), make_data().make_samples("train", whole.ids[rows]), strict=True):
        assert (kept is None and one is None) or torch.equal(kept, one)


def test_a_loader_process_that_is_no_fork_gets_neither_trainer_nor_samples(make_data):
    data = make_data()
    data.trainer, loaded = threading.Lock(), next(iter(data.val_dataloader()))  # a lock cannot be pickled
    again = pickle.loads(pickle.dumps(data.val_dataloader().dataset)).__getitems__(range(7))
    assert torch.equal(again.images, loaded.images)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_comes_in_order_of_ids_every_time(make_data, split):
    data = make_data()
    first, second = (joined(loader(data, split)).ids for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, first.sort().values)


def test_training_order_differs_between_epochs_and_repeats_with_the_seed(make_data):
    def epochs(seed):
        batches = make_data(seed=seed).train_dataloader()
        return [joined(batches).ids.tolist() for _ in range(2)]

    first, second = epochs(0)
    assert first != second and first != sorted(first)
    assert epochs(0) == [first, second]


def ids_of_rank(data, rank, epoch, monkeypatch):
    """What one of two processes gets of an epoch."""
    monkeypatch.setattr(loading, "rank_and_number", lambda: (rank, 2))
    share = data.train_dataloader()
    share.sampler.set_epoch(epoch)
    return joined(share).ids.tolist()


@pytest.mark.parametrize("order_seed", [0, 3])
def test_two_processes_share_the_order_of_one(make_data, order_seed, monkeypatch):
    data = make_data()
    data.order_seed = order_seed
    whole = data.train_dataloader()
    for epoch in range(2):
        one = joined(whole).ids.tolist()
        shares = [ids_of_rank(data, rank, epoch, monkeypatch) for rank in range(2)]
        assert shares == [one[::2], one[1::2]]


@pytest.mark.parametrize(("samples", "processes"), [(7, 2), (2, 5)])
def test_processes_get_equally_many_samples_and_leave_none_out(samples, processes, monkeypatch):
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(loading, "rank_and_number", lambda rank=rank: (rank, processes))
        shares.append(list(EpochSampler(samples, 0, 1)))
    assert {len(share) for share in shares} == {-(-samples // processes)}
    assert {index for share in shares for index in share} == set(range(samples))


@pytest.mark.parametrize(("argument", "minimum"), [("train_images", 1), ("batch_size", 1), ("num_workers", 0)])
def test_a_number_below_its_minimum_is_refused(make_data, argument, minimum):
    with pytest.raises(
        ValueError, match=rf"^{argument} must (be at least {minimum}|lie in \[{minimum}, \d+\]), got {minimum - 1};"
    ):
        make_data(**{argument: minimum - 1})


def test_empty_scenes_are_backgrounds_of_the_same_kind_and_not_those_of_the_samples(make_data):
    data = make_data()
    scenes, samples = data.empty_scenes("test", 12).images, data.samples("test")
    assert (scenes.shape, scenes.dtype) == ((12, 3, 48, 48), torch.float32)
    assert scenes.min() >= 0 and scenes.max() <= 1
    assert torch.equal(scenes[:5], data.empty_scenes("test", 5).images)
    images, outside = samples.images.float().div(255), ~samples.object_mask.expand(-1, 3, -1, -1)
    assert (scenes.mean() - images[outside].mean()).abs() < 0.1
    assert (scenes.flatten(1).std(dim=1).mean() - images[outside].std()).abs() < 0.1
    for scene, image, seen in zip(scenes, images, outside, strict=True):
        assert not torch.equal(scene[seen], image[seen])


def test_some_batches_are_what_they_are_among_all(make_data):
    """Of shards this is tested in sets/test_shards.py."""
    every: list[Batch] = [*make_data().whole_split("train")]
    found = dict(numbered_batches(make_data().whole_split("train"), range(1, 100, 2)))
    assert [*found] == [1, 3]
    assert all(torch.equal(a, b) for n, batch in found.items() for a, b in zip(batch[:4], every[n][:4], strict=True))
