"""`maskrobust explain`: known truth, the same holes for all, a page that shows what its labels say."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from maskrobust import Segments, ask, build_network, load_network
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.overlays import AGAINST_CLASS, FOR_CLASS, segment_borders
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder
from maskrobust.train.explain import measure
from maskrobust.train.explain.config import QUICK, parse_config
from maskrobust.train.explain.pictures import file_name, list_pictures
from tests.train.report.pages import Page
from tests.train.test_cli import sentence_of

SIZE = 32
NETWORK = "small_resnet:random"
SHORT = ["--segments=[patches]", f"--image_size={SIZE}", "--patch_size=8", "--plan.samples=64", "--plan.window=16"]
SHORT += ["--plan.batch_size=128"]


EXPLAINED = ["--plan.explainers=[lime, occlusion]", "--targets=top2"]


class Additive(nn.Module):
    """Two logits, each a weighted sum of the red pixels: the effect of a segment is the sum over its own."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        pixels = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weights", pixels / 100)

    def forward(self, images):
        return torch.einsum("bhw,khw->bk", images[:, 0], self.get_buffer("weights"))


def photographs(folder, count=2):
    """Images of bright blocks of colour, called "a", "b" and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        blocks = np.random.default_rng(number).integers(60, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{'abc'[number]}.png")
    return folder


def test_folders_of_images_are_searched_at_any_depth(tmp_path):
    inside = photographs(tmp_path / "more" / "inside")
    assert list_pictures([tmp_path, inside / "a.png"]) == {"a": inside / "a.png", "b": inside / "b.png"}


def explain(folder, *options, network=NETWORK):
    out = folder / "out"
    images = folder / "images"
    main(["explain", f"--network={network}", f"--images={images}", f"--out={out}", *SHORT, *options])
    return out


def arrays_of(out):
    with np.load(out / "explanations.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """Two images, three methods, both explainers, two classes."""
    folder = tmp_path_factory.mktemp("explained")
    photographs(folder / "images")
    return explain(folder, *EXPLAINED)


def test_an_additive_network_is_recovered(tmp_path):
    """Windows are the patches, so occlusion is exact."""
    photographs(tmp_path / "images", 1)
    options = ["--methods=[black]", "--plan.scale=logit", "--plan.window=8", "--targets=[1, 0]"]
    found = arrays_of(explain(tmp_path, *options, network=f"{__name__}.Additive"))
    picture = torch.from_numpy(found["a/picture"]).permute(2, 0, 1) / 255
    red = Additive().get_buffer("weights") * picture[0] / 0.229  # the standard deviation of ImageNet's red
    segments = found["a/segments/patches"]
    truth = np.array([[float(red[k][torch.from_numpy(segments == m)].sum()) for k in (1, 0)] for m in range(16)])
    np.testing.assert_allclose(found["a/explanations/patches/occlusion/scores"][0, 0], truth, atol=1e-5)
    lime = found["a/explanations/patches/lime/scores"][0, 0]  # which a ridge shrinks
    assert all(np.corrcoef(lime[:, k], truth[:, k])[0, 1] > 0.98 for k in range(2))
    assert (found["a/explanations/patches/lime/r_squared"] > 0.9).all()


def test_all_networks_are_asked_about_the_same_holes_of_the_same_picture(tmp_path):
    photographs(tmp_path / "images", 1)
    torch.save(load_network("small_resnet:random").network.state_dict(), tmp_path / "other.pt")
    networks = f"[{NETWORK}, 'small_resnet:{tmp_path / 'other.pt'}']"
    options = ["--methods=[uniform_noise, layer_masking]", "--plan.explainers=[lime]", "--plan.scale=probability"]
    out = explain(tmp_path, *options, network=networks)
    found = arrays_of(out)
    answers, z = found["a/answers/patches/drawn/values"], torch.from_numpy(found["a/answers/patches/drawn/visible"])
    assert answers.shape == (2, 2, 64, 3) and np.array_equal(answers[0], answers[1])
    image = torch.from_numpy(found["a/picture"]).permute(2, 0, 1) / 255
    queries = Segments(torch.from_numpy(found["a/segments/patches"])[None]).queries(0, z)
    expected = ask(load_network(NETWORK).predictor("layer_masking"), image, queries)
    np.testing.assert_allclose(answers[0, 1], expected[:, found["a/classes"]], atol=1e-6)
    assert np.array_equal(expected[0].argsort()[::-1][:3], found["a/classes"])
    assert len(Page((out / "report.html").read_text()).tables["explanations"]) == 1 + 2 * 3


def test_rows_are_those_of_the_arrays(explained):
    found = arrays_of(explained)
    content = json.loads((explained / "explanations.json").read_text())
    about = {"image": "b", "segments": "patches", "explainer": "lime", "class": str(found["b/classes"][1])}
    (row,) = (
        each
        for each in content["rows"]
        if each["measure"] == "r_squared" and each["method"] == "mean" and each["parameters"] == about
    )
    assert row["value"] == pytest.approx(found["b/explanations/patches/lime/r_squared"][0, 1, 1])


def test_each_overlay_shows_the_scores_that_its_label_says(explained):
    found = arrays_of(explained)
    page = Page((explained / "report.html").read_text())
    pictures, name = page.pictures(), found["b/classes"][0]
    segments = found["b/segments/patches"]
    inside = ~segment_borders(segments)
    scores = found["b/explanations/patches/occlusion/scores"][0, :, :, 0]  # the last explainer of the page
    for place, title in enumerate(("Black fill", "Mean colour fill", "Layer masking")):
        overlay = pictures[f"b, {name}, {title}: scores"][-1]
        strength = np.abs(scores[place]) / np.abs(scores[place]).max()
        for segment in range(16):
            pixels = overlay[(segments == segment) & inside]
            colour = FOR_CLASS if scores[place, segment] > 0 else AGAINST_CLASS
            assert (pixels[:, 3] == pixels[0, 3]).all()
            assert pixels[0, 3] / 255 == pytest.approx(0.85 * strength[segment], abs=0.02)
            assert pixels[0, 3] == 0 or tuple(pixels[0, :3]) == colour
        alone = pictures[f"b, {name}, {title}: strongest segments"][-1][..., 3] == 0
        highest = scores[place][np.unique(segments[alone])]  # 2 of 16 are nearest to 15 %; a window hides four alike
        np.testing.assert_allclose(np.sort(highest), np.sort(scores[place])[-2:], rtol=1e-9)


def test_the_page_has_a_row_for_each_image_and_loads_nothing(explained):
    text = (explained / "report.html").read_text()
    page = Page(text)
    assert page.tables["explanations"][0][1:4] == ["Black fill", "Mean colour fill", "Layer masking"]
    assert len(page.tables["explanations"]) == 1 + 2 * 2 * 2
    rows = [each["class"] for tag, each in page.elements if tag == "tr" and "view" in each.get("class", "")]
    assert sorted(rows) == sorted(2 * [f"view is-1-{e} is-2-1 is-3-{k}" for e in (1, 2) for k in (1, 2)])
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements} and "http" not in text.replace(
        "http-equiv", ""
    )
    under = "black fill, mean colour fill and layer masking"
    assert page.texts["headline"] == f"What predictions for 2 images rest on, under {under}"


def test_a_quick_look_says_what_it_leaves_out(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(measure, "rank_zero_info", said.append)
    photographs(tmp_path / "images", 1)
    found = arrays_of(explain(tmp_path, "--quick", "--plan.design=independent", "--patch_size=null"))
    assert said == [QUICK]
    assert found["a/answers/patches/drawn/values"].shape[:3] == (1, 3, 64)  # as told on the command line
    assert len(np.unique(found["a/segments/patches"])) == 49
    assert not [name for name in found if "occlusion" in name]
    settings = json.loads((tmp_path / "out" / "explanations.json").read_text())["settings"]
    assert settings["quick"] and settings["patch_size"] == "image side / 7" and "window" not in settings
    assert f"Q{QUICK[1:]}." in (tmp_path / "out" / "report.html").read_text()


def test_a_yaml_holds_every_option_and_the_command_line_wins_wherever_it_stands(tmp_path):
    photographs(tmp_path / "images", 1)
    given = {"network": NETWORK, "images": str(tmp_path / "images"), "methods": ["mean"], "preprocess": {"size": 40}}
    given |= {"plan": {"scale": "logit", "explainers": ["lime"]}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "other.yaml").write_text("plan: {scale: probability}\ntargets: [3]\n")
    configs = [f"--config={tmp_path / name}.yaml" for name in ("one", "other")]
    main(["explain", *SHORT, "--plan.explainers=[occlusion]", *configs, f"--out={tmp_path / 'out'}"])
    content = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert (content["networks"], content["methods"]) == ([NETWORK], ["mean"])
    settings = {"scale": "probability", "explainers": ["occlusion"], "targets": [3], "samples": 64}
    assert content["settings"].items() >= settings.items()
    found = arrays_of(tmp_path / "out")
    image = torch.from_numpy(found["a/picture"]).permute(2, 0, 1)[None] / 255
    whole = load_network(NETWORK, {"size": 40})(image).softmax(dim=1)[0, 3].item()
    assert found["a/whole"][0, 0] == pytest.approx(whole, abs=1e-6)


def test_options_on_the_command_line_win_over_a_quick_look_which_wins_over_a_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("plan: {samples: 40, explainers: [occlusion]}")
    arguments = [f"--config={tmp_path / 'mine.yaml'}", "--network=a.ckpt", f"--images={tmp_path}", f"--out={tmp_path}"]
    config = parse_config([*arguments, "--quick", "--plan.explainers=[occlusion, lime]", "--patch_size=8"])
    assert config.plan.explainers == ("occlusion", "lime") and config.patch_size == 8
    assert config.plan.samples == 128 and config.segments == ("patches",)


def test_a_class_is_found_by_its_very_name_ahead_of_names_in_another_case():
    names = ["Cardigan", "crane", "cardigan", "crane", "Boxer"]
    assert measure.find_classes(["cardigan", "Cardigan", "boxer", 1], names) == [2, 0, 4, 1]
    with pytest.raises(InputError, match="'crane' is the name of 1 and 3; give the number"):
        measure.find_classes(["crane"], names)


FAULTS = [
    (["--network=small_resnet:nowhere.pt"], "nowhere.pt"),
    (["--network=timm/mixer_s32_224:random"], "layer masking"),
    (["--images=NOWHERE"], "does not exist"),
    (["--images=[IMAGES, OTHER]"], "different names"),
    (["--images=TEXT"], "cannot be read as an image"),
    (["--targets=[10]"], "got '10'"),
    (["--patch_size=64"], "two segments"),
    (["--plan.samples=16"], "at least 19 samples"),
    (["--classes=TWO"], "--classes is about the classes of data"),
    (["--data=Cues"], "got both"),
    (["--network=small_resnet:TWO", "--images=null", "--data=Cues"], "give --classes a file"),
]


@pytest.mark.parametrize(
    ("options", "named"), FAULTS, ids=lambda each: " ".join(each) if isinstance(each, list) else ""
)
def test_what_is_wrong_is_said_in_one_sentence(options, named, tmp_path, capsys):
    given = {name: str(tmp_path / name.lower()) for name in ("NOWHERE", "IMAGES", "OTHER", "TEXT", "TWO")}
    photographs(tmp_path / "images", 1)
    torch.save(build_network("small_resnet", 2).state_dict(), tmp_path / "two")
    photographs(tmp_path / "other", 1)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jpg").write_text("no image")
    for word, path in given.items():
        options = [option.replace(word, path) for option in options]
    usual = [f"--network={NETWORK}", f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'out'}", *SHORT]
    sentence = sentence_of(["explain", *usual, *options], capsys)
    assert named in sentence and sentence.endswith(".")


def test_pictures_of_data_are_explained_and_those_after_the_second_are_folded(tmp_path):
    sizes = {"image_size": 48, "train_images": 8, "val_images": 8, "test_images": 8}
    torch.save(build_network("small_resnet", 8).state_dict(), tmp_path / "weights.pt")
    given = ["--data=Cues", *(f"--data.{name}={value}" for name, value in sizes.items()), "--max_images=3"]
    options = ["--methods=[black]", "--plan.explainers=[occlusion]", "--segments=[patches]", f"--out={tmp_path}"]
    main(["explain", f"--network=small_resnet:{tmp_path / 'weights.pt'}", *given, *options, "--targets=top1"])
    found, data = arrays_of(tmp_path), Cues(**sizes)
    samples = data.samples("test")
    for place in range(3):
        name = file_name(data.sample_name("test", int(samples.ids[place])))
        assert np.array_equal(found[f"{name}/picture"], samples.images[place].permute(1, 2, 0))
    page = Page((tmp_path / "report.html").read_text())
    assert (len(page.tables["explanations"]), len(page.tables["further"])) == (1 + 2, 1 + 1)


def test_pictures_of_data_have_the_names_of_their_files_which_name_no_other_place(tmp_path):
    for name in ("x", "y"):
        photographs(tmp_path / "val" / name)
    data = Folder(tmp_path, image_size=SIZE, num_workers=0)
    data.setup("validate")
    ids = [int(each) for batch in data.val_dataloader() for each in batch.ids]
    found = [picture.name for picture in measure.pictures_of(data, "val", 4)]
    assert found == ["a.png", "b.png", f"a.png-{ids[2]}", f"b.png-{ids[3]}"]
    assert file_name("../b c/é.png, view 2") == "..-b-c-é.png-view-2"
    assert len(file_name("é" * 90).encode()) == 100
