"""`maskrobust evaluate` and `predict` of a segmenter's checkpoint, from a data module of the user's own."""

import itertools
import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from maskrobust import Batch, MaskRobustSegmenter
from maskrobust.augment import blobs, fold_in, sample_keys
from maskrobust.lm_modules.reliance.pixels import count_pixels
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.cli import main
from maskrobust.train.data.loading import collate
from maskrobust.train.evaluate import kept
from tests.lm_modules.training.test_segmenter import CLASSES, IGNORED, SIDE, TinyUNet, batch, segmenter
from tests.train.test_cli import sentence_of
from tests.trainers import quiet_trainer

BESIDE = {"measure": "pixel_iou", "parameters": {"hidden_fraction": 0.5, "distance": "1-2 px"}, "compared_with": ""}
IMAGES, METHODS = 10, ("black", "layer_masking")


class PixelLabels(pl.LightningDataModule):
    """Ten small images of four bands, every other one with pixels that hold no data."""

    mean, std = (0.5,) * 4, (0.25,) * 4
    class_names = ("red", "green", "blue")

    def __init__(self, holes: bool = True) -> None:
        super().__init__()
        self.holes = holes

    def test_dataloader(self):
        return DataLoader([images(self.holes).select(each) for each in range(IMAGES)], batch_size=4, collate_fn=collate)


def images(holes: bool = True) -> Batch:
    found = batch(IMAGES, seed=3)
    found.visible[::2] = True
    return found if holes else found._replace(visible=None)


def trained(path, name, **options) -> MaskRobustSegmenter:
    """A network that was trained for some steps, at a path, and its checkpoint without a name of the architecture."""
    model = segmenter(learning_rate=0.02, **options)
    data = DataLoader([batch(16, seed=1).select(each) for each in range(16)], batch_size=8, collate_fn=collate)
    trainer = quiet_trainer(max_steps=40)
    trainer.fit(model, data, data)
    trainer.save_checkpoint(path / f"{name}.ckpt")
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture(scope="module")
def models(folder):
    return {name: trained(folder, name, masking=name) for name in ("none", "layer_masking")}


def command(folder, names, out, *options):
    networks = [f"{TinyUNet.__module__}.TinyUNet:{folder / name}.ckpt" for name in names]
    data = f"--data={PixelLabels.__module__}.PixelLabels"
    methods = f"--methods=[{', '.join(METHODS)}]"
    return ["evaluate", f"--network={json.dumps(networks)}", data, methods, f"--out={out}", *options]


@pytest.fixture(scope="module")
def evaluated(folder, models):
    main(command(folder, models, folder / "out"))
    return json.loads((folder / "out" / "reliance.json").read_text())


def rows_of(content):
    return [Row(**row) for row in content["rows"]]


@torch.no_grad()
def expected(model, method, fraction, near):
    """IoU of the pixels next to a hole (or of all), one image after the other, by torchmetrics."""
    metric, one = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORED), images()
    for number in range(IMAGES):
        each = one.select(slice(number, number + 1))
        keys = sample_keys(0, each.ids)
        drawn = blobs(fold_in(keys, 0), *each.images.shape[2:], hidden_fraction=(fraction, fraction))
        visible = drawn & each.visible
        logits = model.trained_network().predictor(method)(each.images, visible, keys)
        near_hole = torch.zeros_like(visible)
        for down, across in itertools.product(range(-2, 3), repeat=2):
            if down**2 + across**2 <= 4:  # Euclidean
                padded = F.pad((~visible).float(), (2, 2, 2, 2))
                near_hole |= padded[:, :, 2 + down : 2 + down + SIDE, 2 + across : 2 + across + SIDE] > 0
        counted = visible & near_hole if near else visible
        metric.update(logits.argmax(dim=1), each.labels.where(counted[:, 0], IGNORED))
    return float(metric.compute())


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_rows_are_iou_of_torchmetrics_by_way_of_hiding_fraction_and_distance(evaluated, folder, models, fraction, near):
    where = {"hidden_fraction": fraction, "distance": "1-2 px" if near else "any"}
    for network, model in zip(evaluated["networks"], models.values(), strict=True):
        for method in METHODS:
            about = {"network": network, "method": method, "measure": "pixel_iou", "parameters": where}
            row = only(rows_of(evaluated), compared_with="", **about)
            assert row.value == pytest.approx(expected(model, method, fraction, near), rel=1e-6)
            assert row.low < row.value < row.high and row.images == IMAGES


def test_holes_depend_on_the_seed_and_the_sample_alone(models):
    networks, every = {"a": models["none"].trained_network()}, images()
    one, again, other = (count_pixels(networks, METHODS, (0.5,), every, seed=seed) for seed in (1, 1, 2))
    alone = count_pixels(networks, METHODS, (0.5,), every.select(slice(3, 4)), seed=1)
    for key, counts in one.items():
        assert np.array_equal(counts, again[key]) and not np.array_equal(counts, other[key])
        assert np.array_equal(counts[3:4], alone[key])


def test_classes_change_with_the_paint_and_networks_and_methods_are_compared(evaluated):
    changed = select(rows_of(evaluated), measure="changed_by_paint", compared_with="")
    beside, beyond = (
        select(changed, network=evaluated["networks"][0], parameters={"hidden_fraction": 0.5, "distance": distance})[0]
        for distance in ("1-2 px", "6-10 px")
    )
    assert beside.method == "" and beside.low > 0.05 and beyond.value == 0  # the network sees 5 px far
    first, second = evaluated["networks"]
    pairs = {(row.network, row.method, row.compared_with, row.compared_method) for row in rows_of(evaluated)}
    assert {(second, "black", first, ""), (first, "layer_masking", first, "black"), (second, "", first, "")} <= pairs


def test_the_command_says_it_in_words_and_its_page_has_the_numbers(folder, models, capsys):
    main(command(folder, ["none"], folder / "said"))
    lines, page = capsys.readouterr().out.splitlines(), (folder / "said" / "report.html").read_text()
    told = " ".join(" ".join(lines).split())
    row = only(rows_of(json.loads((folder / "said" / "reliance.json").read_text())), **BESIDE, method="black")
    assert f"with half of the image hidden, the IoU of none.ckpt is {100 * row.value:.1f} → " in told
    assert "What a hole is painted with changes the class of" in told and "(1-2 px: [" in told
    assert "with no further pixel hidden" in told and "Pixels that change with the paint" in page
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("none.ckpt, 50% hidden")) :][:4]
    assert max(map(len, table)) <= 80 and f"{100 * row.value:.1f}" in table[1] and "changed by paint" in table[3]
    assert (folder / "said" / "reliance.csv").read_text().count("pixel_iou") > 10


def test_an_evaluation_that_was_stopped_asks_about_the_rest_alone(folder, models, evaluated, monkeypatch):
    out, make, asked = folder / "again", kept.folder_of, []

    def stopping(store, config, of, ask):
        def counting(on_device, to):
            asked.append(len(on_device.ids))
            if len(asked) == 3:
                raise KeyboardInterrupt
            ask(on_device, to)

        return make(store, config, of, counting)

    monkeypatch.setattr("maskrobust.train.evaluate.pixels.folder_of", stopping)
    with pytest.raises(KeyboardInterrupt):
        main(command(folder, models, out))
    assert asked == [4, 4, 2]
    main(command(folder, models, out))
    assert asked == [4, 4, 2, 2]
    again = json.loads((out / "reliance.json").read_text())
    assert again["rows"] == evaluated["rows"] and not [*out.glob(".*")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plan.scenes=4"], "evaluated by methods and plan.hidden_fractions, got plan.scenes"),
        (["--quick"], "got quick"),
        (["--data.class_names=[a]"], None),
    ],
)
def test_options_about_images_with_one_class_are_refused_in_a_sentence(folder, models, capsys, options, said):
    assert (said or "class_names") in sentence_of(command(folder, ["none"], folder / "no", *options), capsys)


def test_networks_of_pixels_and_of_images_are_not_compared_and_others_refuse_the_checkpoint(folder, models, capsys):
    both = command(folder, ["none"], folder / "no")
    both[1] = f"--network={json.dumps([json.loads(both[1].removeprefix('--network='))[0], 'small_resnet:random'])}"
    assert "must all classify pixels, or none" in sentence_of(both, capsys)
    own = f"{TinyUNet.__module__}.TinyUNet:{folder / 'none.ckpt'}"
    for others in (["explain", "--data=Cues", f"--out={folder / 'no'}"], ["export", f"--onnx={folder / 'no.onnx'}"]):
        told = sentence_of([*others, f"--network={own}"], capsys)
        assert "of a MaskRobustSegmenter, which answers for each pixel; evaluate and predict take it" in told
