"""Random networks under layer masking: everything that a pass computes is that of an independent reference.

A run of the suite tries a few networks of each kind, always the same ones. FUZZ_EXAMPLES=5000 tries so many, and
FUZZ_SEED=123 the one of that number, as a failure names it:
`FUZZ_SEED=123 pytest tests/fuzz/test_networks.py -k hooks`.
"""

import copy
import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError, VisibleMap
from maskrobust.lm_modules.masking.functional import hide
from tests.fuzz.attending import attention, token_head
from tests.fuzz.networks import (
    BLOCKS,
    LAYERS,
    Draw,
    Example,
    aliases,
    asking,
    asking_head,
    checkpointed,
    draw_example,
    dropped,
    head,
    in_place,
    map_head,
    moving_axes,
    padded,
    standardised,
    unused,
    without_gradient,
)
from tests.lm_modules.masking.cases import assert_close, tensors_of
from tests.lm_modules.masking.reference import BATCH_NORMS, Run, Seen, masked_output

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True"),  # of checkpoints of images
]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = os.environ.get("FUZZ_SEED")

KINK = 1e-7
POLE = 1e-2
JUMP = 1e-10


class Try(NamedTuple):
    """One network, masked and as the reference has it.

    Attributes:
        example: the network with a batch.
        chance: for what a kind chooses beyond that.
        run: options of masking; the reference notes in it how close to a jump it came.
        training: mode of the network.
    """

    example: Example
    chance: random.Random
    run: Run
    training: bool

    def network(self):
        """A copy of its own each time, in the mode."""
        return copy.deepcopy(self.example.network).train(self.training)

    def masked(self, **options):
        how = {name: getattr(self.run, name) for name in ("merge", "detach_padding", "padding")}
        return LayerMasking(self.network(), **how, **options)

    def images(self):
        """With NaN, or a large number, where they are hidden."""
        garbage = self.chance.choice([math.nan, 1e30, 0.0])
        return torch.where(self.example.visible, self.example.images, garbage)

    def reference(self, images=None, network=None):
        images = self.example.images if images is None else images
        return masked_output(network or self.network(), images, self.example.visible, self.run)


def compare(given, expected, what, tolerance=1e-8):
    for one, other in zip(tensors_of(given), tensors_of(expected), strict=True):
        assert_close(one, other, tolerance, what)


class UndecidedError(Exception):
    """A network whose result or gradient jumps at what it computes, so that rounding decides; another is drawn."""


def well_defined(run, output, *, gradients=False):
    """Whether rounding cannot decide a result; finite and not too large."""
    values = torch.cat([each.detach().flatten() for each in tensors_of(output)])
    is_close = run.pole < POLE or run.jump < JUMP or (gradients and run.kink < KINK)
    if is_close or not values.isfinite().all() or values.abs().max() > 1e4:
        raise UndecidedError


def compare_buffers(masked, network):
    for name, buffer in network.named_buffers():
        compare(masked.network.get_buffer(name).double(), buffer.double(), f"buffer {name}")


def check_outputs(one, masked=None, network=None):
    masked, network = masked or one.masked(), network or one.network()
    differentiates = one.chance.random() < 0.3
    if differentiates:
        refuse_what_torch_refuses(one, copy.deepcopy(network))
    with torch.no_grad():
        expected = one.reference(network=network)
    well_defined(one.run, expected)
    with torch.set_grad_enabled(differentiates):
        output = masked(one.images(), one.example.visible)
    compare(output, expected, "the output")
    compare_buffers(masked, network)


def check_whole_images(one):
    """An image of which nothing is hidden has the plain network's output, whatever else is in the batch."""
    whole, others = one.example.visible[:1].clone(), one.example.visible[1:]
    whole[:] = True
    visible = torch.cat([whole, others])
    norms = [module for module in one.example.network.modules() if isinstance(module, BATCH_NORMS)]
    if visible.all() or any(not norm.track_running_stats for norm in norms):
        raise UndecidedError
    masked = one.masked()
    with torch.no_grad():
        expected = copy.deepcopy(one.example.network).eval()(one.example.images.clone())
        well_defined(one.run, expected)
        output = masked(torch.where(visible, one.example.images, math.nan), visible)
    compare([each[:1] for each in tensors_of(output)], [each[:1] for each in tensors_of(expected)], "the output")


def check_gradients(one, masked=None):
    """At parameters and images, and of buffers."""
    example = one.example
    network, masked = one.network(), masked or one.masked()
    images = example.images.clone().requires_grad_()
    refuse_what_torch_refuses(one, one.network())
    expected = one.reference(images, network)
    well_defined(one.run, expected, gradients=True)
    sum((each * example.slope).sum() for each in tensors_of(expected)).backward()
    leaf = one.images().requires_grad_()
    output = masked(leaf.clone(), example.visible)  # which a network may change in place, unlike a leaf
    sum((each * example.slope).sum() for each in tensors_of(output)).backward()
    compare(output, expected, "the output")
    sizes = [each.grad.abs().max() for each in [images, *network.parameters()] if each.grad is not None]
    if max(sizes) > 1e5:
        raise UndecidedError
    compare(gradient_of(leaf), gradient_of(images), "the gradient at the images", 1e-6)
    hidden = ~example.visible.expand_as(leaf)
    assert (gradient_of(leaf)[hidden] == 0).all(), "hidden pixels have a gradient"
    for (name, given), parameter in zip(masked.network.named_parameters(), network.parameters(), strict=True):
        compare(gradient_of(given), gradient_of(parameter), f"the gradient at {name}", 1e-6)
    compare_buffers(masked, network)


def refuse_what_torch_refuses(one, network):
    """A change in place of what a backward pass needs."""
    try:
        output = network(one.example.images.clone().requires_grad_().clone())
        sum(each.sum() for each in tensors_of(output)).backward()
    except RuntimeError:
        raise UndecidedError from None


def gradient_of(tensor):
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def check_on_accelerators(one):
    """The same where Python may not ask what a mask holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskrobust.lm_modules.masking.visible_map.can_inspect", lambda _: False)
        check_gradients(one) if one.chance.random() < 0.7 else check_outputs(one)


def check_attention(one):
    """Gradients, and each image as alone; some where Python may not ask what a mask holds."""
    check_on_accelerators(one) if one.chance.random() < 0.3 else check_gradients(one)
    norms = [module for module in one.example.network.modules() if isinstance(module, BATCH_NORMS)]
    if one.training or any(not norm.track_running_stats for norm in norms):
        return
    images, masked = one.images(), one.masked()
    with torch.no_grad():
        together = masked(images, one.example.visible)
        alone = [
            tensors_of(masked(image[None], shown[None]))
            for image, shown in zip(images, one.example.visible, strict=True)
        ]
    compare([torch.cat(each) for each in zip(*alone, strict=True)], together, "images alone")


def check_single_precision(one):
    """In float32, where rounding is what it is: kernels differ from those of float64."""
    with torch.no_grad():
        expected = one.reference()
        well_defined(one.run, expected)
        nudged = one.example.images * (1 + 1e-6 * torch.rand_like(one.example.images))
        moved = max(
            float((a - b).abs().max())
            for a, b in zip(tensors_of(one.reference(nudged)), tensors_of(expected), strict=True)
        )
        if moved > 1e-5 or one.run.jump < 1e-4:
            raise UndecidedError
        masked = one.masked().float()
        given = tensors_of(masked(one.images().float(), one.example.visible))
    compare([each.double() for each in given], tensors_of(expected), "the output", 1e-3)


# --- what is hidden, and what is far from it --------------------------------------------------------------------------


def scribble(chance):
    """An observer of a pass that writes noise wherever something is hidden, after every step."""
    generator = torch.Generator().manual_seed(chance.getrandbits(63))

    def write(_operation, _rule, _arguments, result):
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Masked) and part.is_floating_point():
                features = part.features
                repeats = [step == 0 and size > 1 for step, size in zip(features.stride(), features.shape, strict=True)]
                if not any(repeats):  # of an expanded tensor, which nobody writes to
                    noise = 10 * torch.randn(features.shape, generator=generator, dtype=features.dtype)
                    features.copy_(torch.where(part.positions, features, noise))
        return result

    return write


def check_noise(one):
    """Noise at every hidden position after every step changes no bit of the output, nor of a buffer."""
    quiet, noisy = one.masked(), one.masked()
    shown = hide(one.images(), one.example.visible)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        if one.chance.random() < 0.3:
            patch.setattr("maskrobust.lm_modules.masking.visible_map.can_inspect", lambda _: False)
        expected, output = (
            masked._run(shown.clone(), VisibleMap(one.example.visible, masked.options), observe)
            for masked, observe in ((quiet, None), (noisy, scribble(one.chance)))
        )
    well_defined(one.run, expected)
    for given, wanted in zip(tensors_of(output), tensors_of(expected), strict=True):
        assert torch.equal(given, wanted), f"noise moves the output by {(given - wanted).abs().max():.1e}"
    for (name, given), wanted in zip(noisy.network.named_buffers(), quiet.network.buffers(), strict=True):
        assert torch.equal(given, wanted), f"noise moves buffer {name}"


def check_far_away(one):
    """A hidden pixel changes nothing that does not read it, as NaN there tells in the network alone."""
    batch, channels, *size = one.example.images.shape
    generator = torch.Generator().manual_seed(one.chance.getrandbits(63))
    images = torch.randn(batch, channels, *(side + 9 for side in size), generator=generator, dtype=torch.float64)
    visible = torch.ones_like(images[:, :1], dtype=torch.bool)
    for image in visible:
        image[(0, *(one.chance.randrange(side) for side in image.shape[1:]))] = False
    try:
        with torch.no_grad():
            expected = tensors_of(one.network()(images.clone()))
            reads = [each.isnan() for each in tensors_of(one.network()(images.masked_fill(~visible, math.nan)))]
    except (RuntimeError, ValueError):
        raise UndecidedError from None  # made for images of one size
    well_defined(one.run, expected)
    if all(each.all() for each in reads):
        raise UndecidedError
    masked = one.masked()
    with torch.no_grad():
        output = tensors_of(masked(images.masked_fill(~visible, one.chance.choice([math.nan, 1e30])), visible))
    for given, wanted, away in zip(output, expected, reads, strict=True):
        compare(given.masked_fill(away, 0.0), wanted.masked_fill(away, 0.0), "what reads nothing hidden")


# --- hooks ------------------------------------------------------------------------------------------------------------


def hooked_modules(network, chance):
    """Paths of some modules, leaves or not."""
    paths = [path for path, module in network.named_modules() if path and type(module) is not nn.ModuleList]
    return chance.sample(paths, min(len(paths), chance.randint(1, 4)))


def record(seen, path):
    def hook(_module, _args, output):
        if isinstance(output, Seen):
            seen.append((path, Seen(output.x, output.v, output.run, axes=output.axes, f=output.f)))
        else:
            seen.append((path, output.as_plain() if isinstance(output, Masked) else output.clone()))

    return hook


def check_hooks(one):
    """Forward hooks see what the reference's see, in the same order, at visible positions; changes take effect."""
    masked, network = one.masked(), one.network()
    paths = hooked_modules(network, one.chance)
    changes = one.chance.random() < 0.5
    seen: list[list[tuple[str, Any]]] = [[], []]
    for each, values in zip((masked.network, network), seen, strict=True):
        for path in paths:
            each.get_submodule(path).register_forward_hook(record(values, path))
        if changes and paths:
            each.get_submodule(paths[0]).register_forward_hook(lambda _module, _args, output: output * 0.5)
            each.get_submodule(paths[-1]).register_forward_pre_hook(lambda _module, args: (args[0] * 0.75,))
    with torch.no_grad():
        expected = one.reference(network=network)
        well_defined(one.run, expected)
        output = masked(one.images(), one.example.visible)
    assert [path for path, _ in seen[0]] == [path for path, _ in seen[1]], "other hooks fired, or in another order"
    for (path, given), (_, wanted) in zip(*seen, strict=True):
        compare(given, wanted.x if isinstance(wanted, Seen) else wanted, f"what a hook of {path} sees")
    compare(output, expected, "the output")


# --- what changes after a network was wrapped -------------------------------------------------------------------------


def check_modes(one):
    """Each module in a mode of its own."""
    masked, network = one.masked(), one.network()
    for path, module in network.named_modules():
        if path and one.chance.random() < 0.3:
            for each in (module, masked.network.get_submodule(path)):
                each.train(not one.training)
    check_outputs(one, masked, network)


def check_new_state(one):
    """Weights and buffers loaded after the network was wrapped."""
    masked, example = one.masked(), one.example
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(one.chance.getrandbits(63))
        state = {
            name: value + 0.2 * torch.rand_like(value) if value.is_floating_point() else value
            for name, value in example.network.state_dict().items()
        }
    masked.load_state_dict(state)
    example.network.load_state_dict(state)
    check_outputs(one, masked)


# --- images of several sizes ------------------------------------------------------------------------------------------


def check_sizes(one):
    """Each image of a batch is answered as the reference answers it alone, whatever lies beyond it."""
    images, visible = one.example.images, one.example.visible
    sizes = torch.tensor([[one.chance.randint(max(2, side - 4), side) for side in images.shape[2:]] for _ in images])
    norms = [module for module in one.example.network.modules() if isinstance(module, BATCH_NORMS)]
    if (sizes == sizes[0]).all() and any(not norm.track_running_stats for norm in norms):
        raise UndecidedError  # images of one size are the plain network, whose answers depend on the batch
    expected = []
    for image, shown, size in zip(images, visible, sizes.tolist(), strict=True):
        try:
            with torch.no_grad():
                twice = (torch.stack([each[(slice(None), *map(slice, size))]] * 2) for each in (image, shown))
                alone = [each[:1] for each in tensors_of(masked_output(one.network(), *twice, one.run))]
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
            raise UndecidedError from None  # too small for the network alone
        well_defined(one.run, alone)
        expected.append(alone)
    with torch.no_grad():
        output = one.masked().each(one.images(), visible, sizes=sizes)
    compare(output, expected, f"the output for sizes {sizes.tolist()}")


class Kind(NamedTuple):
    """A property, and the networks it is tried on.

    Attributes:
        check: raises where it does not hold.
        blocks: that the networks are made of.
        heads: likewise.
        modes: training or not.
        axes: how many the positions have.
        count: networks in a run of the suite.
        refuses: fraction of networks that may be refused, at most.
    """

    check: Callable[[Try], object]
    blocks: Sequence[Draw] = BLOCKS
    heads: Sequence[Draw] = (head,)
    modes: Sequence[bool] = (False,)
    axes: int = 2
    count: int = 12
    refuses: float = 0.05


BOTH = (False, True)
KINDS = {
    "outputs": Kind(check_outputs, (unused, *BLOCKS), modes=BOTH),
    "whole images": Kind(check_whole_images),
    "gradients": Kind(check_gradients, modes=BOTH),
    "in place": Kind(check_gradients, (in_place, aliases, without_gradient, *LAYERS), modes=BOTH, refuses=0.5),
    "checkpoints": Kind(check_gradients, (checkpointed, checkpointed, *LAYERS), modes=BOTH),
    "axes": Kind(check_gradients, (moving_axes, moving_axes, *LAYERS), modes=BOTH),
    "surroundings of sizes": Kind(check_sizes, (padded, padded, *LAYERS), refuses=0.7),
    "sizes": Kind(check_sizes, (*BLOCKS, *BLOCKS, asking, asking), (head, head, asking_head), refuses=0.7),
    "attention": Kind(check_attention, (attention, attention, *LAYERS), (head, token_head, token_head), modes=BOTH),
    "surroundings": Kind(check_attention, (padded, padded, *BLOCKS), modes=BOTH),
    "noise": Kind(check_noise, (padded, attention, *BLOCKS), (head, token_head), modes=BOTH),
    "far away": Kind(check_far_away, (padded, padded, *BLOCKS), (map_head,)),
    "on accelerators": Kind(check_on_accelerators, modes=BOTH),
    "single precision": Kind(check_single_precision, modes=BOTH),
    "hooks": Kind(check_hooks, modes=BOTH),
    "modes": Kind(check_modes, (dropped, *BLOCKS), modes=(True, True, False)),
    "new state": Kind(check_new_state, (standardised, *BLOCKS), modes=BOTH),
}
for _axes, _of in ((1, "signals"), (3, "volumes")):
    for _name in ("gradients", "axes", "sizes", "noise", "far away", "on accelerators"):
        KINDS[f"{_name} of {_of}"] = KINDS[_name]._replace(axes=_axes, count=4)
    KINDS[f"noise of {_of}"] = KINDS[f"noise of {_of}"]._replace(blocks=(padded, *BLOCKS), heads=(head,), refuses=0.1)
    KINDS[f"far away of {_of}"] = KINDS[f"far away of {_of}"]._replace(refuses=0.1)  # of axes that images have
    KINDS[f"sizes of {_of}"] = KINDS[f"sizes of {_of}"]._replace(refuses=0.75)  # of so few


def draw_try(name, seed):
    kind, chance = KINDS[name], random.Random(f"{name} {seed}, choices")
    example = draw_example(f"{name} {seed}", kind.blocks, kind.heads, kind.axes)
    run = Run(
        chance.choice(["intersection", "union"]), chance.random() < 0.6, chance.choice(["mean", "mirror", "zeros"])
    )
    return Try(example, chance, run, chance.choice(kind.modes))


def try_network(name, seed):
    """Draw networks until the result of one is well defined; that one is right, or refused when it is wrapped."""
    tally: Counter[str] = Counter()
    for attempt in itertools.count():
        one = draw_try(name, f"{seed}.{attempt}")
        try:
            KINDS[name].check(one)
            tally["right"] += 1
        except UndecidedError:
            tally["undecided"] += 1
            continue
        except UnsupportedNetworkError:  # a change in place that may reach another name
            tally["refused"] += 1
        except Exception as error:
            described = f"{'training' if one.training else 'eval'} mode, {one.run}, {one.example.network}"
            message = f"network {seed} of '{name}' (FUZZ_SEED={seed}; attempt {attempt}): {error}\n{described}"
            raise AssertionError(message) from error
        return tally
    raise AssertionError


@pytest.mark.timeout(24 * 3600 if EXAMPLES else 300)
@pytest.mark.parametrize("name", KINDS)
def test_a_random_network_computes_what_the_reference_computes(name, capsys):
    seeds = [int(SEED)] if SEED else range(EXAMPLES or KINDS[name].count)
    tally: Counter[str] = Counter()
    for seed in seeds:
        tally += try_network(name, seed)
    assert tally["refused"] <= int(len(seeds) * KINDS[name].refuses), dict(tally)
    if EXAMPLES or SEED:
        with capsys.disabled():
            print(f"\n{name}: {dict(tally)}")
