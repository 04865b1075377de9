"""How often pulls of own holes and the reader of holes raise a false alarm, by simulation.

python docs/studies/own_hole_words.py --trials 400

Holes are drawn without regard to the class, a third of the images have none. A network's logits are the sum of the
picture's own class (2), what the picture does besides (1), what each hole does, whatever its class (`holes`), and noise
(.5). They go through the donors, the measure, the intervals and the words of `evaluate`: a word but *hardly*, *nothing
to follow* and *not shown* is wrong. So is a reader that finds that holes tell the class, or whose interval leaves 50 %
out.
"""

import argparse

import numpy as np
import torch

from maskrobust.augment import HoleBank, sample_keys
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.hole_reader import read_holes
from maskrobust.lm_modules.reliance.holes.own import draw_donors, pair_condition
from maskrobust.lm_modules.reliance.measures.own_holes import own_hole_pull
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.report.own_holes_said import state_of

CLASSES, SIZE, PAIRS = 4, 32, 2
WRONG = ("follows", "some", "misled")


def draw_bank(images: int, rng: np.random.Generator) -> HoleBank:
    """Rectangles of any place and size, which go with no class."""
    visible = torch.ones(images, 1, SIZE, SIZE, dtype=torch.bool)
    for row in np.flatnonzero(rng.random(images) < 2 / 3):
        (top, left), (height, width) = rng.integers(0, 20, 2), rng.integers(4, 12, 2)
        visible[row, :, top : top + height, left : left + width] = False
    ids = torch.arange(images)
    return HoleBank(visible, torch.from_numpy(rng.integers(0, CLASSES, images)), ids, ids)


def answers(bank: HoleBank, holes: float, rng: np.random.Generator, seed: int) -> Outcomes:
    """What a network that follows holes so far, and not their classes, answers."""
    rows, labels = np.arange(len(bank)), bank.labels.numpy()
    of_hole = holes * rng.normal(size=(len(bank), CLASSES))
    picture = 2.0 * np.eye(CLASSES)[labels] + rng.normal(size=(len(bank), CLASSES))
    predictions, lent = {"clean": labels}, {}
    for number, donors in enumerate(draw_donors(sample_keys(seed, bank.ids), bank.objects, bank, PAIRS)):
        who, differ = donors.who.numpy(), donors.differ.numpy()
        lent[str(number)] = np.where(donors.valid.numpy()[:, None, None], who, -1)
        for side, donor in enumerate("jk"):
            logits = picture + of_hole[who[:, side, 0]] + 0.5 * rng.normal(size=picture.shape)
            predictions[pair_condition(number, donor)] = np.where(differ, logits.argmax(axis=1), -1)
    none, nothing = np.full(len(bank), -1), np.zeros(len(bank), dtype=np.bool_)
    return Outcomes(
        num_classes=CLASSES, ids=rows, objects=rows, labels=labels, predictions=predictions,
        object_fraction=np.zeros(len(bank)), swap_label_j=none, swap_label_k=none, swap_object_j=none,
        swap_object_k=none, object_valid=nothing, swap_valid=nothing, donors=lent,
    )  # fmt: skip


def alarms(images: int, holes: float, trial: int) -> tuple[bool, bool, bool, bool]:
    """Whether the pull leaves 0 out of its interval, its word is wrong, holes "tell", the reader leaves 1/2 out."""
    rng = np.random.default_rng(trial)
    bank = draw_bank(images, rng)
    pull = estimate(own_hole_pull(), [answers(bank, holes, rng, trial)])
    found = read_holes(bank, seed=trial)
    order = found.readings["everything"].order
    (_, low, high), (_, least, most) = (each.interval or (0.5, 0.0, 0.0) for each in (pull, order))
    wrong = state_of(low, high, tell=found.tell) in WRONG
    return not low <= 0.0 <= high, wrong, found.tell, not least <= 0.5 <= most


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=400)
    trials = parser.parse_args().trials
    for images in (60, 200):
        for holes in (0.0, 1.0, 3.0):
            rates = 100 * np.mean([alarms(images, holes, trial) for trial in range(trials)], axis=0)
            said = "pull {:.1f}  word {:.1f}  tell {:.1f}  reader's interval {:.1f}".format(*rates)
            print(f"{images} images, holes {holes:g}: wrong in % of {trials}: {said}", flush=True)
