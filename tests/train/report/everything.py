"""All that a claim may have beyond the least, and a made-up reliance.json, in random numbers."""

import numpy as np

from tests.train.report.conftest import TITLES, figure, figures, make_claim

LONG_TITLES = tuple(f"{title}, trained with holes of one third to two thirds of the image" for title in TITLES)
CURVE_FAMILIES = ("patches", "slic", "quickshift")
CURVE_ORDERS = ("random", "most_salient", "least_salient")
CURVE_METRICS = ("accuracy", "unchanged", "class_entropy", "wordnet_similarity")
MASK_FAMILIES = (
    "patches",
    "rectangles",
    "blobs",
    "slic",
    "silhouettes",
    "other_class_silhouettes",
    "enclosing_circles",
)
TRANSFER_METHODS = ("black", "mean", "gaussian_noise", "blur", "layer_masking")
CHECKPOINTS = (
    "/home/someone/experiments/2026-01-imagenet/resnet50/no_masks/version_0/checkpoints/best.ckpt",
    "/home/someone/experiments/2026-01-imagenet/resnet50/random_patches_black/version_12/checkpoints/best.ckpt",
    "/home/someone/experiments/2026-01-imagenet/resnet50/layer_masking_and_rectangles/version_3/checkpoints/best.ckpt",
)


def curves(rng):
    """Curves that fall, at random slopes, with the score of each."""
    return {
        family: {order: {metric: curve(rng) for metric in CURVE_METRICS} for order in CURVE_ORDERS}
        for family in CURVE_FAMILIES
    }


def curve(rng):
    shares = np.arange(11) / 10
    values = 0.95 - rng.uniform(0.4, 0.85) * shares ** rng.uniform(0.5, 3) + rng.normal(0, 0.008, 11)
    points = [
        {"hidden_fraction": float(share), "value": value, "low": value - 0.021, "high": value + 0.023}
        for share, value in zip(shares, values.tolist(), strict=True)
    ]
    return {"points": points, "score": figure(float(values.mean()), 0.017, 500, 0)}


def transfer(rng, families=MASK_FAMILIES):
    return {family: figure(float(rng.uniform(0.1, 0.95)), 0.03, 500, 0) for family in families}


def families(rng):
    return {"transfer": transfer(rng), "worst_family": figure(rng.uniform(0.1, 0.3))}


def remains(rng):
    """What whole and broken masks give, and what the features carry."""
    silhouette, circle = rng.uniform(0.2, 0.9, 2).tolist()
    return {
        "whole_mask_accuracy": figure(rng.uniform(0.2, 0.9)),
        "broken_mask_accuracy": figure(rng.uniform(0.2, 0.9)),
        "whole_over_broken": figure(rng.uniform(0.2, 1.4)),
        "features_silhouette": figure(silhouette),
        "features_circle": figure(circle),
        "carried_information": figure(silhouette - circle),
    }


def layers(rng):
    names = ("features_silhouette", "features_circle", "carried_information")
    return {layer: {name: figure(rng.uniform(0.1, 0.9)) for name in names} for layer in ("layer1", "layer3")}


def transfer_entry(rng):
    """What is known of a network beyond its main methods."""
    matrix = {method: transfer(rng) for method in TRANSFER_METHODS}
    cells = [(found["value"], method, family) for method, row in matrix.items() for family, found in row.items()]
    _, method, family = min(cells)
    worst = {key: matrix[method][family][key] for key in ("value", "low", "high")}
    return {
        "transfer": matrix,
        "worst_cell": {"method": method, "family": family, **worst},
        "trained_on": {"families": ["patches", "rectangles"], "fills": ["black", "mean"]},
    }


def add_everything(claim):
    """The claim with long titles and all that a claim may have: curves, transfer, whole and broken, features."""
    rng = np.random.default_rng(1)
    for arm, title in zip(claim["arms"].values(), LONG_TITLES, strict=False):
        arm.update(transfer_entry(rng), title=title)
        for found in arm["methods"].values():
            found["all_seeds"].update(remains(rng), curves=curves(rng), **families(rng))
            for figures_of_seed in found["seeds"].values():
                figures_of_seed.update(remains(rng))
    return claim


def make_reliance(checkpoints=CHECKPOINTS, methods=("black", "mean", "layer_masking"), everything=True):
    rng = np.random.default_rng(2)
    found = {}
    for place, path in enumerate(checkpoints):
        found[path] = {}
        for row, method in enumerate(methods):
            each = figures(3 * place, row, 0, method == "layer_masking")
            each["retention_0.5"] = each.pop("retention")
            each["retention_0.8"] = figure(0.3 + 0.1 * place)
            if everything:
                each |= remains(rng) | {"curves": curves(rng), "transfer": transfer(rng), "layers": layers(rng)}
            found[path][method] = each
    reliance = {
        "format": 1,
        "checkpoints": found,
        "differences": {
            path: {method: differences(found[path][method], found[checkpoints[0]][method]) for method in methods}
            for path in checkpoints[1:]
        },
        "compared_with": checkpoints[0],
        "probe_accuracy": figure(0.812, 0.024),
        "settings": {"split": "test", "patch_size": 16, "hidden_fractions": [0.5, 0.8], "replicates": 2000, "seed": 0},
        "provenance": make_claim(1)["provenance"],
    }
    return reliance | ({"networks": {path: transfer_entry(rng) for path in checkpoints}} if everything else {})


def differences(figures_of_one, figures_of_first):
    return {
        name: figure(found["value"] - figures_of_first[name]["value"], 0.031)
        for name, found in figures_of_one.items()
        if "images" in found
    }
