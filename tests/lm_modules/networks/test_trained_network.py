"""`TrainedNetwork`: what it predicts, for which classes, and from which view of a picture."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.transforms.v2 import functional as tv

from maskrobust.augment import FILLS, apply_fill
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import TOKEN_DROPPING, masking_methods, normalise
from maskrobust.lm_modules.networks.architectures import SmallResNet, head_of, with_features
from maskrobust.lm_modules.networks.class_matching import imagenet_names, match_classes
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from tests.conftest import refused
from tests.lm_modules.masking.networks import seeded

NAMES = ("ant", "bee", "cat", "dog", "eel")
IDS = tuple(f"n0000000{place}" for place in range(5))
SHOWN = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), (32, 32), 0.9)


def draw():
    return seeded(lambda: SmallResNet(5).eval())


def trained(network=None):
    return TrainedNetwork("five", network or draw(), SHOWN, 5, class_names=NAMES, wordnet_ids=IDS)


def question(side=48):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    visible = torch.ones(2, 1, side, side, dtype=torch.bool)
    visible[:, :, 10:30, 15:35] = False
    return images, visible, torch.arange(2)


@torch.no_grad()
def test_a_picture_is_brought_to_size_filled_and_normalised():
    images, visible, keys = question()
    shown, seen = SHOWN.resize_masked(images, visible)
    filled = apply_fill("mean", shown, seen, keys=keys, mean=SHOWN.mean)
    expected = draw()(normalise(filled, SHOWN.mean, SHOWN.std))
    torch.testing.assert_close(trained().predictor("mean")(images, visible, keys), expected)
    torch.testing.assert_close(trained()(images), draw()(normalise(SHOWN.resize(images), SHOWN.mean, SHOWN.std)))


@torch.no_grad()
@pytest.mark.parametrize("own", [None, "mean", "mirror"])
@pytest.mark.parametrize("method", ["layer_masking", "layer_masking_mirror"])
def test_hidden_pixels_cannot_matter_under_layer_masking(own, method):
    images, visible, keys = question()
    network = trained(LayerMasking(draw(), padding=own) if own else None)
    predict = network.predictor(method)
    torch.testing.assert_close(predict(images, visible, keys), trained().predictor(method)(images, visible, keys))
    redrawn = torch.where(visible, images, torch.nan)
    assert torch.equal(predict(images, visible, keys), predict(redrawn, visible, keys))


@torch.no_grad()
@pytest.mark.parametrize(
    ("own", "expected"), [(None, "layer_masking"), ("mean", "mean"), ("layer_masking_mirror", "layer_masking_mirror")]
)
def test_a_hole_is_hidden_as_the_network_was_trained_or_by_the_method_that_is_named(own, expected):
    images, visible, keys = question()
    network = trained()
    network.own_method = own
    assert torch.equal(network(images, visible), network.predictor(expected)(images, visible, keys))
    assert torch.equal(network(images, visible, method="black"), network.predictor("black")(images, visible, keys))
    random = network(images, visible, method="uniform_noise", keys=keys)
    assert torch.equal(random, network.predictor("uniform_noise")(images, visible, keys))
    wrapped = trained(LayerMasking(draw(), padding="mirror"))
    assert torch.equal(wrapped(images, visible), network.predictor("layer_masking_mirror")(images, visible, keys))


LOOKING = [name for name, each in FILLS.items() if each.looks_into_hole]
FOR_CNNS = [each for each in masking_methods() if each not in (*LOOKING, TOKEN_DROPPING)]


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("method", FOR_CNNS)
def test_no_hidden_pixel_changes_a_bit_and_a_picture_that_is_all_visible_is_answered_as_a_whole_one(method, side):
    images, visible, _ = question(side)
    network = trained()
    logits = network(images, visible, method=method)
    assert not torch.equal(logits, network(images)) and logits.isfinite().all()
    for repainted in (images.where(visible, torch.nan), images.where(visible, -1e30), images.where(visible, 0.5)):
        assert torch.equal(network(repainted, visible, method=method), logits)
    assert torch.equal(network(images, torch.ones_like(visible), method=method), network(images))


@torch.no_grad()
def test_bytes_are_answered_as_the_numbers_that_they_stand_for_and_a_picture_as_in_any_batch():
    images, visible, _ = question()
    network, pixels = trained(), (images * 255).byte()
    assert torch.equal(network(pixels, visible), network(pixels / 255, visible))
    noise = network(images, visible, method="uniform_noise")
    torch.testing.assert_close(network(images[1:], visible[1:], method="uniform_noise"), noise[1:])


REFUSED = [
    (lambda net, images, visible: net(images * 255, visible), "divide them by 255"),
    (lambda net, images, _: net(images * 255), "divide them by 255"),
    (lambda net, images, visible: net.predictor("black")(images * 255, visible, torch.arange(2)), "divide them by 255"),
    (lambda net, images, _: net(images[0]), "add the batch dimension"),
    (lambda net, images, _: net(images.permute(0, 2, 3, 1)), "permute them"),
    (lambda net, images, visible: net(images, visible[:1]), "one mask"),
    (lambda net, images, _: net(images, method="black"), "no visible"),
    (lambda net, images, visible: net(images, visible, method="blak"), "did you mean black?"),
    (lambda net, images, visible: LayerMasking(net)(images, visible), "network(images, visible)"),
]


@pytest.mark.parametrize(("call", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_what_a_network_cannot_take_is_refused_in_one_sentence(call, named):
    images, visible, _ = question()
    with refused(InputError, named):
        call(trained(), images, visible)


@torch.no_grad()
def test_the_datas_classes_come_first_and_the_others_after_them_or_not_at_all():
    images, visible, keys = question()
    network = trained()
    logits = network(images)
    some, only = network.select_outputs([3, 1]), network.select_outputs([3, 1], only=True)
    assert torch.equal(some(images), logits[:, [3, 1, 0, 2, 4]]) and torch.equal(only(images), logits[:, [3, 1]])
    assert some.class_names == ("dog", "bee", "ant", "cat", "eel") and only.wordnet_ids == (IDS[3], IDS[1])
    assert (some.num_classes, only.num_classes) == (5, 2)
    asked = network.predictor("black")(images, visible, keys)
    assert torch.equal(only.predictor("black")(images, visible, keys), asked[:, [3, 1]])
    again = only.select_outputs([0])
    assert again.class_names is not None and again.class_names[0] == "ant" and again.num_classes == 5


@pytest.mark.parametrize("outputs", [[1, 1], [5], [-1]])
def test_outputs_that_are_not_there_or_come_twice_are_refused(outputs):
    with pytest.raises(InputError, match="'five'"):
        trained().select_outputs(outputs)


def test_names_must_be_one_for_each_output():
    with pytest.raises(InputError, match="class_names"):
        TrainedNetwork("five", draw(), SHOWN, 5, class_names=NAMES[:4])


class Answering(nn.Module):
    """Returns what it is given."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _images):
        return self.answer


@pytest.mark.parametrize("answer", [torch.zeros(2, 6), torch.zeros(2, 4), torch.zeros(2), (torch.zeros(2, 5),)])
@pytest.mark.parametrize("answers", [None, [1, 0]])
def test_what_is_no_logit_for_each_output_is_refused(answer, answers):
    images, visible, keys = question()
    network = TrainedNetwork("five", Answering(answer), SHOWN, 5, answers=answers)
    with pytest.raises(InputError, match="'five' must return"):
        network(images)
    with pytest.raises(InputError, match="'five' must return"):
        network.predictor("black")(images, visible, keys)


@torch.no_grad()
def test_bf16_is_near_float32_and_gives_float32():
    images, visible, keys = question()
    network = trained()
    exact = network.predictor("black")(images, visible, keys)
    rough = (
        network.configured(precision="bf16").select_outputs([0, 1, 2, 3, 4]).predictor("black")(images, visible, keys)
    )
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.1)


SMALL = Preprocessing(size=(12, 12))
SIZES = [(12, 12), (40, 40), (9, 15)]


def picture(height=24, width=24, seed=0):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def box(height=24, width=24):
    visible = torch.ones(2, 1, height, width, dtype=torch.bool)
    visible[0, :, 5:14, 7:19] = False
    return visible


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_without_a_hole_is_torchvisions_central_crop_and_resize(size, interpolation):
    shown = Preprocessing(size=size, crop=0.75, interpolation=interpolation)
    scale = 0.75 * min(24 / size[0], 24 / size[1])
    cut = tv.center_crop(picture(), [round(side * scale) for side in size])
    mode = tv.InterpolationMode(interpolation)
    expected = tv.resize(cut, list(size), interpolation=mode, antialias=True).clamp(0, 1)
    everything = torch.ones(2, 1, 24, 24, dtype=torch.bool)
    cropped, everything = shown.cut(picture()), shown.cut(everything)
    assert torch.equal(shown.resize(cropped), expected)
    assert torch.equal(shown.resize_masked(cropped, everything)[0], expected)
    assert shown.resize_masked(cropped, everything)[1].all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_hidden_has_no_part_in_what_is_visible(size, interpolation):
    shown = Preprocessing(size=size, interpolation=interpolation)
    visible = box()
    images, seen = shown.resize_masked(picture(), visible)
    for other in (picture(seed=1), torch.full_like(picture(), torch.nan)):
        redrawn, also_seen = shown.resize_masked(torch.where(visible, picture(), other), visible)
        assert torch.equal(seen, also_seen) and not seen[0].all()
        assert torch.equal(images.where(seen, 0), redrawn.where(seen, 0))


def test_a_picture_that_stands_for_a_batch_is_interpolated_once(monkeypatch):
    shown, visible = Preprocessing(size=(15, 15), interpolation="bicubic"), box()
    one, interpolate = picture()[:1], F.interpolate
    expected, sizes = shown.resize_masked(one.repeat(2, 1, 1, 1), visible), list[int]()

    def counted(images, *size, **options):
        sizes.append(len(images))
        return interpolate(images, *size, **options)

    monkeypatch.setattr(F, "interpolate", counted)
    found = shown.resize_masked(one.expand(2, -1, -1, -1), visible)
    assert all(map(torch.equal, found, expected))
    assert sizes == [2, 2, 1]  # holes, pictures with holes, the picture


@pytest.mark.parametrize("size", SIZES)
def test_a_hole_keeps_its_place_and_its_size(size):
    visible = box()
    _, seen = Preprocessing(size=size).resize_masked(picture(), visible)
    cut = Preprocessing(size=size).cut(visible)
    expected = F.interpolate(cut.float(), size, mode="area") >= 0.5
    assert (seen != expected).float().mean() < 0.06
    assert seen.float().mean() == pytest.approx(cut.float().mean().item(), abs=0.04)


def test_a_picture_of_the_size_already_stays_as_it_is_whatever_the_crop_and_a_photograph_may_be_cut_alone():
    images, visible = picture(), box()
    for shown in (Preprocessing(crop=0.5), Preprocessing(size=(24, 24), crop=0.5)):
        assert all(map(torch.equal, shown.resize_masked(images, visible), (images, visible)))
        assert torch.equal(shown.resize(images), images)
        assert torch.equal(shown.cut(images), images[:, :, 6:18, 6:18])


def test_changes_are_as_a_command_line_gives_them():
    changed = SMALL.with_changes({"size": 32, "mean": [0.5, 0.5, 0.5], "crop": 1, "interpolation": "bicubic"})
    assert changed == replace(SMALL, size=(32, 32), mean=(0.5, 0.5, 0.5), crop=1, interpolation="bicubic")
    assert SMALL.with_changes({"size": None}).size is None


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.5]}, {"mean": [2, 0, 0]}, {"std": [0.0, 1, 1]}, {"std": ["a", 1, 1]}, {"size": 0},
        {"size": [3, 4, 5]}, {"size": 10**6}, {"crop": 0}, {"crop": 1.5}, {"interpolation": "nearest"}, {"resize": 4},
        {"size": True}, {"std": [float("nan"), 1, 1]},
    ],
)  # fmt: skip
def test_what_no_preprocessing_has_is_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        SMALL.with_changes(changes)


IMAGENET = imagenet_names(1000)


def network(outputs=1000, names=None, ids=None):
    return TrainedNetwork("net", nn.Identity(), Preprocessing(), outputs, class_names=names, wordnet_ids=ids)


def imagenet():
    return network(1000, IMAGENET.class_names, IMAGENET.wordnet_ids)


def test_wordnet_ids_are_found_where_timm_has_them():
    ids = ["n02124075", "n01440764", "n15075141"]
    assert match_classes(ids, imagenet()) == [ImageNetInfo().label_names().index(each) for each in ids] == [285, 0, 999]


def test_names_are_found_whatever_their_case_and_spaces_and_by_their_first_synonym():
    classes = ["Goldfish", "tiger_cat", "Egyptian  cat", "goldenRetriever", "tench, Tinca tinca"]
    assert match_classes(classes, imagenet()) == [1, 282, 285, 207, 0]


def test_of_two_outputs_of_one_name_none_is_taken_unless_it_is_written_as_the_networks():
    assert match_classes(["cardigan"], imagenet()) == [474]  # the garment; 264 is "Cardigan, Cardigan Welsh corgi"
    assert match_classes(["maillot", "maillot, tank suit"], imagenet()) == [638, 639]
    with pytest.raises(InputError, match="'Cardigan'"):
        match_classes(["Cardigan"], imagenet())


def test_numbers_are_indices_where_all_are():
    assert match_classes(["7", "3"], imagenet()) == [7, 3]
    assert match_classes(["3", "0"], network(10)) == [3, 0]
    assert match_classes(["1", "0"], network(2, ("0", "1"))) == [1, 0]  # names of the network's own come first
    for classes in (["7", "bird"], ["7", "1000"], ["7", "-1"]):
        with pytest.raises(InputError, match="'net'"):
            match_classes(classes, imagenet())


def test_a_network_that_says_nothing_takes_as_many_classes_in_their_order():
    assert match_classes(["b", "a", "c"], network(3)) == [0, 1, 2]
    with pytest.raises(InputError, match="'net' has 4 classes but the data have 3"):
        match_classes(["b", "a", "c"], network(4))


def test_a_file_says_index_id_or_name_and_may_know_more_classes():
    given: dict[str, int | str] = {"one": 5, "two": "n02124075", "three": "tench", "other": 5}
    assert match_classes(["two", "one", "three"], imagenet(), given) == [285, 5, 0]
    assert match_classes(["one"], network(10), given) == [5]


@pytest.mark.parametrize(
    ("classes", "given", "named"),
    [
        (["tench", "unicorn", "griffin"], None, "'unicorn', 'griffin' of the data's 3"),
        (["crane"], None, "'crane'"),
        (["tench", "n01440764"], None, "'tench', 'n01440764' are all output 0"),
        (["tench"], {}, "'tench'"),
        (["tench"], {"tench": 1000}, "'tench'"),
        (["tench", "eel"], {"tench": 4, "eel": 4}, "output 4"),
        ([f"class {place}" for place in range(5)], None, "and 2 more"),
    ],
)
def test_what_matches_none_or_several_or_the_same_output_is_named(classes, given, named):
    with refused(InputError, named):
        match_classes(classes, imagenet(), given)


class Tokens(nn.Module):
    """Its head names a class for each position, and the mean of these is returned."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, images):
        return self.head(images.flatten(2).mT).mean(dim=1)


class Spare(nn.Module):
    """Has no head, and a linear layer that it does not call."""

    def __init__(self):
        super().__init__()
        self.network, self.spare = (
            nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(2, 5),
        )

    def forward(self, images):
        return self.network(images)


@torch.no_grad()
@pytest.mark.parametrize(
    "build",
    [Tokens, Spare, lambda: Spare().network, lambda: nn.Sequential(Spare().network, nn.Linear(5, 10), nn.GLU())],
)
def test_features_of_a_network_whose_last_linear_layer_is_no_head_are_its_outputs(build):
    network = trained(seeded(build).eval())
    logits, features = network.with_features("black")(*question())
    assert torch.equal(features, logits) and torch.equal(logits, network.predictor("black")(*question()))


class Named(nn.Module):
    """Calls its head by the name of the argument."""

    def __init__(self):
        super().__init__()
        self.body, self.head = Spare().network, nn.Linear(5, 4)

    def forward(self, images):
        return self.head(input=self.body(images))


@torch.no_grad()
def test_a_head_is_heard_that_is_given_its_features_by_name():
    network, images = seeded(Named).eval(), torch.rand(2, 3, 8, 8)
    logits, features = with_features(network, 4)(images)
    assert torch.equal(features, network.body(images)) and torch.equal(logits, network(images))


@torch.no_grad()
@pytest.mark.parametrize("method", ["black", "layer_masking", "token_dropping"])
def test_the_head_makes_the_logits_of_the_features(method):
    if method == "token_dropping":
        size = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 5}
        network = seeded(lambda: VisionTransformer(**size).eval())
    else:
        network = draw()
    asked = trained(network).select_outputs([4, 2])
    passes = []
    network.register_forward_pre_hook(lambda *_: passes.append(None))
    logits, features = asked.with_features(method)(*question())
    assert len(passes) == 1 and torch.equal(logits, asked.predictor(method)(*question()))
    head = network.get_submodule(str(head_of(network)))
    torch.testing.assert_close(head(features)[:, [4, 2, 0, 1, 3]], logits)
    assert not head._forward_pre_hooks
