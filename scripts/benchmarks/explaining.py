"""Benchmark explaining an image, relative to the forward passes it takes, and beside lime and Captum."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.explanation.adapters import nan_classifier, visibility_forward
from maskrobust.lm_modules.explanation.answers import ask
from maskrobust.lm_modules.explanation.explainers.linear import lime
from maskrobust.lm_modules.explanation.sampling import draw_independent
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, predictor
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train.running.processes import find_device
from timing import JSON, Row, alternate, median_ratio, report

METHODS: tuple[MaskingMethod, ...] = ("black", "layer_masking")

ASKED = 3
"""Classes that are explained; Captum has a run for each."""

_ACROSS = 7  # segments in a row and in a column: 49, patches of 32 pixels at 224
_STATISTICS = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_CLASSES = 1000


def explaining(
    networks: tuple[str, ...] = ("resnet50", "timm/tf_efficientnet_lite0"),
    image_size: int = 64,
    masks: int = 64,
    batch: int = 32,
    rounds: int = 7,
    device: str | None = None,
    json: Path = JSON,
) -> None:
    """What explaining an image costs: time over the bare forward passes that it takes, beside lime's and Captum's.

    All explain one image by as many masks, half visible, under black and layer masking. "ask" is the answers for all
    classes alone, the others whole explanations of three classes: drawing, asking, fitting. The libraries ask through
    our adapters; one that is not installed has no rows. A row has classes (explained by that time), bare_seconds (the
    plain network's on images without holes, in the same batches), and time: the explainer's over it.

    Args:
        networks: of torchvision, or timm/NAME.
        image_size: side of the image in pixels, at least 32.
        masks: that each explainer asks about, at least 51, two more than there are segments.
        batch: masks in a forward pass.
        rounds: alternating runs behind each ratio.
        device: by default cuda where there is one, else cpu.
        json: file for the numbers.
    """
    place = find_device(device)
    report("explaining", _measure(networks, image_size, masks, batch, rounds, place), place, json, batch=batch)


def _measure(
    networks: Sequence[str], image_size: int, masks: int, batch: int, rounds: int, device: torch.device
) -> Iterator[Row]:
    """One row for each network, masking method and explainer; see `explaining`."""
    for name in networks:
        torch.manual_seed(0)
        network = build_network(name, _CLASSES).to(device).eval()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = torch.rand(3, image_size, image_size, device=device)
        bare = _bare(network, image, masks, batch)
        functions: dict[tuple[str, str], Callable[[], object]] = {}
        for method in METHODS:
            masked = LayerMasking(network) if method == "layer_masking" else network
            predict = predictor(masked, method, *_STATISTICS)
            for explainer, function in explainers(predict, image, masks, batch).items():
                functions[method, explainer] = function
        keyed = {"bare": bare} | {" ".join(key): function for key, function in functions.items()}
        seconds = alternate(keyed, rounds, device)
        for method, explainer in functions:
            yield {
                "network": name,
                "image_size": image_size,
                "masks": masks,
                "method": method,
                "explainer": explainer,
                "classes": _CLASSES if explainer == "ask" else ASKED,
                "bare_seconds": median(seconds["bare"]),
                "time": median_ratio(seconds[f"{method} {explainer}"], seconds["bare"]),
            }


def explainers(predict: Predictor, image: Tensor, masks: int, batch: int) -> dict[str, Callable[[], object]]:
    """Functions that explain an image (3, H, W), by name; those of libraries that are not installed are left out.

    Args:
        predict: the network under a masking method.
        image: (3, H, W) float in [0, 1] on its device.
        masks: asked about by each.
        batch: masks in a forward pass.
    """
    segments = Segments.patches(image[None], -(-image.shape[-1] // _ACROSS))
    z = draw_independent(0, masks, segments.count(0))

    def answer() -> object:
        return ask(predict, image, segments.queries(0, z), batch_size=batch)

    def ours() -> object:
        drawn = draw_independent(0, masks, segments.count(0))
        answers = ask(predict, image, segments.queries(0, drawn), batch_size=batch)
        return lime(drawn, answers[:, :ASKED])

    functions: dict[str, Callable[[], object]] = {"ask": answer, "lime": ours}
    if find_spec("lime"):
        functions["the package lime"] = _of_package_lime(predict, image, segments, masks, batch)
    if find_spec("captum"):
        functions |= _of_captum(predict, image, segments, masks, batch)
    return functions


def _bare(network: nn.Module, image: Tensor, masks: int, batch: int) -> Callable[[], object]:
    """Forward passes of the plain network, as many as one explanation needs."""
    images = image.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def passes() -> None:
        for start in range(0, masks, batch):
            network(images[: masks - start])

    return passes


def _of_package_lime(
    predict: Predictor, image: Tensor, segments: Segments, masks: int, batch: int
) -> Callable[[], object]:
    from lime.lime_image import LimeImageExplainer

    explainer = LimeImageExplainer(random_state=0)
    classify = nan_classifier(predict, device=image.device)
    pixels, labels = image.permute(1, 2, 0).cpu().numpy(), segments.labels[0].cpu().numpy()

    def explain() -> object:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return explainer.explain_instance(
                pixels,
                classify,
                hide_color=np.nan,
                top_labels=ASKED,
                num_samples=masks,
                batch_size=batch,
                segmentation_fn=lambda _: labels,
            )

    return explain


def _of_captum(
    predict: Predictor, image: Tensor, segments: Segments, masks: int, batch: int
) -> dict[str, Callable[[], object]]:
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import KernelShap, Lime

    forward = visibility_forward(predict, image)
    visible, feature_mask = torch.ones_like(image[None, :1]), segments.labels[:1, None]

    def explain(explainer: Any) -> Callable[[], object]:
        return lambda: [
            explainer.attribute(
                visible,
                target=target,
                feature_mask=feature_mask,
                n_samples=masks,
                perturbations_per_eval=batch,
                return_input_shape=False,
            )
            for target in range(ASKED)
        ]

    return {
        "Captum's Lime": explain(Lime(forward, interpretable_model=SkLearnRidge(alpha=1.0))),
        "Captum's KernelShap": explain(KernelShap(forward)),
    }
