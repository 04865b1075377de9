"""Every contradiction in a claim's configuration: one sentence that names what was given and says what to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.tiny import tiny_claim
from train.claim.config import parse_config

REFUSALS: list[tuple[str, Any, str]] = [
    ("seeds", [], "got []"),
    ("seeds", [1, 1], "got [1, 1]"),
    ("training.epochs", 0, "got 0"),
    ("evaluation.hidden_fraction", 0.0, "got 0.0"),
    ("evaluation.patch_size", 0, "evaluation.patch_size must be at least 1, got 0"),
    ("evaluation.replicates", 0, "evaluation.replicates must be at least 1, got 0"),
    ("evaluation.methods", ["mean", "layer_masking"], "must contain 'black'"),
    ("rule.confidence", 1.0, "got 1.0"),
    ("rule.baseline", "nobody", "got 'nobody'"),
    ("rule.layer_masking_arm", "no_masks", "got 'no_masks'"),
    ("rule.layer_masking_arm", "patches_mean", "got 'patches_mean'"),
    ("rule.margin", -0.1, "rule.margin must be at least 0, got -0.1"),
    ("rule.clean_accuracy_tolerance", -0.1, "rule.clean_accuracy_tolerance must be at least 0, got -0.1"),
    ("arms.a/b", {"title": "x"}, "got 'a/b'"),
    ("arms.layer_masking.model.masking", "everything", "arm 'layer_masking' does not fit the model"),
    ("arms.patches_mean.model.masking", "layer_masking", "got 'layer_masking'"),
]


def changed(config: Path, key: str, value: Any) -> Path:
    content = yaml.safe_load(config.read_text())
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    config.write_text(yaml.safe_dump(content))
    return config


def refusal(config: Path) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is what the tests look at)
        parse_config([f"--config={config}", f"--out={config.parent / 'out'}"])
    return str(caught.value)


@pytest.mark.parametrize(("key", "value", "given"), REFUSALS, ids=[f"{key}={value}" for key, value, _ in REFUSALS])
def test_a_contradiction_is_named_with_what_to_do(tmp_path: Path, key: str, value: Any, given: str) -> None:
    message = refusal(changed(tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml"), key, value))
    assert given in message
    _, semicolon, remedy = message.rpartition("; ")
    assert semicolon and remedy.endswith(".")


def test_a_claim_about_nothing_is_refused(tmp_path: Path) -> None:
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml")
    for arm in ("patches_mean", "silhouettes_random_colour"):
        changed(config, f"arms.{arm}.augmentation_only", value=False)
    assert "got none; mark" in refusal(config)
