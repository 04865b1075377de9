"""Both controls of the used share on generated images, with networks that were really trained.

The holes' outlines tell the class. A network that sees nothing but outlines must score 1; one that was trained where
outlines were useless has never learned to read them and must score 0.
"""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from augment import Batch, SilhouetteBank
from lm_modules import LayerMasking, Predictor, SmallResNet, normalise, predictor
from lm_modules.reliance import Finding, ProbeOutcomes, RelianceSuite, estimate, probe_outcomes, train_probe, used_share
from lm_modules.reliance.probe import OutlineProbe
from train.data import Cues

CLASSES = 4
SIZES = {"train_images": 1600, "val_images": 200, "test_images": 400, "num_classes": CLASSES}


@pytest.fixture(scope="module")
def data() -> Cues:
    return Cues(**SIZES, outline_informativeness=1.0)


@pytest.fixture(scope="module")
def probe(data: Cues) -> OutlineProbe:
    train, val = (SilhouetteBank.from_batches(batches) for batches in (data.training_batches(), data.val_dataloader()))
    return train_probe(train.object_masks, train.labels, val.object_masks, val.labels, CLASSES, seed=0)


@pytest.fixture(scope="module")
def probe_on_test(data: Cues, probe: OutlineProbe) -> ProbeOutcomes:
    return probe_outcomes(probe, data.test_dataloader())


def measured_share(predict: Predictor, data: Cues, probe_on_test: ProbeOutcomes) -> Finding:
    suite = RelianceSuite(SilhouetteBank.from_batches(data.val_dataloader()), CLASSES)
    for batch in data.test_dataloader():
        suite.update({"network": predict}, batch)
    return estimate(used_share(probe_on_test), [suite.outcomes()["network"]])


def largest_part(hidden: Tensor) -> Tensor:
    """The object's part of a hole: its largest connected component, (B, 1, H, W) bool."""
    parts = []
    for image in hidden[:, 0].numpy():
        labelled, _ = ndimage.label(image)
        parts.append(labelled == np.bincount(labelled.ravel())[1:].argmax() + 1 if image.any() else image)
    return torch.from_numpy(np.stack(parts)).unsqueeze(1)


def test_a_network_that_sees_only_the_outline_scores_one(
    data: Cues, probe: OutlineProbe, probe_on_test: ProbeOutcomes
) -> None:
    def read_outline(_images: Tensor, visible: Tensor, _keys: Tensor) -> Tensor:
        logits: Tensor = probe.network(largest_part(~visible).float())
        return logits

    share = measured_share(read_outline, data, probe_on_test).estimate
    assert share is not None
    assert share.low <= 1.0 <= share.high
    assert share.low > 0.8


def train_classifier(
    batches_of_epochs: list[list[Batch]], mean: tuple[float, ...], std: tuple[float, ...]
) -> LayerMasking:
    torch.manual_seed(0)
    network = LayerMasking(SmallResNet(CLASSES))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for batches in batches_of_epochs:
        for batch in batches:
            loss = torch.nn.functional.cross_entropy(network(normalise(batch.images, mean, std)), batch.labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()


@pytest.mark.parametrize("method", ["black", "mean", "layer_masking"])
def test_a_network_trained_where_outlines_were_useless_scores_zero(
    method: str, data: Cues, probe_on_test: ProbeOutcomes, trained_without_outlines: LayerMasking
) -> None:
    predict = predictor(trained_without_outlines, method, data.mean, data.std)
    share = measured_share(predict, data, probe_on_test).estimate
    assert share is not None
    assert share.low <= 0.0 <= share.high
    assert share.high < 0.2


@pytest.fixture(scope="module")
def trained_without_outlines() -> LayerMasking:
    """A classifier of textures inside outlines drawn at random: right on most clean images."""
    useless = Cues(**SIZES, outline_informativeness=0.0)
    loader = useless.train_dataloader()
    network = train_classifier([list(loader) for _ in range(4)], useless.mean, useless.std)
    with torch.no_grad():
        right = [
            (network(normalise(batch.images, useless.mean, useless.std)).argmax(1) == batch.labels).float().mean()
            for batch in useless.test_dataloader()
        ]
    assert torch.stack(right).mean() > 0.7
    return network
