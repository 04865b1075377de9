"""The pull of own holes against its formula, and on networks of which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskrobust.augment import HoleBank, fold_in, sample_keys
from maskrobust.lm_modules.reliance.estimates.estimation import estimate, estimate_difference
from maskrobust.lm_modules.reliance.hole_reader import read_holes
from maskrobust.lm_modules.reliance.holes.own import draw_donors
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.own_holes import (
    NO_PAIR,
    holes_pull,
    holes_tell,
    own_hole_pull,
)
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.holes.test_own import BANK, BATCH, PLAN, batch_with_holes, object_of
from tests.lm_modules.reliance.shapes import NUM_CLASSES, as_logits, read_outline
from tests.lm_modules.reliance.tables import make_outcomes


def logits_of(images, visible, keys):
    """Any logits, which depend on the hole and on the picture."""
    sums = torch.stack([(images * visible).sum(dim=(1, 2, 3)), visible.float().mean(dim=(1, 2, 3)) * 100], dim=1)
    return torch.sin(sums[:, :1] * torch.tensor([[1.0, 2.0, 3.0, 5.0]]) + sums[:, 1:])


def asked(predict, batch=BATCH, bank=BANK, own=object_of):
    measurement = Measurement({"a": Asked(predict, PLAN)}, None, NUM_CLASSES, seed=3, object_of=own, own=bank)
    return measurement.run([batch])["a"]


def slow(outcomes, batch, bank):
    """The pull of every pair, image by image."""
    position = {int(each): place for place, each in enumerate(bank.ids)}
    found = []
    for number, who in outcomes.donors.items():
        for image, pair in enumerate(who):
            (j, _, a), (k, _, b) = pair.tolist()
            holes = [bank.visible[position[each]] for each in (j, k)]
            behind = [outcomes.predictions_under(f"own_hole/{number}/{donor}")[image] for donor in "jk"]
            f_j, f_k = behind
            pull = ((f_j == a) - float(f_k == a) + (f_k == b) - float(f_j == b)) / 2
            found.append(0.0 if torch.equal(*holes) else pull)
    return np.array(found)


def test_the_pull_is_that_of_the_formula():
    outcomes = asked(logits_of)
    pulls = slow(outcomes, BATCH, BANK)
    assert len({*pulls}) > 2
    assert np.array_equal(own_hole_pull().columns(outcomes).values, pulls[np.newaxis])
    found = estimate(own_hole_pull(), [outcomes])
    assert found.value == pytest.approx(pulls.mean()) and found.images == len(outcomes) and found.left_out == 0
    assert found.low < found.value < found.high


def test_exchanging_the_donors_of_all_pairs_changes_nothing():
    outcomes = asked(logits_of)

    def turned(name):
        return name[:-1] + {"j": "k", "k": "j"}[name[-1]] if name.startswith("own_hole/") else name

    other = replace(
        outcomes,
        predictions={turned(name): each for name, each in outcomes.predictions.items()},
        donors={number: who[:, ::-1] for number, who in outcomes.donors.items()},
    )
    assert np.array_equal(own_hole_pull().columns(outcomes).values, own_hole_pull().columns(other).values)


def test_a_network_that_names_the_shape_of_a_hole_is_pulled_and_one_that_sees_none_is_not():
    batch = batch_with_holes(160)
    bank = HoleBank.from_batches([batch])

    def follows(images, visible, keys):
        return as_logits(read_outline(~visible))

    def sees_none(images, visible, keys):
        return torch.stack([torch.cos(images.sum(dim=(1, 2, 3)) * scale) for scale in (1.0, 2.0, 3.0, 5.0)], dim=1)

    reader, blind = (asked(each, batch, bank, own=lambda ids: ids) for each in (follows, sees_none))
    pull = estimate(own_hole_pull(), [reader])
    assert pull.value > 0.6 and pull.low > 0.5  # three of four images have a hole
    nothing = estimate(own_hole_pull(), [blind])
    assert nothing.value == 0.0 and nothing.low < 0.0 < nothing.high
    difference = estimate_difference(own_hole_pull(), [reader], [blind])
    assert difference.value == pytest.approx(pull.value) and difference.low > 0.4
    told = read_holes(bank)
    assert told.tell and "shape" in told.telling
    assert holes_tell(told, "everything")([reader]).value > 0.8 and holes_pull(told)([reader]).low > 0.2


def test_without_a_second_class_the_pull_is_undefined_with_a_sentence():
    batch = BATCH._replace(labels=torch.zeros_like(BATCH.labels))
    bank = HoleBank.from_batches([batch], object_of)
    found = estimate(own_hole_pull(), [asked(logits_of, batch, bank)])
    assert found.value is None and found.undefined_because == NO_PAIR


def test_false_alarms_of_the_pull_are_rare_and_those_of_independent_pairs_are_not():
    """Holes that tell nothing, and a network that names a class by the hole alone: classes are drawn anew each time."""
    bank = HoleBank.from_batches([batch_with_holes(60, seed=1)])
    answer = torch.from_numpy(np.random.default_rng(0).integers(0, NUM_CLASSES, 60))
    alarms, naive = 0, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = torch.from_numpy(rng.integers(0, NUM_CLASSES, 60))
        drawn = replace(bank, labels=labels)
        batch = batch_with_holes(60, seed=1)._replace(labels=labels)
        outcomes = outcomes_of_holes(batch, drawn, answer)
        found = estimate(own_hole_pull(), [outcomes])
        values = own_hole_pull().columns(outcomes).values[0]
        alarms += not found.low <= 0.0 <= found.high
        naive += abs(values.mean()) > 1.96 * values.std() / np.sqrt(len(values))
    assert alarms <= 11  # 5 of 100 are expected; more than 11 in 0.4 % of cases
    assert naive >= 15


def outcomes_of_holes(batch, bank, answer):
    """Outcomes of a network whose answer is that of the image whose hole is shown."""
    plain = make_outcomes(len(batch.ids), 0, plan=ReliancePlan(shapes=False, hidden_fractions=()))
    pairs = [*draw_donors(fold_in(sample_keys(3, batch.ids), 8), batch.ids, bank, 2)]
    predictions = {"clean": plain.predictions["clean"]}
    for number, pair in enumerate(pairs):
        for place, donor in enumerate("jk"):
            name, of = f"own_hole/{number}/{donor}", torch.searchsorted(bank.ids, pair.who[:, place, 0].contiguous())
            predictions[name] = answer[of].numpy()
    ids = batch.ids.numpy()
    donors = {str(number): pair.who.numpy() for number, pair in enumerate(pairs)}
    return replace(plain, ids=ids, objects=ids, labels=batch.labels.numpy(), predictions=predictions, donors=donors)
