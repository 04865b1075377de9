"""`onnx_model`: a network under layer masking as an ONNX file, checked in ONNX Runtime against the network itself."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maskrobust.augment import patches
from maskrobust.errors import InputError, library_needed
from maskrobust.lm_modules.masking.layer_masking import LayerMasking
from maskrobust.lm_modules.masking.rules.merging import concatenate
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

OPSET = 18
"""Version of ONNX's operators that a file takes; ONNX Runtime 1.14 was the first to know it."""

TOLERANCE = 1e-4
"""Largest difference from the network in PyTorch, over the largest magnitude of that output."""

_BATCHES = (1, 3, 8)


class PixelNetwork(nn.Module):
    """A trained network under one masking method, of pixels in the size in which it is to see them.

    Args:
        network: a network as `load_network` returns it.
        method: a masking method, from `WRAPPERS` or a fill.
    """

    def __init__(self, network: TrainedNetwork, method: MaskingMethod) -> None:
        super().__init__()
        self.network = network.configured(preprocessing=replace(network.preprocessing, size=None))
        self._predict = self.network.predictor(method)
        self.eval()

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Logits (B, num_classes) of pictures (B, 3, H, W) in [0, 1] and `visible` (B, 1, H, W) bool."""
        return self._predict(images, visible, torch.empty(0, dtype=torch.int64))


@torch.no_grad()
def onnx_model(
    network: nn.Module,
    size: tuple[int, int],
    *,
    output: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A masked network in ONNX, with its weights: inputs `images` and `visible` of any batch, height and width.

    Their axes are called `batch`, `height` and `width`. Where the network can only be exported for one size, or
    computes other sizes in another way than as the file would, height and width are those of `size`.

    Before it is returned, ONNX Runtime computes it with other masks than that of the export, for batches of 1, 3 and 8
    and, where sizes are free, for three other sizes: each output must be that in PyTorch within `TOLERANCE`, with
    everything visible too, and not change by a bit when the hidden pixels are NaN.

    Args:
        network: a `LayerMasking`, or a module around one, in eval mode on a CPU. It takes images (B, 3, H, W) float32
            and `visible` (B, 1, H, W) bool, and returns a tensor, or a structure of tensors.
        size: height and width of the images; where sizes are free, those of the export.
        output: name of the output of a network that returns one tensor; by default torch names it.
        metadata: what the file says of itself: its `metadata_props`.

    Returns:
        What an .onnx file holds.

    Raises:
        InputError: the network is in training mode, a package of the extra `onnx` is missing, positions of several maps
            are put into one row, or ONNX Runtime computes something else.
        UnsupportedNetworkError: an operation of the network would be exported wrongly.
    """
    if network.training:
        raise InputError("an ONNX file needs a network in eval mode, got one in training mode; call its eval().")
    with library_needed():
        import_module("onnx"), import_module("onnxruntime"), import_module("onnxscript")
    _refuse_rows(network, _example(1, size))
    try:
        return _checked_model(network, size, output=output, metadata=metadata, is_free=True)
    except Exception as error:  # a network may refuse other sizes by any error
        logging.getLogger(__name__).debug("height and width are not left free: %s", error)
    try:
        return _checked_model(network, size, output=output, metadata=metadata)
    except torch.onnx.OnnxExporterError as error:
        if isinstance(error.__cause__, InputError):
            raise
        attends = any("Attention" in type(module).__name__ for module in network.modules())
        needed = "a CNN, and this network attends" if attends else "a network that torch.export can follow"
        raise InputError(
            f"an ONNX file needs {needed} ({error.__cause__}); export the part of it that returns maps, or use it "
            "in Python."
        ) from error


def _refuse_rows(network: nn.Module, example: Mapping[str, Tensor]) -> None:
    """Refuse rows of several maps, whose lengths torch.export cannot follow, before minutes of trying."""
    for masked in (each for each in network.modules() if isinstance(each, LayerMasking)):
        for row in masked.plan(**example):
            if row.rule == concatenate.__name__ and row.size is not None and len(row.size) == 1:
                raise InputError(
                    f"an ONNX file needs a network that keeps maps apart, but layer '{row.layer}' puts positions of "
                    "several into one row, as heads of YOLOs do; use the masked network in Python."
                )


def _checked_model(
    network: nn.Module,
    size: tuple[int, int],
    *,
    is_free: bool = False,
    output: str | None,
    metadata: Mapping[str, str] | None,
) -> bytes:
    """What `onnx_model` returns, with free height and width where `is_free`."""
    example = _example(_BATCHES[1], size)
    names = {0: "batch", 2: "height", 3: "width"} if is_free else {0: "batch"}
    free = {axis: torch.export.Dim.DYNAMIC for axis in names}
    program = torch.onnx.export(
        network,
        kwargs=example,
        input_names=[*example],
        output_names=None if output is None else [output],
        opset_version=OPSET,
        dynamic_shapes={name: names if name == "images" else free for name in example},
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for name, value in (metadata or {}).items():
        proto.metadata_props.add(key=name, value=value)
    model: bytes = proto.SerializeToString()
    height, width = size
    others = [(3 * height // 4 | 1, width + 5), (height + 9, 2 * width // 3 | 1), (height + 5, width + 11)]
    examples = [_example(batch, size) for batch in _BATCHES]
    _check(model, network, [*examples, *(_example(2, each) for each in others if is_free)])
    return model


def _example(batch: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Pictures of noise in [0, 1] of which half of the patches are visible."""
    generator = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 3, *size, generator=generator)
    keys = batch + torch.arange(batch)
    visible = patches(keys, *size, hidden_fraction=(0.5, 0.5), patch_size=max(1, min(size) // 8))
    return {"images": images, "visible": visible}


def _check(model: bytes, network: nn.Module, examples: Sequence[Mapping[str, Tensor]]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(**inputs: Tensor) -> list[Tensor]:
        outputs = session.run(None, {name: each.numpy() for name, each in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]

    for example in examples:
        images, visible = example["images"], example["visible"]
        for shown in (visible, ~visible, torch.ones_like(visible)):
            inputs = {**example, "visible": shown}
            found, expected = run(**inputs), tree_leaves(network(**inputs))
            differences = [_difference(*pair) for pair in zip(found, expected, strict=True)]
            if max(differences) > TOLERANCE:
                raise InputError(
                    f"an ONNX file must compute what the network does, but with images {tuple(images.shape)} ONNX "
                    f"Runtime is off by {max(differences):.1g} of the largest output; export another network."
                )
            redrawn = run(**inputs | {"images": torch.where(shown, images, math.nan)})
            if not all(map(torch.equal, found, redrawn)):
                raise InputError(
                    "an ONNX file must not depend on hidden pixels, but in ONNX Runtime they change an output; export "
                    "another network."
                )


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest magnitude; infinite where either has a NaN, or shapes differ."""
    if found.shape != expected.shape or (found - expected).isnan().any():
        return math.inf
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)).item()
