"""A made-up claim of the shape that the claim runner writes."""

import math

import pytest

from tests.conftest import require_component

OUTLINES_HOLD_NOTHING = "probe accuracy minus majority share is not above 0 (lower bound -0.012)."
CAVEAT = "With few seeds the intervals are too narrow; use five."
ACCURACIES = ("clean_accuracy", "retention", "silhouette_accuracy", "circle_accuracy")
SHARES = ("silhouette_leak", "swap_pull", "used_share")
TITLES = (
    "No masks",
    "Patches, mean fill",
    "Other silhouettes, random colours",
    "Layer masking",
    "Rectangles, black",
    "Patches, random colours",
    "Patch mixing",
    "Consistency (MaskSub)",
    "Calibrated logits (MCal)",
    "Layer masking at test time only",
    "Layer masking and augmentation",
)
NAMES = (
    "no_masks",
    "patches_mean",
    "silhouettes_random_colour",
    "layer_masking",
    "rectangles",
    "patches_colour",
    "patch_mixing",
    "consistency",
    "calibration",
    "layer_masking_at_test_time",
    "layer_masking_and_augmentation",
)


def figure(value, half_width=0.041, images=988, left_out=12):
    return {
        "value": value,
        "low": value - half_width,
        "high": value + half_width,
        "images": images,
        "left_out": left_out,
        "undefined_because": None,
    }


def undefined_figure(reason=OUTLINES_HOLD_NOTHING):
    return {"value": None, "low": None, "high": None, "images": 988, "left_out": 12, "undefined_because": reason}


def figures(arm, method, seed, masked):
    """Figures that differ between all arms, methods and seeds, and are small for layer masking."""
    wave = math.sin(1 + 2.3 * arm + 1.7 * method + 0.9 * seed)
    reads = 0.0 if masked else 0.28 - 0.02 * arm
    found = {
        "clean_accuracy": figure(0.931 + 0.01 * wave, 0.012, 1000, 0),
        "retention": figure(0.68 + 0.02 * arm % 0.2 + 0.06 * wave, 0.023, 1000, 0),
        "silhouette_accuracy": figure(0.21 + reads + 0.03 * wave, 0.03),
        "circle_accuracy": figure(0.19 + 0.02 * wave, 0.03),
        "silhouette_leak": figure(0.8 * reads + 0.03 * wave),
        "swap_pull": figure(0.7 * reads - 0.01 * wave),
        "used_share": figure(reads + 0.06 * wave, 0.052),
    }
    for place, hole in enumerate(("silhouette", "circle")):
        bits = 0.61 * reads + 0.013 * wave + 0.004 * place
        found[f"information_{hole}"] = {
            "bits": bits,
            "null_low": -0.011,
            "null_high": 0.012,
            "undefined_because": None,
        }
    found["hidden_pixel_sensitivity"] = {"value": 0.0, "undefined_because": None}
    return found


def make_claim(arms=4, methods=("black", "mean", "layer_masking"), seeds=(0, 1), outcome="supported"):
    augmented = [name for name in NAMES[:arms] if "masking" not in name and name != "no_masks"]
    comparisons = [
        {"arm": name, "difference": figure(0.21 - 0.025 * place, 0.06), "clean_accuracy_loss": 0.012, "eligible": True}
        for place, name in enumerate(augmented)
    ]
    return {
        "format": 2,
        "question": "Does a network trained with masked images still read the outline of the hole?",
        "claim": "Training with mask augmentation alone does not stop a network from reading the shape of the hole.",
        "verdict": {
            "outcome": outcome,
            "reason": "Every augmentation-only arm that counts reads the outline by more than 0.05 of used share above "
            "the layer-masking arm, lower bound included.",
            "caveat": CAVEAT if len(seeds) < 5 else None,
            "comparisons": comparisons,
        },
        "rule": {
            "text": ["An arm counts when its clean accuracy is at most 3.0% below the baseline's.", "Otherwise not."],
            "baseline": "no_masks",
            "layer_masking_arm": "layer_masking",
            "margin": 0.05,
            "clean_accuracy_tolerance": 0.03,
            "confidence": 0.95,
        },
        "probe": {"accuracy": figure(0.812, 0.024), "majority_share": 0.125, "chance": 0.125},
        "methods": list(methods),
        "hidden_fraction": 0.5,
        "seeds": list(seeds),
        "arms": {
            name: {
                "title": TITLES[arm],
                "augmentation_only": name in augmented,
                "method": "layer_masking" if name == "layer_masking" else "black",
                "training": {"masking": "fill", "hidden_fraction": [0.1, 0.9]} if arm else {},
                "methods": {
                    method: {
                        "all_seeds": figures(arm, place, 0.5, method == "layer_masking"),
                        "seeds": {str(seed): figures(arm, place, seed, method == "layer_masking") for seed in seeds},
                    }
                    for place, method in enumerate(methods)
                },
            }
            for arm, name in enumerate(NAMES[:arms])
        },
        "config": {"data": {"class_path": "Cues", "init_args": {"test_images": 1000}}, "seeds": list(seeds)},
        "provenance": {
            "maskrobust": "0.1.0",
            "torch": "2.9.0",
            "python": "3.11.2",
            "machine": "x86_64, CPU, 2 threads",
            "finished": "2026-01-01T12:00:00+00:00",
            "seconds": 300.1,
            "commit": "0123456789ab",
            "command": "maskrobust claim --config claim_cues.yaml --out runs/claim",
        },
    }


def set_undefined(claim, arm, method, key, reason=OUTLINES_HOLD_NOTHING):
    found = claim["arms"][arm]["methods"][method]
    for each in (found["all_seeds"], *found["seeds"].values()):
        counts = {name: each[key][name] for name in ("images", "left_out") if name in each[key]}
        each[key] = dict.fromkeys(each[key]) | counts | {"undefined_because": reason}


@pytest.fixture
def claim():
    return make_claim()


@pytest.fixture
def chromium():
    require_component("chromium", "apt install chromium")
    return "chromium"
