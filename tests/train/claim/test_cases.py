"""Which masking method an arm is looked at under: chosen on the validation split, from what is known to be true."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.verdict import Selection, choose_cases
from tests.lm_modules.reliance.tables import answering, make_outcomes
from tests.train.tiny import tiny_claim

IMAGES = 200
Truth = Mapping[str, tuple[float, float]]
"""Retention and leak by masking method."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ClaimConfig:
    folder = tmp_path_factory.mktemp("cases")
    return parse_config([f"--config={tiny_claim('claim_cues.yaml', folder / 'claim.yaml')}", f"--out={folder}"])


def outcomes_of(retention: float, leak: float) -> Outcomes:
    """Answers with this very retention and leak."""
    made = make_outcomes(IMAGES, seed=0)
    wrong = (made.labels + 1) % made.num_classes

    def right_in(fraction: float) -> np.ndarray:
        return np.where(np.arange(IMAGES) < round(fraction * IMAGES), made.labels, wrong)

    holes = {"silhouette": right_in(0.5 + leak / 2), "circle": right_in(0.5 - leak / 2)}
    return answering(made, **holes, **{retention_condition(0.5): right_in(retention)})


def cases_of(config: ClaimConfig, arm: str, *truths: Truth, reference: float = 0.7) -> Selection:
    """The cases of one arm, by seed; the layer-masking arm keeps `reference` under its own method."""
    dull = {method: (reference, 0.0) for method in config.evaluation.methods}
    by_arm = dict.fromkeys(config.arms, (dull,) * len(truths)) | {arm: truths}
    runs = {
        name: [{method: outcomes_of(*each) for method, each in of.items()} for of in by_seed]
        for name, by_seed in by_arm.items()
    }
    return choose_cases(config, runs)[arm]


def test_the_best_case_is_the_least_leak_by_magnitude_among_those_that_keep_retention(config: ClaimConfig) -> None:
    truth = {"black": (0.4, 0.0), "mean": (0.67, -0.2), "layer_masking": (0.9, 0.0)}
    found = cases_of(config, "patches_mean", truth)
    assert found.methods == {"best": ("mean",), "own": ("mean",)} and found.keeps_retention
    found = cases_of(config, "silhouettes_random_colour", truth | {"black": (0.68, 0.1)})
    assert found.methods == {"best": ("black",), "own": ("black",)}
    assert found.candidates["black"] == pytest.approx((0.68, 0.1))


def test_every_other_seed_chooses_the_best_case_for_the_rest(config: ClaimConfig) -> None:
    black = {"black": (0.7, 0.0), "mean": (0.7, 0.2), "layer_masking": (0.9, 0.0)}
    mean = black | {"black": (0.7, 0.2), "mean": (0.7, 0.0)}
    found = cases_of(config, "patches_mean", black, mean, black)
    assert found.methods == {"best": ("mean", "black", "mean"), "own": ("mean",) * 3}
    inaccurate = {"black": (0.5, 0.0), "mean": (0.4, 0.0), "layer_masking": (0.9, 0.0)}
    assert not cases_of(config, "patches_mean", black, inaccurate).keeps_retention


def test_where_none_keeps_retention_the_one_that_keeps_most_is_taken_and_said(config: ClaimConfig) -> None:
    found = cases_of(config, "patches_mean", {"black": (0.5, 0.3), "mean": (0.4, 0.0), "layer_masking": (0.9, 0.0)})
    assert found.methods["best"] == ("black",) and not found.keeps_retention


def test_layer_masking_is_a_candidate_for_the_arm_whose_own_it_is_alone(config: ClaimConfig) -> None:
    truth = {"black": (0.6, 0.3), "mean": (0.6, 0.2), "layer_masking": (0.7, 0.0)}
    assert cases_of(config, "layer_masking", truth).methods["best"] == ("layer_masking",)
    assert cases_of(config, "no_masks", truth).methods["best"] == ("black",)


def test_arms_without_a_valid_object_are_looked_at_by_their_retention(config: ClaimConfig, tmp_path: Path) -> None:
    nothing = np.full(IMAGES, -1)
    blind = answering(outcomes_of(0.7, 0.0), silhouette=nothing, circle=nothing)
    runs = {name: [dict.fromkeys(config.evaluation.methods, blind)] for name in config.arms}
    assert all(case.candidates["black"].leak == 0.0 for case in choose_cases(config, runs).values())
