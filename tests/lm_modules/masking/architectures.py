"""Six properties that layer masking must have on every listed network, and the section of a page that reports them.

architectures.csv has a line for each classifier of torchvision, for the small models of each family (module) of timm
that are checked, and for the smallest model of each other one.

`python -m tests.lm_modules.masking.architectures`, which `scripts/architectures` runs, checks every network of this
table, one at a time, and writes docs/reference/architectures.md. With names it checks these alone, and writes nothing.
"""

import copy
import csv
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError, VisibleMap
from maskrobust.lm_modules.masking.functional import hide
from maskrobust.lm_modules.masking.visible_map import PaddingRule
from maskrobust.lm_modules.networks.architectures import build_network, build_outline

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "architectures.md"
MARK = "<!-- architectures -->\n\n"  # what follows is written by `main`
TABLE = Path(__file__).with_suffix(".csv")
USUAL_SIZE = 64
SIZES = {
    "timm/convmixer_768_32": 32,
    "inception_v3": 299,
    "timm/inception_v3": 96,
    "timm/inception_v4": 96,
    "timm/inception_resnet_v2": 96,
    **dict.fromkeys(("swin_t", "vit_b_32", "vit_l_32"), 128),
    "vit_h_14": 56,
    "maxvit_t": 224,
    **dict.fromkeys(("timm/test_vit", "timm/test_coatnet", "timm/test_vit_relpos"), 160),
    **dict.fromkeys(("timm/shvit_s1", "timm/swiftformer_xs", "timm/mobilenetv5_base", "timm/efficientvim_m1"), 128),
    **dict.fromkeys(("timm/halonet_h1", "timm/mobilevit_xxs", "timm/edgenext_xx_small"), 256),
    "timm/deepseek_vit_412m": 126,
    **dict.fromkeys(("timm/crossvit_tiny_240", "timm/gemma4_vit_167m", "timm/qwen3_vit_88m"), 96),
    **dict.fromkeys(
        (
            "timm/csatv2", "timm/davit_tiny", "timm/efficientformer_l1", "timm/efficientformerv2_s0",
            "timm/efficientvit_m0", "timm/gcvit_xxtiny", "timm/gmlp_ti16_224", "timm/iformer_t", "timm/levit_128s",
            "timm/pit_ti_224", "timm/sequencer2d_s", "timm/volo_d1_224",
        ),
        224,
    ),
}  # fmt: skip
_OF_SIZE = (
    "beit_base_patch16_224", "cait_xxs24_224", "coat_tiny", "convit_tiny", "deit_tiny_patch16_224", "hiera_tiny_224",
    "mvitv2_tiny", "nest_tiny", "samvit_base_patch16_224", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224",
    "swinv2_tiny_window16_256", "tnt_s_legacy_patch16_224", "twins_svt_small", "visformer_tiny", "vitamin_small_224",
    "vit_tiny_patch16_dinov3_qkvb", "vit_tiny_r_s16_p8_224", "xcit_nano_12_p8_224",
)  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": True, "transform_input": True},  # as with pretrained weights
    "inception_v3": {"aux_logits": True, "transform_input": True},
    **{
        name: {"image_size": SIZES.get(name, USUAL_SIZE)}
        for name in ("vit_b_16", "vit_l_16", "vit_b_32", "vit_l_32", "vit_h_14")
    },
    **{f"timm/{name}": {"img_size": 64} for name in _OF_SIZE},
    "timm/deepseek_vit_412m": {"img_size": 126},
}


_ENCODERS = ("timm/deepseek_vit_412m", "timm/gemma4_vit_167m", "timm/qwen3_vit_88m")
FEW_BLOCKS = {
    **dict.fromkeys(("vit_h_14", "vit_l_16", "vit_l_32"), "encoder.layers"),
    **dict.fromkeys(_ENCODERS, "encoder.blocks"),
}
"""Where the blocks lie of networks that are checked with four of them, all of one kind, to save time."""


class KnownArchitecture(NamedTuple):
    """A line of the table.

    Attributes:
        family: "torchvision", or "timm" and the name of a module of timm, as in "timm resnet".
        architecture: the name that `build_network` takes.
        attends: "yes" where positions are mixed otherwise than by windows, as by attention; else empty.
        refused: what has no rule, in the words of the refusal; empty where all properties hold.
    """

    family: str
    architecture: str
    attends: str
    refused: str


def known_architectures() -> list[KnownArchitecture]:
    """All lines of the table, in its order."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return [KnownArchitecture(*line) for line in list(csv.reader(lines))[1:]]


def by_family(known: Sequence[KnownArchitecture]) -> dict[str, list[str]]:
    """Names of architectures by family."""
    found: dict[str, list[str]] = {}
    for each in known:
        found.setdefault(each.family, []).append(each.architecture)
    return found


def architectures() -> list[str]:
    """Every network of the table that is not refused, by the name that `build_network` takes."""
    return [each.architecture for each in known_architectures() if not each.refused]


def size_of(architecture: str) -> int:
    """Side of the images that a network is checked on."""
    return SIZES.get(architecture, USUAL_SIZE)


def build(architecture: str, **options: Any) -> nn.Module:
    """A network in eval mode whose output depends on all of its layers, with further options of its constructor.

    Freshly initialised, many networks end every branch with a factor of 0 or 1e-6. Here weights keep the variance of
    what they multiply, scales are about 1, and batch norm has the statistics of random images.
    """
    given = OPTIONS.get(architecture, {}) | options
    network = build_outline(architecture, 10, given)
    if any(buffer.is_meta for buffer in network.buffers()):  # made from parameters, as masks of windows are
        network = build_network(architecture, 10, given)
    if architecture in FEW_BLOCKS:
        path, _, name = FEW_BLOCKS[architecture].rpartition(".")
        setattr(network.get_submodule(path), name, network.get_submodule(FEW_BLOCKS[architecture])[:4])
    size = size_of(architecture)
    return initialised(network, (3, 3, size, size))


def initialised(network: nn.Module, shape: Sequence[int]) -> nn.Module:
    """The same of a network that takes images of a shape."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_draw(name, parameter.shape, generator)))
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    network.eval()  # no dropout and the like, which would spread statistics that no evaluation meets
    for module in norms:
        module.train().momentum = 1.0
    with torch.no_grad():
        network(torch.randn(*shape, generator=generator))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
        # Channels with next to no variance on these images would make rounding errors grow from layer to layer.
        module.running_var.clamp_(min=0.6 * module.running_var.mean())
    return network.eval()


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    fan_in = shape.numel() // shape[0] if shape else 1
    if fan_in > 1:
        low, high = -((6 / fan_in) ** 0.5), (6 / fan_in) ** 0.5  # the uniform distribution of He et al.
    else:
        low, high = (-0.1, 0.1) if name.endswith("bias") else (0.5, 1.5)
    return torch.empty(shape).uniform_(low, high, generator=generator)


def draw_images(channels: int, *size: int) -> Tensor:
    """(2, C, *size), the same each time."""
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def draw_visible(*size: int) -> Tensor:
    """(2, 1, *size): of the first image the right part and a disc are hidden, of the second nothing."""
    *others, last = (
        place / length
        for place, length in zip(torch.meshgrid(*map(torch.arange, size), indexing="ij"), size, strict=True)
    )
    disc = sum([(each - 0.7) ** 2 for each in others], (last - 0.25) ** 2) < 0.15**2
    return torch.stack([(last < 0.6) & ~disc, torch.ones_like(disc)])[:, None]


class Case(NamedTuple):
    """What the properties are asked of.

    Attributes:
        network: in eval mode.
        masked: the same, wrapped.
        images: (2, C, *size).
        visible: (2, 1, *size) bool, part of the first image and all of the second.
        plain: the network's output for `images`.
        output: that of `masked` for `images` and `visible`.
    """

    network: nn.Module
    masked: LayerMasking
    images: Tensor
    visible: Tensor
    plain: Tensor
    output: Tensor

    @property
    def with_hidden_nan(self) -> Tensor:
        """The images with NaN at hidden pixels."""
        return torch.where(self.visible, self.images, torch.nan)

    def distance(self, first: Tensor, second: Tensor) -> float:
        """Largest difference of two outputs over the standard deviation of the plain network's."""
        return ((first - second).abs().max() / self.plain.std()).item()


@torch.no_grad()
def _case(network: nn.Module, shape: Sequence[int], padding: PaddingRule) -> Case:
    images, visible = draw_images(*shape), draw_visible(*shape[1:])
    plain, precise = network(images), copy.deepcopy(network).double()(images.double())
    if (plain - precise).abs().max() > 1e-4 * plain.std():  # with random weights some blow their rounding up
        network, images = network.double(), images.double()
    masked = LayerMasking(network, padding=padding)
    return Case(network, masked, images, visible, network(images), masked(images, visible))


@torch.no_grad()
def all_visible_is_the_plain_network(case: Case) -> None:
    """To the last bit; and nearly so where the rules compute it, and for an image without holes beside one with."""
    everything = torch.ones_like(case.visible)
    assert torch.equal(case.masked(case.images, everything), case.plain), "differs from the plain network"
    by_rules = _run(case, everything=True)
    assert case.distance(by_rules, case.plain) < 1e-3, "the rules differ from the plain network"
    assert _without_holes_is_plain(case), "an image differs for what is hidden of another"


def _without_holes_is_plain(case: Case) -> bool:
    """Whether the second image, without holes, gives the plain output beside the first; but for rounding.

    Where a deep network makes rounding errors of float32 grow, float64 decides.
    """
    if case.distance(case.output[1], case.plain[1]) < 5e-3:
        return True
    network, images = copy.deepcopy(case.network).double(), case.images.double()
    plain, output = network(images), LayerMasking(network)(images, case.visible)
    return case.distance(output[1], plain[1]) < 1e-8


@torch.no_grad()
def hidden_values_change_nothing(case: Case) -> None:
    """Not by one bit: of pixels, NaN included, and between layers; and what is hidden makes a difference."""
    assert case.distance(case.output[0], case.plain[0]) > 1e-2, "hiding a part changes nothing"
    assert case.output.isfinite().all(), "not finite"
    assert torch.equal(case.masked(case.with_hidden_nan, case.visible), case.output), "hidden pixels matter"
    assert torch.equal(_run(case, scribble=True), case.output), "hidden features matter"


def hidden_pixels_have_no_gradient(case: Case) -> None:
    """Exactly 0; and visible ones have one."""
    images = case.with_hidden_nan.requires_grad_()
    case.masked(images, case.visible).square().sum().backward()
    gradient = images.grad
    assert gradient is not None and gradient.isfinite().all(), "not finite"
    first, visible = gradient[0], case.visible[0, 0]
    assert (first[:, ~visible] == 0).all(), "hidden pixels have a gradient"
    assert (first[:, visible] != 0).any(), "visible pixels have none"


@torch.no_grad()
def nothing_visible_is_finite(case: Case) -> None:
    """And the same whatever the images."""
    output = case.masked(case.images, torch.zeros_like(case.visible))
    assert output.isfinite().all(), "not finite"
    assert torch.equal(output[0], output[1]), "depends on the image"


def gradients_in_training_are_finite(case: Case) -> None:
    """Of every parameter that has one, and some have; auxiliary heads included."""
    case.masked.train().zero_grad()
    outputs = case.masked(case.with_hidden_nan, case.visible)
    heads = [outputs] if isinstance(outputs, Tensor) else [each for each in outputs if each is not None]
    torch.stack([logits.square().mean() for logits in heads]).sum().backward()
    gradients = [parameter.grad for parameter in case.network.parameters() if parameter.grad is not None]
    case.masked.eval()
    assert all(gradient.isfinite().all() for gradient in gradients), "not finite"
    assert any((gradient != 0).any() for gradient in gradients), "no parameter has one"


PROPERTIES: dict[str, Callable[[Case], None]] = {
    "all visible": all_visible_is_the_plain_network,
    "hidden values": hidden_values_change_nothing,
    "hidden gradient": hidden_pixels_have_no_gradient,
    "nothing visible": nothing_visible_is_finite,
    "training": gradients_in_training_are_finite,
}
COLUMNS = ("wraps", *PROPERTIES)
MEANINGS = """\
1. Every operation has a rule.
2. With everything visible, the output is the plain network's, bit for bit. An image without holes has the same output
   (but for rounding) in a batch with images that have some.
3. Values of hidden pixels, NaN included, change no bit of the output, and neither do values at hidden positions between
   layers.
4. The gradient is 0 at hidden pixels, and finite and not 0 at visible ones.
5. With nothing visible, the output is finite and the same for every image.
6. In training, with NaN at hidden pixels, every gradient is finite.
"""


def check(network: nn.Module, shape: Sequence[int], padding: PaddingRule = "mean") -> dict[str, bool | str]:
    """All six properties of a network.

    Args:
        network: in eval mode; gets gradients, and batch norm statistics of the images.
        shape: (C, *size) of the images.
        padding: of `LayerMasking`.

    Returns:
        For each of COLUMNS True, or what is wrong.
    """
    try:
        case = _case(network, shape, padding)
    except UnsupportedNetworkError as error:
        return dict.fromkeys(COLUMNS, str(error))
    return {"wraps": True} | {column: _verdict(holds, case) for column, holds in PROPERTIES.items()}


def _verdict(holds: Callable[[Case], None], case: Case) -> bool | str:
    try:
        holds(case)
    except (AssertionError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return True


def _run(case: Case, *, everything: bool = False, scribble: bool = False) -> Any:
    """The network's output by its rules alone; with random numbers written to all hidden positions, where wanted."""
    generator = torch.Generator().manual_seed(2)
    visible = torch.ones_like(case.visible) if everything else case.visible

    def write(_operation: Any, _rule: Any, _arguments: Any, result: Any) -> Any:
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Masked):
                noise = 10 * torch.randn(part.shape, generator=generator)
                part.copy_(torch.where(part.positions, part.features, noise))
        return result

    visible_map = VisibleMap(visible, case.masked.options)
    return case.masked._run(hide(case.images, visible), visible_map, write if scribble else None)


def section(results: dict[str, dict[str, bool | str]]) -> str:
    """What docs/reference/architectures.md says below its mark.

    Args:
        results: of `check` by architecture.
    """
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}"
    failures = _failures(results)
    passed = [name for name, result in results.items() if all(verdict is True for verdict in result.values())]
    known = known_architectures()
    of_timm = by_family([each for each in known if not each.refused])
    of_torchvision = of_timm.pop("torchvision")
    attending = [each for each in known if each.attends]
    parts = [
        "## What was checked",
        f"`scripts/architectures` has checked {len(results)} networks under layer masking, with {versions}, random "
        f"weights (in float64 where these blow rounding up), images of 32 to 299 pixels and both paddings. "
        f"{'All' if len(passed) == len(results) else len(passed)} of them have all six properties below.",
        MEANINGS.rstrip(),
        *(["\n".join(f"- {failure}" for failure in failures)] if failures else []),
        f"These are {len(of_torchvision)} networks of torchvision and {sum(map(len, of_timm.values()))} of "
        f"{len(of_timm)} families of timm. Other members of these families can be refused. "
        "`tests/lm_modules/masking/architectures.csv` has every name. A network "
        "that is not listed is supported if `LayerMasking(maskrobust.build_network(NAME, 10))` raises no "
        "`UnsupportedNetworkError`, and no part of it lies on a path that "
        "[wrapping does not reach](../layer-masking.md#how-it-works).",
        f"{len(attending)} networks attend, or mix positions otherwise. "
        f"{sum(not each.refused for each in attending)} of them have been checked. The table names what has "
        "no rule in the others.",
        "\n".join(
            ["| network | side of the images | properties |", "|---|---|---|"]
            + [
                f"| `{each.architecture}` | {size_of(each.architecture)} | {_outcome(each, results)} |"
                for each in attending
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _outcome(known: KnownArchitecture, results: dict[str, dict[str, bool | str]]) -> str:
    if known.refused:
        return f"refused: {known.refused}"
    failed = [column for column, verdict in results[known.architecture].items() if verdict is not True]
    outcome = f"without {', '.join(failed)}" if failed else "all six"
    return f"{outcome}, with its first four blocks alone" if known.architecture in FEW_BLOCKS else outcome


def _failures(results: dict[str, dict[str, bool | str]]) -> list[str]:
    return [
        f"{architecture}, {column}: {verdict}"
        for architecture, result in results.items()
        for column, verdict in result.items()
        if verdict is not True
    ]


def main() -> None:
    """Check every listed network and write the section, or check those that are named; exit with 1 where one fails.

    Each network has a process of its own, which gives its memory back, and whose end leaves the others to be checked.
    """
    fork = multiprocessing.get_context("fork")
    results: dict[str, dict[str, bool | str]] = {}
    for architecture in sys.argv[1:] or architectures():
        with ProcessPoolExecutor(1, fork) as alone:
            try:
                results[architecture] = alone.submit(check_both_paddings, architecture).result()
            except BrokenProcessPool:
                results[architecture] = dict.fromkeys(COLUMNS, "its process was ended, as for want of memory")
        failures = _failures({architecture: results[architecture]})
        print("\n".join(failures or [f"{architecture}: all six"]), flush=True)  # whatever ends the others
    if not sys.argv[1:]:
        above, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
        PAGE.write_text(above + MARK + section(results), encoding="utf-8")
    sys.exit(bool(_failures(results)))


def check_both_paddings(architecture: str) -> dict[str, bool | str]:
    """What `check` finds of a listed network under both paddings, or what is wrong under one."""
    results: dict[str, bool | str] = {}
    for padding in ("mean", "mirror"):
        found = check(build(architecture), (3, *[size_of(architecture)] * 2), padding)
        failed = {column: f"{padding}: {verdict}" for column, verdict in found.items() if verdict is not True}
        results = found | results | failed
    return results


if __name__ == "__main__":
    main()
