"""Names of families and fills, what a configuration may say about them, and every refusal."""

import sys

import pytest
import torch

from maskrobust.augment import (
    FAMILIES,
    FILLS,
    Batch,
    RandomMasking,
    SilhouetteBank,
    apply_fill,
    build_family,
    check_visible,
    choose,
    draw,
    enclosing_circles,
    family_needs,
    fill,
    fill_black,
    fill_mean,
    mask_family,
    read_choice,
    read_families,
    read_fills,
    rectangles,
    silhouettes,
)
from maskrobust.augment.families.mask_family import check_hidden_fraction
from tests.conftest import refused

IDS = torch.arange(6)
BATCH = Batch(IDS, torch.rand(6, 3, 8, 12), torch.zeros(6, 1, 8, 12, dtype=torch.bool), IDS)
OWN = """
import torch
from maskrobust import draw, fill, mask_family

@mask_family("{name}_stripes")
def stripes(keys, height, width, *, period: int = 4):
    return (torch.arange(width) % period > 0).expand(len(keys), 1, height, -1)

@fill("{name}_grey")
def fill_grey(images, visible, *, value: float = 0.5):
    return draw(images, visible, torch.full_like(images, value))
"""


pytestmark = pytest.mark.usefixtures("registries")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module of the user's own that can be imported, and has not been."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_says_by_its_parameters_what_it_asks_for():
    @mask_family("corner")
    def corner(object_mask, hidden_fraction, *, side=2):
        visible = torch.ones_like(object_mask)
        visible[..., :side, : round(hidden_fraction[1] * 10)] = False
        return visible

    assert FAMILIES["corner"].function is corner and family_needs("corner") == {"object_mask"}
    visible = build_family({"corner": {"side": 3}}, hidden_fraction=(0.0, 0.4))(IDS, BATCH)
    assert (~visible[:, 0]).nonzero().amax(dim=0).tolist() == [5, 2, 3]


def test_a_fill_gets_what_it_names_and_its_options():
    @fill("tinted", looks_into_hole=True)
    def tinted(images, visible, mean, *, strength=0.0):
        return draw(images, visible, images * (1 - strength) + mean[0] * strength)

    visible = build_family("patches", patch_size=4, hidden_fraction=(0.5, 0.5))(IDS, BATCH)
    assert torch.equal(apply_fill("tinted", BATCH.images, visible, keys=IDS, mean=(0.25,)), BATCH.images)
    policy = RandomMasking(build_family("patches", patch_size=4), {"tinted": {"strength": 1}}, mean=(0.25, 0.5, 0.5))
    shown = policy(IDS, BATCH)
    assert torch.equal(shown.images, torch.where(shown.visible, BATCH.images, 0.25)) and not shown.visible.all()


def test_a_name_that_comes_twice_is_an_error_but_a_module_may_be_loaded_again():
    def register(value):
        @fill("twice")
        def twice(images, visible):
            return draw(images, visible, torch.full_like(images, value))

    register(0.0)
    register(1.0)
    assert (apply_fill("twice", BATCH.images, ~BATCH.object_mask, keys=IDS, mean=()) == BATCH.images).all()
    assert (apply_fill("twice", BATCH.images, BATCH.object_mask, keys=IDS, mean=()) == 1).all()
    with refused(ValueError, __name__, match="'twice' is registered by"):
        fill("twice")(fill_black)


@pytest.mark.parametrize(
    ("name", "function", "named"),
    [
        ("my.stripes", lambda keys: keys, "my.stripes"),
        ("stripes", lambda keys, period: keys + period, "'period'"),
        ("stripes", lambda keys, **options: (keys, options), "(keys, **options)"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_at_once(name, function, named):
    with refused(ValueError, named, match="mask family"):
        mask_family(name)(function)
    assert "stripes" not in FAMILIES


def test_a_choice_is_a_name_or_names_with_weights_or_options():
    assert read_choice("black", "fill") == {"black": (1.0, {})}
    given = {"black": 2, "mean": {}, "blur": {"weight": 0.5, "radius": 3}}
    assert read_choice(given, "fill") == {"black": (2.0, {}), "mean": (1.0, {}), "blur": (0.5, {"radius": 3})}


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ("blue", ["fill", "'blue'", "black, mean, ", "other_image"]),
        ({"black": -1.0}, ["fill 'black'", "-1.0"]),
        ({"black": "much"}, ["fill 'black'", "much"]),
        ({}, ["fill", "above 0"]),
        ({"black": {"radius": 3}}, ["fill 'black'", "no options", "'radius'"]),
    ],
    ids=str,
)
def test_a_choice_that_chooses_nothing_known_is_refused(choice, named):
    with refused(ValueError, *named, match="fill"):
        read_fills(choice)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("rectangles", {"counts": 3}, ["hidden_fraction, aspect_ratio, count", "'counts'"]),
        ("rectangles", {"count": 0}, ["count", "at least 1"]),
        ("rectangles", {"count": "three"}, ["count of mask_family 'rectangles'", "int", "'three'"]),
        ("rectangles", {"aspect_ratio": [2.0, 1.0]}, ["aspect_ratio", "(2.0, 1.0)"]),
        ("rectangles", {"hidden_fraction": [0.5, 1.5]}, ["hidden_fraction", "(0.5, 1.5)"]),
        ("patches", {"patch_size": 0}, ["patch_size", "got 0"]),
    ],
    ids=str,
)
def test_an_option_is_checked_before_anything_is_drawn(name, options, named):
    with refused(ValueError, *named, match=named[0]):
        read_families({name: options})


def test_lists_of_a_configuration_become_what_the_function_takes():
    (chosen,) = read_families({"rectangles": {"aspect_ratio": [1, 2], "count": 2}})
    assert chosen.options == {"aspect_ratio": (1.0, 2.0), "count": 2} and chosen.entry.function is rectangles


def test_a_name_with_a_module_is_imported_from_it(module):
    name, grey = f"{module}.{module}_stripes", f"{module}.{module}_grey"
    assert not FAMILIES.knows(name) and module not in sys.modules
    visible = build_family({name: {"period": 3}})(IDS, BATCH)
    assert torch.equal(visible[0, 0, 0], torch.arange(12) % 3 > 0)
    assert FAMILIES.knows(name) and FAMILIES.knows(f"{module}_stripes") and FILLS.knows(grey)
    filled = apply_fill(grey, BATCH.images, visible, keys=IDS, mean=(0.0,) * 3)
    assert torch.equal(filled, torch.where(visible, BATCH.images, 0.5))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("nowhere.stripes", ["'nowhere.stripes'", "cannot be imported", "PYTHONPATH"]),
        ("{module}.dots", ["registers no 'dots'", "@mask_family('dots')"]),
        ("{module}.patches", ["registers no 'patches'"]),
    ],
)
def test_a_module_that_does_not_hold_the_name_is_refused(module, name, named):
    with refused(ValueError, *named, match="mask_family"):
        build_family(name.format(module=module))


def test_what_a_family_draws_is_checked():
    @mask_family("flat")
    def flat(keys, height, width):
        return torch.ones(len(keys), height, width, dtype=torch.bool)

    with pytest.raises(ValueError, match="visible must have shape"):
        build_family("flat")(IDS, BATCH)


KEYS = torch.arange(2)
IMAGES = torch.zeros(2, 3, 4, 5)
VISIBLE = torch.ones(2, 1, 4, 5, dtype=torch.bool)
BANK = SilhouetteBank(VISIBLE, torch.zeros(2, dtype=torch.int64), KEYS)
NO_OBJECT = Batch(KEYS, IMAGES, ~VISIBLE, KEYS)
ONE = Batch(KEYS, IMAGES, VISIBLE, KEYS)
HALF = (0.5, 0.5)

REFUSALS = [
    (lambda: check_visible(IMAGES, VISIBLE.float()), "torch.float32"),
    (lambda: check_visible(IMAGES, VISIBLE.to("meta")), "meta"),
    (lambda: check_hidden_fraction((0.7, 0.2)), "(0.7, 0.2)"),
    (lambda: rectangles(KEYS, 4, 5, hidden_fraction=HALF, count=5), "got 5"),
    (lambda: SilhouetteBank.from_batches([NO_OBJECT]), "none"),
    (lambda: silhouettes(KEYS, 5, 4, bank=BANK), "(5, 4)"),
    (lambda: fill_mean(IMAGES, VISIBLE, [0.5, 0.5]), "got 2"),
    (lambda: RandomMasking(build_family("silhouettes", bank=BANK), probability=1.5), "1.5"),
    (lambda: RandomMasking(build_family("patches"), "mean", mean=(124, 116, 104)), "(124, 116, 104)"),
    (lambda: enclosing_circles(VISIBLE.to(torch.uint8)), "torch.uint8"),
    (lambda: SilhouetteBank.from_batches([ONE, ONE._replace(object_mask=VISIBLE.transpose(2, 3))]), "(4, 5), (5, 4)"),
    (lambda: apply_fill("mean", IMAGES, VISIBLE, keys=KEYS, mean=[float("nan")] * 3), "nan"),
    (lambda: choose(KEYS, [1.0, -2.0]), "-2.0"),
]


@pytest.mark.parametrize(("call", "given"), REFUSALS, ids=[f"{i}-{given}" for i, (_, given) in enumerate(REFUSALS)])
def test_a_refusal_is_one_sentence_that_names_what_was_given(call, given):
    with refused((ValueError, TypeError), given):
        call()
