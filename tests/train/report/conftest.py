"""A claim and an evaluation of made-up outcomes, summarised by the code that summarises real ones."""

import copy
from typing import Any

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.holes.conditions import transfer_condition
from maskrobust.lm_modules.reliance.holes.curves import curve_condition
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.claim import summary as claim_summary
from maskrobust.train.claim.checks import parse_config
from maskrobust.train.data import Cues
from maskrobust.train.evaluate import summary as evaluation_summary
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.measure import Answered
from tests.lm_modules.reliance.tables import NUM_CLASSES, answering, make_outcomes
from tests.train.tiny import TINY_DATA, content_of, tiny_claim

Content = dict[str, Any]

IMAGES, INVALID = 60, (3, 7)
MEASURED = {"transfer_families": ["patches", "slic", "objects"]}
NETWORKS = ["runs/plain/last.ckpt", "runs/patches/last.ckpt", "runs/masked/last.ckpt"]
SKILLS = (0.9, 0.6, 0.0)
"""How well each network reads outlines."""


def answers(plan, seed, skill):
    """What a network answers under every condition of a plan; it reads outlines and copes with holes by `skill`."""
    rng = np.random.default_rng(seed)
    made = make_outcomes(IMAGES, seed, plan.hidden_fractions, skill, INVALID)
    names = [transfer_condition(family) for family in plan.transfer_families]
    names += [
        curve_condition(family, order, fraction)
        for family in plan.curve_families
        for order in plan.curve_orders
        for fraction in plan.curve_fractions
    ]
    guesses = {name: rng.integers(0, NUM_CLASSES, IMAGES) for name in names}
    right = {name: rng.random(IMAGES) < 0.5 + 0.3 * skill for name in names}
    clean = np.where(np.random.default_rng(seed).random(IMAGES) < 0.8, made.labels, made.predictions_under("clean"))
    hidden = {name: np.where(right[name], made.labels, guesses[name]) for name in names}
    return answering(made, clean=clean, **hidden)


def _answers(plans, seed):
    """What an arm of a claim answers: under layer masking outlines are not read."""
    return {method: answers(plan, seed, 0.0 if method == "layer_masking" else 0.8) for method, plan in plans.items()}


def summarised_claim(folder):
    """What `maskrobust claim` would write."""
    evaluation = content_of("claim_cues.yaml")["evaluation"]
    evaluation["plan"] |= MEASURED | {"curve_families": ["slic"], "sampled_fraction": 1.0}
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml", evaluation=evaluation)
    config = parse_config([f"--config={path}", f"--out={folder}"])
    runs = {
        arm: {seed: _answers(config.plans_of(arm), 100 * place + seed) for seed in config.seeds}
        for place, arm in enumerate(config.arms)
    }
    return claim_summary.summarise(config, runs, seconds=300.1).as_json()


def summarised_reliance(folder, networks=NETWORKS, **changes):
    """What `maskrobust evaluate` would write."""
    given = {
        "hidden_fractions": (0.3, 0.5),
        "curve_families": ("patches",),
        "curve_orders": ("random", "most_salient"),
        "scenes": 8,
        **MEASURED,
    }
    config = EvaluationConfig(
        Cues(**TINY_DATA),
        folder,
        list(networks),
        methods=("black", "layer_masking"),
        plan=ReliancePlan(**(given | changes)),
    )
    runs = {
        path: {
            method: answers(plan, 10 + place, 0.0 if method == "layer_masking" else skill)
            for method, plan in config.plans.items()
        }
        for place, (path, skill) in enumerate(zip(networks, SKILLS, strict=False))
    }
    answered = Answered(runs, config.plans)
    return evaluation_summary.summarise(config, answered, {}, seconds=30.0).as_json()


@pytest.fixture(scope="session")
def made_claim(tmp_path_factory):
    content = summarised_claim(tmp_path_factory.mktemp("claim"))
    undefined = {"value": None, "low": None, "high": None, "undefined_because": "because of it."}
    for row in content["rows"]:
        row.update(undefined if row["measure"] == "shape_gain" else {})
    return content


@pytest.fixture(scope="session")
def made_reliance(tmp_path_factory):
    return summarised_reliance(tmp_path_factory.mktemp("reliance"))


def without_curves(content):
    """A copy to change at will, without the curves, which take time to draw."""
    rows = [row for row in content["rows"] if not row["measure"].startswith("curve_")]
    return copy.deepcopy({**content, "rows": rows})


@pytest.fixture
def claim(made_claim):
    return without_curves(made_claim)


@pytest.fixture
def reliance(made_reliance):
    return without_curves(made_reliance)
