"""The claims with all eleven arms: what they share, and one of them run from start to verdict."""

import itertools
import json

import pytest

from maskrobust.train.cli import main
from tests.train.tiny import TINY_DATA, content_of, tiny_claim

TINIER_DATA = TINY_DATA | {"train_images": 32, "val_images": 16, "test_images": 16, "image_size": 32}


FEW = {"curve_families": ["patches"], "curve_orders": ["random"], "curve_fractions": [0.0, 0.5]}
FEW |= {"transfer_families": ["patches", "objects"], "sampled_share": 0.25}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The folder and the claim.json of the claim on generated images, tiny and with one seed."""
    folder = tmp_path_factory.mktemp("full")
    content = content_of("full_claim_cues.yaml")
    content["data"]["init_args"] |= TINIER_DATA
    content["evaluation"] |= {"replicates": 20, "transfer_methods": ["image_mean"]}
    content["evaluation"]["plan"] |= FEW
    changes = {"seeds": [1], "data": content["data"], "evaluation": content["evaluation"]}
    config = tiny_claim("full_claim_cues.yaml", folder / "claim.yaml", **changes)
    main(["claim", f"--config={config}", f"--out={folder / 'out'}"])
    return folder / "out", json.loads((folder / "out" / "claim.json").read_text())


def rows_of(claim, arm, **wanted):
    """Rows of an arm itself, without its name."""
    rows = [row for row in claim["rows"] if row["network"] == arm and not row["compared_with"]]
    return [{**row, "network": ""} for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_eleven_arms_are_measured_and_six_of_them_compared(full):
    _, claim = full
    assert len(claim["arms"]) == 11
    assert len([row for row in claim["rows"] if row["measure"] == "reliance"]) == 6 * 2 * 5
    for arm, method in itertools.product(claim["arms"], claim["methods"]):
        (row,) = rows_of(claim, arm, method=method, measure="clean_accuracy", seed=None)
        assert row["low"] <= row["value"] <= row["high"]


def test_an_arm_that_looks_at_anothers_network_trains_and_measures_nothing(full):
    out, claim = full
    trained = [row for row in rows_of(claim, "no_masks") if row["measure"] != "manipulation_check"]
    assert rows_of(claim, "layer_masking_at_test") == trained != []
    assert not (out / "arms" / "layer_masking_at_test").exists()


def test_calibration_changes_predictions_of_masked_images_alone(full):
    out, claim = full
    of = {"method": "mean", "measure": "clean_accuracy", "seed": 1}
    assert rows_of(claim, "mcal", **of) == rows_of(claim, "no_masks", **of) != []
    assert (out / "arms" / "mcal" / "seed-1" / "calibration.safetensors").is_file()
    assert not (out / "arms" / "mcal" / "seed-1" / "weights.safetensors").exists()


def test_training_says_where_it_comes_from(full):
    for record in (full[0] / "arms").rglob("training.json"):
        found = json.loads(record.read_text())["provenance"]
        assert found["torch"] and found["machine"] and found["seconds"] >= 0
        assert "commit" in found and "command" in found


def test_the_full_claims_have_the_budget_and_the_settings_that_were_tried():
    fashion, tuning = content_of("full_claim_fashion.yaml"), content_of("tuning_fashion.yaml")
    for section in ("data", "model", "training"):
        assert fashion[section] == tuning[section], section
    assert not set(fashion["seeds"]) & set(tuning["seeds"])
    assert tuning["evaluation"]["split"] == "val" and "split" not in fashion["evaluation"]
    tried = [arm.get("model") for arm in tuning["arms"].values()]
    for name, arm in fashion["arms"].items():
        assert arm.get("augmentation_only") is not True or arm["model"] in tried, name
    cues, small = content_of("full_claim_cues.yaml"), content_of("claim_cues.yaml")
    assert (cues["data"], cues["model"], cues["training"]) == (small["data"], small["model"], small["training"])


def test_arms_that_use_a_network_are_listed_with_the_one_that_trains_it(capsys):
    main(["claim", "--config=full_claim_cues.yaml", "--out=nowhere", "--list", "--seed=2"])
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "--arm=[no_masks,mcal,layer_masking_at_test] --seed=2"
    assert len(others) == 8 and all(line.count(",") == 0 and line.endswith(" --seed=2") for line in others)
