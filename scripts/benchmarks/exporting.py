"""Benchmark layer masking in ONNX Runtime, relative to the plain network's file, and compare the logits."""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import onnxruntime
import torch
from torch import Tensor, nn

from maskrobust.augment import patches, sample_keys
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.networks.onnx_model import OPSET, onnx_model
from timing import JSON, Row, alternate, median_ratio, report

NETWORKS = ("resnet50", "efficientnet_b0", "mobilenet_v3_large", "regnet_y_400mf", "convnext_tiny")


def exporting(
    networks: tuple[str, ...] = NETWORKS,
    batches: tuple[int, ...] = (1, 3, 8),
    image_size: int = 224,
    rounds: int = 7,
    json: Path = JSON,
) -> None:
    """What layer masking costs in ONNX Runtime on a CPU, with half of the patches hidden.

    A row is of one padding and one batch. It has difference (largest one between the logits of the file and those of
    PyTorch, over the largest logit), plain_seconds (the plain network's file), and time: the masked file's over it.

    Args:
        networks: of torchvision, or timm/NAME; untrained, with statistics of noise.
        batches: images in a batch.
        image_size: side of the images in pixels.
        rounds: alternating runs behind each ratio.
        json: file for the numbers.
    """
    rows = _measure(networks, batches, image_size, rounds)
    report("exporting", rows, torch.device("cpu"), json, opset=OPSET, onnxruntime=onnxruntime.__version__)


def _measure(networks: Sequence[str], batches: Sequence[int], size: int, rounds: int) -> Iterator[Row]:
    """One row for each network, padding and batch; see `exporting`."""
    for name in networks:
        torch.manual_seed(0)
        network = build_network(name, 1000).train()
        with torch.no_grad():
            network(torch.rand(4, 3, size, size))  # statistics for batch norm
        network.eval()
        masked = {padding: LayerMasking(network, padding=padding) for padding in ("mean", "mirror")}
        files = {padding: _session(onnx_model(module, (size, size))) for padding, module in masked.items()}
        plain = _session(_plain_model(network, size))
        for batch in batches:
            images = torch.rand(batch, 3, size, size)
            visible = patches(
                sample_keys(1, torch.arange(batch)), size, size, hidden_fraction=(0.5, 0.5), patch_size=size // 14
            )
            runs = {"plain": partial(_run, plain, images=images)}
            runs |= {padding: partial(_run, file, images=images, visible=visible) for padding, file in files.items()}
            seconds = alternate(runs, rounds, torch.device("cpu"))
            for padding, module in masked.items():
                with torch.no_grad():
                    expected = module(images, visible)
                difference = (runs[padding]() - expected).abs().max() / expected.abs().max()
                yield {
                    "network": name,
                    "padding": padding,
                    "batch": batch,
                    "difference": difference.item(),
                    "plain_seconds": median(seconds["plain"]),
                    "time": median_ratio(seconds[padding], seconds["plain"]),
                }


def _plain_model(network: nn.Module, size: int) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        program = torch.onnx.export(
            network,
            (torch.rand(2, 3, size, size),),
            input_names=["images"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, **inputs: Tensor) -> Tensor:
    (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return torch.from_numpy(logits)
