"""Every contradiction in a claim's configuration: one sentence that names what was given and says what to do."""

import pytest
import yaml

from maskrobust.train.claim.checks import parse_config
from tests.train.tiny import tiny_claim

REFUSALS = [
    ("seeds", [1, 1], "got [1, 1]"),
    ("evaluation.methods", ["mean", "layer_masking"], "must contain 'black'"),
    ("evaluation.plan.shapes", False, "got False"),
    ("rule.baseline", "patches_mean", "masking 'none'"),
    ("rule.layer_masking_arm", "no_masks", "got 'no_masks'"),
    ("arms.a/b", {"title": "x"}, "got 'a/b'"),
    ("arms.layer_masking.model.masking", "everything", "arm 'layer_masking' does not fit the model"),
    ("arms.patches_mean.model.masking", "layer_masking", "got 'layer_masking'"),
    ("arms.layer_masking.method", "layer_masking_mirror", "trained on, layer_masking, got 'layer_masking_mirror'"),
    ("arms.patches_mean.model.fill", {"black": 1, "inpainting": 1}, "black or inpainting, got 'mean'"),
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


def test_a_claim_about_nothing_is_refused(tmp_path):
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml")
    for arm in ("patches_mean", "silhouettes_random_colour"):
        changed(config, f"arms.{arm}.augmentation_only", value=False)
    assert "got none; mark" in refusal(config)
