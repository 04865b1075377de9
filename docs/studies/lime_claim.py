"""The study of docs/research-explanations.md: is LIME much better under layer masking than under black and grey?

    python docs/studies/lime_claim.py OUT lite0.safetensors lite1.safetensors [--until HH:MM]

explains every picture that has no file in OUT yet, until that time, and prints the tables. Two networks with
ImageNet's weights (as in docs/research-networks.md) explain the probability of the true class by the layer masking
paper's protocol: queries show half of the segments, and one shows all. A picture is cut in two ways, by SLIC into about
49 segments and into 49 patches of 32 px, and asked 400 times for each cut, network and method. Pictures are `Cutouts`
of seed 1, which no earlier study has shown, in a drawn order. Those count that both networks recognise with nothing
hidden.

*Coverage* is read by two formulas, the cosine over pixels of `centred_cosine`, and the paper's over segments,
sum(s a c) / (|s| |a c|), where s are scores, a areas, and c the object's fraction minus its mean over pixels. Each is
read plain, and corrected for the noise of the scores: the mean over pictures is divided by the square root of the
reliability 2 r / (1 + r), where r is the mean over pictures of the cosine between the scores of two halves of the
queries (Spearman and Brown).

Positive control: scores with a coverage of 0.9 are planted in the answers, as strong as the network's own by held-out
R^2, with the surrogate's residuals in another order, and are read in the same way.

Planned before the run (2026-12-01), after pilots on four pictures of seed 99 with 120 queries: a reading is the mean
over networks and cuts. Layer masking is *much better* than a fill if the interval of their difference (97.5 %, for two
fills, by 2,000 bootstrap samples of pictures) lies above 0.05, and *not much better* if it lies below. The claim is
supported if it is much better than both fills, refuted if it is not much better than one, by all four readings alike.
It is undecided otherwise, and also if the planted coverage, corrected, is read outside 0.85 to 0.95 under a method. The
hour at which the run ends was fixed before it, 05:20 of that day.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from pathlib import Path

import numpy as np
import timm
import torch
from cutouts import Cutouts
from numpy.typing import NDArray
from safetensors.torch import load_file
from skimage.segmentation import slic
from torch import Tensor

from maskrobust import LayerMasking, Segments, ask, draw_independent, lime, predictor
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.lime import lime_weights
from maskrobust.lm_modules.methods import Predictor
from maskrobust.train.cli import keep_freed_memory

Array = NDArray[np.float64]

NETWORKS, CUTS, METHODS = ("lite0", "lite1"), ("slic", "patches"), ("layer_masking", "mean", "black")
QUERIES, SIDE, PLANTED, REPLICATES = 400, 32, 0.9, 2000
READINGS = ("pixels", "pixels, corrected", "segments", "segments, corrected")


def networks(paths: dict[str, Path]) -> dict[str, dict[str, Predictor]]:
    """Predictors by network and method."""
    found = {}
    for name, path in paths.items():
        network = timm.create_model(f"tf_efficientnet_{name}")
        network.load_state_dict(load_file(path))
        network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        wrapped = {method: LayerMasking(network) if method == "layer_masking" else network for method in METHODS}
        found[name] = {each: predictor(net, each, (0.498,) * 3, (0.502,) * 3) for each, net in wrapped.items()}
    return found


def cut(image: Tensor, how: str) -> Segments:
    """The segments of an image (C, H, W)."""
    if how == "patches":
        return Segments.patches(image[None], SIDE)
    labels = slic(image.permute(1, 2, 0).double().numpy(), n_segments=49, start_label=0)
    return Segments(torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))[None])


def readings(fit: Explanation, halves: tuple[Explanation, Explanation], fractions: Array, areas: Array) -> list[float]:
    """Plain coverage and the cosine between halves, by pixels and by segments."""
    weights = areas / areas.sum()
    centred = fractions - weights @ fractions
    scores, first, second = (each.scores[:, 0] for each in (fit, *halves))
    found = []
    for weight, target in ((weights, centred), (np.ones_like(weights), weights * centred)):
        found += [_cosine(scores, target, weight), _cosine(first, second, weight)]
    return found


def _cosine(first: Array, second: Array, weight: Array) -> float:
    return float((weight * first) @ second / np.sqrt(((weight * first) @ first) * ((weight * second) @ second)))


def fitted(z: Tensor, answers: Array) -> tuple[Explanation, tuple[Explanation, Explanation]]:
    """LIME of all queries, and of both halves; the first query, which shows everything, is in each."""
    first, second = (torch.arange(len(z)) % 2 == half for half in (0, 1))
    second[0] = True
    return lime(z, answers), (lime(z[first], answers[first]), lime(z[second], answers[second]))


def planted(
    z: Tensor, answers: Array, fit: Explanation, target: Array, areas: Array, draw: np.random.Generator
) -> Array:
    """Answers (N, 1) of a network whose scores have a coverage of `PLANTED`, as strong and as noisy as `answers`."""
    share, weights, design = areas / areas.sum(), lime_weights(z), z.numpy().astype(np.float64)
    other = draw.standard_normal(len(areas))
    other -= ((share * other) @ target) / ((share * target) @ target) * target
    scores = PLANTED * target / np.sqrt((share * target) @ target)
    scores += np.sqrt(1 - PLANTED**2) * other / np.sqrt((share * other) @ other)

    def deviation(values: Array) -> Array:
        return np.sqrt(np.average((values - np.average(values, weights=weights)) ** 2, weights=weights))  # type: ignore[no-any-return]

    signal, residuals = design @ scores, draw.permutation(answers[:, 0] - design @ fit.scores[:, 0])
    explained = np.clip(fit.r_squared[0], 0.0, 1.0)
    total = deviation(answers[:, 0])
    values = np.sqrt(explained) * total / deviation(signal) * signal
    return (values + np.sqrt(1 - explained) * total / deviation(residuals) * residuals)[:, None]  # type: ignore[no-any-return]


def explain_picture(
    image: Tensor, mask: Tensor, label: int, key: int, asked: dict[str, dict[str, Predictor]]
) -> dict[str, dict[str, list[float]]]:
    """By network, cut and method: held-out R^2, `readings`, and those of the planted scores."""
    found = {}
    draw = np.random.default_rng(key)
    for how in CUTS:
        segments = cut(image, how)
        z = draw_independent(key, QUERIES, segments.count(0))
        z[0] = True
        labels = segments.labels[0].numpy().ravel()
        areas = np.bincount(labels).astype(np.float64)
        fractions = np.bincount(labels, weights=mask.numpy().ravel()) / areas
        target = fractions - areas / areas.sum() @ fractions
        for network, method in product(asked, METHODS):
            answers = ask(asked[network][method], image, segments.queries(0, z), key, batch_size=16)[:, [label]]
            fit, halves = fitted(z, answers)
            control = fitted(z, planted(z, answers, fit, target, areas, draw))
            found[f"{network}, {how}, {method}"] = {
                "r_squared": [float(fit.r_squared[0])],
                "coverage": readings(fit, halves, fractions, areas),
                "planted": readings(*control, fractions, areas),
            }
    return found


def read(values: Array) -> Array:
    """Readings (4, methods), in the order of `READINGS`, of (pictures, combinations, methods, 4) of `readings`."""
    plain, between = values[..., 0::2].mean(axis=0), values[..., 1::2].mean(axis=0)
    corrected = plain / np.sqrt(np.clip(2 * between / (1 + between), 1e-9, None))
    return np.stack([plain, corrected], axis=-1).mean(axis=0).reshape(len(METHODS), 4).T  # type: ignore[no-any-return]


def tables(results: list[dict[str, dict[str, list[float]]]]) -> Iterator[str]:
    """R^2, every reading with its control, the differences, and the verdict."""
    every = [f"{network}, {how}" for network, how in product(NETWORKS, CUTS)]
    values, control, r_squared = (
        np.array([[[each[f"{one}, {method}"][what] for method in METHODS] for one in every] for each in results])
        for what in ("coverage", "planted", "r_squared")
    )
    draw = np.random.default_rng(0)
    samples = draw.integers(len(results), size=(REPLICATES, len(results)))
    yield f"{len(results)} pictures; methods {', '.join(METHODS)}"
    verdicts: list[set[str]] = []
    for name, places in [*((one, [place]) for place, one in enumerate(every)), ("all", [*range(len(every))])]:
        own = values[:, places]
        readings_, planted_ = read(own), read(control[:, places])
        drawn = np.array([read(own[each]) for each in samples])
        yield f"{name}: held-out R² {np.round(r_squared[:, places].mean(axis=(0, 1, 3)), 2).tolist()}"
        for row, reading in enumerate(READINGS):
            shown = [np.round(each[row], 3).tolist() for each in (readings_, planted_)]
            yield f"  {reading}: {shown[0]}; planted, 0.9 reads {shown[1]}"
            found = set()
            for place in (1, 2):
                low, high = np.quantile(drawn[:, row, 0] - drawn[:, row, place], (0.0125, 0.9875))
                difference = readings_[row, 0] - readings_[row, place]
                yield f"    layer masking minus {METHODS[place]}: {difference:.3f} [{low:.3f}, {high:.3f}]"
                found.add("much" if low > 0.05 else "not much" if high < 0.05 else "open")
            verdicts += [found] * (name == "all")
    corrected = read(control)[1::2]
    holds = bool(((corrected > 0.85) & (corrected < 0.95)).all())
    supported = all(found == {"much"} for found in verdicts)
    refuted = all("not much" in found for found in verdicts)
    yield f"control holds: {holds}; by the readings alone supported: {supported}, refuted: {refuted}"
    yield "verdict: " + ("supported" if holds and supported else "refuted" if holds and refuted else "undecided")


def main() -> None:
    """Explain, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("weights", type=Path, nargs=2)
    parser.add_argument("--until", default="23:59")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=111)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    keep_freed_memory()
    asked = networks(dict(zip(NETWORKS, options.weights, strict=True)))
    data = Cutouts(views=1, seed=options.seed, training_objects="others")
    data.setup("test")
    (batch,) = [data.make_samples("test", data.ids("test"))]
    images = batch.images.float() / 255 if batch.images.dtype == torch.uint8 else batch.images
    for row in np.random.default_rng(options.seed).permutation(len(images))[: options.pictures].tolist():
        path = options.out / f"{row}.json"
        if path.exists() or datetime.now().strftime("%H:%M") >= options.until:
            continue
        path.touch(exist_ok=False)
        image, label = images[row], int(batch.labels[row])
        shown, keys = torch.ones(1, 1, *image.shape[-2:], dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
        with torch.no_grad():
            recognised = all(int(one["mean"](image[None], shown, keys).argmax()) == label for one in asked.values())
        found = explain_picture(image, batch.object_mask[row].squeeze(), label, row, asked) if recognised else {}
        path.write_text(json.dumps(found), encoding="utf-8")
    done = [json.loads(each.read_text("utf-8")) for each in sorted(options.out.glob("*.json")) if each.stat().st_size]
    print("\n".join(tables([each for each in done if each])))


if __name__ == "__main__":
    main()
