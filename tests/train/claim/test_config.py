"""Every contradiction in a claim's configuration: one sentence that names what was given and says what to do."""

import re
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentError

from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.sentences import one_sentence
from tests.train.tiny import tiny_claim

REFUSALS: list[tuple[str, Any, str]] = [
    ("seeds", [1, 1], "got [1, 1]"),
    ("evaluation.methods", ["mean", "layer_masking"], "must contain 'black'"),
    ("evaluation.plan.transfer_families", ["stripes"], "got 'stripes'"),
    ("evaluation.plan.hidden_fractions", [0.0], "got True and [0.0]"),
    ("evaluation.plan.shapes", False, "got False"),
    ("rule.baseline", "nobody", "got 'nobody'"),
    ("rule.baseline", "patches_mean", "masking 'none'"),
    ("rule.layer_masking_arm", "no_masks", "got 'no_masks'"),
    ("rule.layer_masking_arm", "patches_mean", "got 'patches_mean'"),
    ("arms.a/b", {"title": "x"}, "got 'a/b'"),
    ("arms.layer_masking.model.masking", "everything", "arm 'layer_masking' does not fit the model"),
    ("arms.patches_mean.model.masking", "layer_masking", "got 'layer_masking'"),
    ("arms.x", {"title": "x", "method": "grey"}, "grey"),
    ("arms.patches_mean.method", "black", "must be one that it is trained on, mean, got 'black'"),
    ("arms.layer_masking.method", "layer_masking_mirror", "trained on, layer_masking, got 'layer_masking_mirror'"),
    ("arms.patches_mean.model.fill", {"black": 1, "inpainting": 1}, "black or inpainting, got 'mean'"),
]

OUT_OF_RANGE = [
    ("training.epochs", 0, "epochs.*0"),
    ("rule.margin", -0.1, "margin.*-0.1"),
    ("arms.x", {"title": "x", "metohd": "black"}, "arms.*metohd"),
]


def changed(config, key, value):
    content = yaml.safe_load(config.read_text())
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    config.write_text(yaml.safe_dump(content))
    return config


def refusal(config, *options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is what the tests look at)
        parse_config([f"--config={config}", f"--out={config.parent / 'out'}", *options])
    return str(caught.value)


@pytest.mark.parametrize(("key", "value", "given"), REFUSALS, ids=[f"{key}={value}" for key, value, _ in REFUSALS])
def test_a_contradiction_is_named_with_what_to_do(tmp_path, key, value, given):
    message = refusal(changed(tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml"), key, value))
    assert given in message
    _, semicolon, remedy = message.rpartition("; ")
    assert semicolon and remedy.endswith(".")


@pytest.mark.parametrize(("key", "value", "named"), OUT_OF_RANGE, ids=[key for key, _, _ in OUT_OF_RANGE])
def test_a_number_out_of_its_range_is_named_with_its_key(tmp_path, key, value, named):
    config = changed(tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml"), key, value)
    with pytest.raises(ArgumentError) as caught:
        parse_config([f"--config={config}", f"--out={tmp_path / 'out'}"])
    assert re.search(named, one_sentence(caught.value, "claim") or "")


def test_a_claim_about_nothing_is_refused(tmp_path):
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml")
    for arm in ("patches_mean", "silhouettes_random_colour"):
        changed(config, f"arms.{arm}.augmentation_only", value=False)
    assert "got none; mark" in refusal(config)
