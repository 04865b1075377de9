"""Two processes: statistics of visible positions, training steps and compiled steps are those of one process.

DistributedDataParallel refuses synchronised batch norm on a CPU; averaging the gradients is what else it does.
"""

from contextlib import ExitStack
from functools import partial

import pytest
import torch
import torch.distributed as dist
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import nn
from torch._dynamo.utils import counters
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torchmetrics.functional.classification import multiclass_jaccard_index

from maskrobust.augment import Batch
from maskrobust.lm_modules.masking import Masked, VisibleMap
from maskrobust.lm_modules.masking.dispatch import ask_for_rules
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.optimisation import axes_of_parameters, build_optimiser
from maskrobust.lm_modules.training.processes import BalancedAccuracy, MeanIoU, counts_of_pixels
from tests.lm_modules.masking.cases import draw_features
from tests.lm_modules.masking.test_padding import CHANNELS, draw_module
from tests.lm_modules.training.test_compilation import build, small_network
from tests.processes import started
from tests.trainers import quiet_trainer

SPLITS = {  # visible positions of four samples, the first two on rank 0
    "many and few": [20, 7, 1, 2],
    "one rank sees nothing": [5, 9, 0, 0],
    "no rank sees anything": [0, 0, 0, 0],
    "one rank sees one value": [0, 1, 0, 0],
    "each rank sees one value": [1, 0, 0, 1],
}
SETTINGS = [(counts, momentum) for counts in SPLITS.values() for momentum in (0.1, None)]
OBJECTIVES: tuple[str, ...] = ("cross_entropy", "consistency")


def four_samples(counts, momentum):
    visible = (torch.arange(20) < torch.tensor(counts)[:, None]).reshape(4, 1, 4, 5)
    features, slope = (2 + draw_features(4, CHANNELS, 4, 5, seed=seed) for seed in (0, 1))
    return draw_module(nn.SyncBatchNorm, momentum=momentum).double(), features, visible, slope


def outcome(module, features, visible, slope):
    leaf = features.clone().requires_grad_()
    ask_for_rules([module])  # as wrapping it does
    output = module(Masked(leaf, VisibleMap(visible, MaskingOptions()))).as_plain()
    gradient, weight, bias = torch.autograd.grad((output * slope).sum(), [leaf, module.weight, module.bias])
    buffers = dict(module.named_buffers())
    return {"output": output.detach(), "gradient": gradient, "weight": weight, "bias": bias, **buffers}


def prepared(objective):
    torch.manual_seed(0)
    options = {"architecture_options": {"width": 16}, "masking": "layer_masking", "objective": objective}
    classifier = MaskRobustClassifier("small_resnet", 4, **options, mask_probability=0.7, patch_size=8).double()
    nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
    classifier.log = lambda *_args, **_options: None
    classifier.trainer = quiet_trainer()
    classifier.setup("fit")
    return classifier


def whole_batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(8, 3, 32, 32, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (8,), generator=generator)
    return Batch(torch.arange(8), images, torch.zeros(8, 1, 32, 32, dtype=torch.bool), labels)


def after_step(objective, batch):
    """Gradients and running statistics that a training step leaves."""
    classifier = prepared(objective)
    classifier.training_step(batch, 0).backward()
    gradients = {name: each.grad for name, each in classifier.named_parameters() if each.grad is not None}
    return gradients | dict(classifier.named_buffers())


def after_decayed_step(batch, wrap=lambda module: module):
    """Parameters after an optimiser step with much weight decay; `wrap` shards them first."""
    torch.manual_seed(0)
    options = {"architecture_options": {"width": 16}, "masking": "layer_masking"}
    classifier = MaskRobustClassifier("small_resnet", 4, **options).double().eval()  # batch norms as they are
    axes = axes_of_parameters(classifier)
    module = wrap(classifier)
    optimiser = build_optimiser(classifier, axes, "sgd", 0.1, weight_decay=0.5, momentum=0.0)
    logits = module(batch.images, batch.images[:, :1] < 0.5)
    nn.functional.cross_entropy(logits, batch.labels).backward()
    optimiser.step()
    return classifier, module


def sharded_step(batch):
    """What a step of FSDP leaves, in which each process holds half of each parameter, flat."""
    policy = ModuleWrapPolicy({nn.Sequential})
    wrap = partial(
        FullyShardedDataParallel, auto_wrap_policy=policy, use_orig_params=True, device_id=torch.device("cpu")
    )
    classifier, module = after_decayed_step(batch, wrap)
    assert any(each.ndim == 1 and "conv" in name for name, each in classifier.named_parameters())
    with FullyShardedDataParallel.summon_full_params(module):
        return {name.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for name, p in module.named_parameters()}


def step_of(rank, *, compiles):
    """Logits, gradients and statistics of a step; rank 1 sees more of its images."""
    classifier = build(nn.SyncBatchNorm.convert_sync_batchnorm(small_network())).double()
    if compiles:
        classifier.compile_training()
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    visible = images[:, :1] < (0.02, 0.9)[rank]
    logits = classifier(images, visible)
    logits.square().sum().backward()
    found = {"logits": logits.detach(), **dict(classifier.named_buffers())}
    found |= {f"{name} (gradient)": each.grad for name, each in classifier.named_parameters()}
    return found


DRAWN = torch.randint(3, (2, 9), generator=torch.Generator().manual_seed(0))
SAMPLES = torch.cat([torch.arange(9)[None], DRAWN]).T
"""Ids, labels and answers, without the last of four classes."""


def balanced(*batches):
    """Balanced accuracy of samples, and the counts behind it."""
    metric = BalancedAccuracy(4)
    for ids, *values in (batch.unbind(dim=1) for batch in batches):
        metric.update(ids, torch.stack(values, dim=1))
    return metric.compute(), metric.confusion


MAPS = torch.randint(3, (2, 9, 5, 4), generator=torch.Generator().manual_seed(1))
"""Labels and predictions of the pixels of nine samples."""


def iou_of(*places):
    """The mean IoU of samples by their places, which come in batches."""
    metric = MeanIoU()
    for each in places:
        metric.update(torch.tensor(each), counts_of_pixels(*MAPS[:, each], 4))
    return metric.compute()


def run_rank(rank, folder):
    """What one of the processes does."""
    torch.set_num_threads(1)
    torch.compile = partial(torch.compile, backend="aot_eager")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for place, (module, *tensors) in enumerate(four_samples(*each) for each in SETTINGS):
        found[place] = outcome(module, *(tensor[2 * rank : 2 * rank + 2] for tensor in tensors))
    own = Batch(*(tensor.chunk(2)[rank] for tensor in whole_batch() if tensor is not None))
    found |= {objective: after_step(objective, own) for objective in OBJECTIVES}
    found["sharded"] = sharded_step(own)
    found["balanced"] = balanced(SAMPLES[rank::2], SAMPLES[:1])  # a sampler repeats some
    found["iou"] = iou_of([*range(9)][rank::2], [0])
    found |= {compiles: step_of(rank, compiles=compiles) for compiles in ("", "compiled")}
    torch.save(found | {"graphs": counters["stats"]["unique_graphs"]}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("said") / "errors"
    with ExitStack() as stack:
        processes = [stack.enter_context(started(run_rank, rank, folder, errors=said)) for rank in range(2)]
        assert [process.wait() for process in processes] == [0, 0], said.read_text()
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("place", range(len(SETTINGS)))
def test_a_batch_norm_over_visible_positions_counts_those_of_both(place, ranks):
    expected, (first, second) = outcome(*four_samples(*SETTINGS[place])), (rank[place] for rank in ranks)
    found = {name: torch.cat([first[name], second[name]]) for name in ("output", "gradient")}
    found |= {name: first[name] + second[name] for name in ("weight", "bias")}
    found |= {name: first[name] for name in ("running_mean", "running_var", "num_batches_tracked")}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)
    assert all(torch.equal(first[name], second[name]) for name in found if name.startswith(("running", "num")))
    module, _, visible, _ = four_samples(*SETTINGS[place])
    assert torch.equal(first["running_var"], module.running_var) == (visible.sum() < 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_step_with_half_of_the_batch_each_equals_one_with_all_of_it(objective, ranks):
    expected, (first, second) = after_step(objective, whole_batch()), (rank[objective] for rank in ranks)
    assert expected.keys() == first.keys() == second.keys()
    for name, tensor in expected.items():
        found = first[name] if "running" in name or "num_batches" in name else (first[name] + second[name]) / 2
        torch.testing.assert_close(found, tensor, rtol=1e-8, atol=1e-9)
    assert not any(torch.equal(first[name], buffer) for name, buffer in prepared(objective).named_buffers())


def test_sharded_parameters_decay_as_whole_ones(ranks):
    classifier, _ = after_decayed_step(whole_batch())
    expected = dict(classifier.named_parameters())
    for rank in ranks:
        torch.testing.assert_close(rank["sharded"], expected, rtol=1e-9, atol=1e-12)


def test_balanced_accuracy_counts_each_sample_of_both_once(ranks):
    _, labels, answers = SAMPLES.unbind(dim=1)
    expected = balanced_accuracy_score(labels, answers)
    for accuracy, confusion in (balanced(SAMPLES), *(rank["balanced"] for rank in ranks)):
        assert accuracy == pytest.approx(expected)
        assert confusion.tolist() == confusion_matrix(labels, answers, labels=range(4)).tolist()


def test_iou_counts_each_sample_of_both_once(ranks):
    predicted, labels = MAPS
    expected = multiclass_jaccard_index(predicted, labels, 3)
    for found in (iou_of(range(9)), *(rank["iou"] for rank in ranks)):
        torch.testing.assert_close(found, expected)


def test_a_step_is_compiled_to_one_graph(ranks):
    """The synchronised statistics of visible positions are in the graph, collective operations included."""
    for rank in ranks:
        assert rank["graphs"] == 1
        torch.testing.assert_close(rank["compiled"], rank[""], rtol=1e-9, atol=1e-11)
    first, second = (rank["compiled"] for rank in ranks)
    (name,) = (each for each in first if each.endswith("running_mean"))
    torch.testing.assert_close(first[name], second[name])
