"""`maskrobust masks`: families and fills on the data, and those of one's own."""

import itertools
import sys

import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage

from maskrobust import load_network
from maskrobust.augment import FAMILIES, FILLS, Batch, family_needs
from maskrobust.train.cli import main
from maskrobust.train.data.base import InMemoryDataModule
from maskrobust.train.masks.gallery import OUTLINE
from maskrobust.train.report.wording import family_title, method_title
from tests.train.data.layouts import write_pairs
from tests.train.report.pages import Page, squeezed
from tests.train.test_cli import sentence_of
from tests.train.tiny import tiny_fit

SIZE = 40
COLUMNS = (*FILLS, "layer_masking", "other_image")
OF_A_BANK = [name for name in FAMILIES if "bank" in family_needs(name)]
OF_OBJECTS = [name for name in FAMILIES if "object_mask" in family_needs(name) and name not in OF_A_BANK]


class Discs(InMemoryDataModule):
    """Images of four colours, nowhere black; unless `annotated` is False, with discs of two classes as objects.

    `by_class` puts those of the first class ahead of the others.
    """

    num_classes = 2
    class_names = ("left <b>disc</b>", "right disc")
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, annotated: bool = True, count: int = 8, by_class: bool = False) -> None:
        super().__init__(batch_size=4, num_workers=0, seed=0)
        self.annotated = annotated
        self.count = count
        self.by_class = by_class

    def ids(self, split):
        return torch.arange(self.count) + 100 * ("train", "val", "test").index(split)

    def make_samples(self, split, ids):
        places = ids % 100
        labels = places * 2 // self.count if self.by_class else ids % 2
        down, across = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        centre = 12 + 14 * labels[:, None, None]
        discs = (down - 16 - ids[:, None, None] % 8).square() + (across - centre).square() < 60
        colours = torch.randint(40, 250, (self.count, 3, 2, 2), generator=torch.Generator().manual_seed(0))
        images = colours[places].repeat_interleave(SIZE // 2, 2).repeat_interleave(SIZE // 2, 3).to(torch.uint8)
        return Batch(ids, images, (discs & self.annotated).unsqueeze(1), labels)


DISCS = f"--data={__name__}.Discs"


def make_page(folder, *options):
    main(["masks", DISCS, "--patch_size=8", f"--out={folder}", *options])
    return (folder / "masks.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page_text(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("masks"), "--images=2")


@pytest.fixture(scope="module")
def page(page_text):
    return Page(page_text)


def test_every_image_has_a_row_for_each_family_and_a_column_for_each_fill(page):
    assert list(page.tables) == ["gallery-1", "gallery-2"]
    for rows in page.tables.values():
        assert rows[0] == ["Family", "Visible", *map(method_title, COLUMNS)]
        assert [row[0] for row in rows[1:]] == list(map(family_title, FAMILIES))
        assert {len(row) for row in rows} == {len(COLUMNS) + 2}
    assert "left-out" not in page.texts


def test_the_label_is_the_fraction_that_is_hidden_in_the_picture(page):
    pictures = page.pictures()
    for place, family in itertools.product(range(2), FAMILIES):
        row = page.tables[f"gallery-{place + 1}"][1 + list(FAMILIES).index(family)]
        hidden = (pictures[f"{family_title(family)}, Black fill"][place] == 0).all(axis=2)
        assert set(row[1:]) == {f"{100 * hidden.mean():.1f}\u202f%"}
        assert 0 < hidden.mean() < 1


def test_all_pictures_of_a_row_show_the_same_hole_in_the_same_image(page):
    pictures = page.pictures()
    original = pictures["left <b>disc</b>, image 100, nothing hidden"][0]
    for family in map(family_title, FAMILIES):
        hole = (pictures[f"{family}, Black fill"][0] == 0).all(axis=2)
        for column in COLUMNS:
            picture = pictures[f"{family}, {method_title(column)}"][0]
            outside = ~hole & ~(original == OUTLINE).all(axis=2)
            assert np.array_equal(picture[outside], original[outside])
        visible = pictures[f"{family}, Visible"][0]
        drawn = (visible == OUTLINE).all(axis=2)
        assert np.array_equal((visible == 0).all(axis=2), hole & ~drawn)
        assert np.array_equal(drawn, (original == OUTLINE).all(axis=2))


def test_patch_mixing_shows_the_other_image(page):
    pictures = page.pictures()
    hole = (pictures["Patches, Black fill"][0] == 0).all(axis=2)
    other = pictures["right disc, image 101, nothing hidden"][0]
    inside = hole & ~(other == OUTLINE).all(axis=2)
    assert np.array_equal(pictures["Patches, Other image"][0][inside], other[inside])


def test_the_headline_says_how_much_is_hidden(page):
    hidden = sorted(float(row[1].partition("\u202f")[0]) for rows in page.tables.values() for row in rows[1:])
    said = f"The holes hide {hidden[0]:.0f} to {hidden[-1]:.0f}% of the pixels of these images."
    assert squeezed(page.texts["headline"]) == said


def test_the_outline_runs_inside_the_object_and_around_it(page):
    original = page.pictures()["left <b>disc</b>, image 100, nothing hidden"][0]
    data = Discs()
    data.setup("validate")
    inside = next(iter(data.val_dataloader())).object_mask[0, 0].numpy()
    assert inside.any() and np.array_equal((original == OUTLINE).all(axis=2), inside & ~ndimage.binary_erosion(inside))


def test_the_page_loads_nothing_and_names_are_no_markup(page, page_text):
    policy = next(each["content"] for tag, each in page.elements if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {"script", "b", "link", "iframe"} & {tag for tag, _ in page.elements}
    sources = [each[key] for _, each in page.elements for key in ("src", "href") if key in each]
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "url(" not in page_text and "http" not in page_text.replace("http-equiv", "")


def test_families_that_the_data_cannot_serve_are_left_out_with_the_reason(tmp_path, capsys):
    page = Page(make_page(tmp_path, "--data.init_args.annotated=false", "--fills=[black]", "--images=1"))
    shown = [row[0] for row in page.tables["gallery-1"][1:]]
    assert shown == [family_title(name) for name in FAMILIES if name not in OF_A_BANK + OF_OBJECTS]
    for name in OF_A_BANK:
        reason = f"{family_title(name)}silhouettes are drawn from object masks"
        assert reason in page.texts["left-out"].replace("\n", "").replace("    ", "")
    assert page.texts["left-out"].count("none of these images has one") == len(OF_OBJECTS)
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")] == [
        ", ".join(name for name in FAMILIES if name in names) for names in (OF_A_BANK, OF_OBJECTS)
    ]


def test_images_for_evaluation_alone_lend_their_own_silhouettes(tmp_path):
    given = {**write_pairs(tmp_path, by_class=True), "image_size": 32, "num_workers": 0}
    data = [f"--data.{name}={value}" for name, value in given.items()]
    main(["masks", "--data=ImagesWithMasks", *data, "--families=[silhouettes]", f"--out={tmp_path / 'out'}"])
    page = Page((tmp_path / "out" / "masks.html").read_text())
    assert page.tables["gallery-1"][1][0].startswith(family_title("silhouettes"))


@pytest.mark.parametrize("annotated", ["true", "false"])
def test_images_of_different_classes_are_drawn_where_the_first_batch_holds_a_single_one(annotated, tmp_path):
    data = ["--data.by_class=true", f"--data.annotated={annotated}"]
    page = Page(make_page(tmp_path, *data, "--images=2", "--families=[patches]", "--fills=[black]"))
    titles = [name.partition(",")[0] for name in page.pictures() if name.endswith("nothing hidden")]
    assert titles == ["left <b>disc</b>", "right disc"]


FAULTS = [
    ("--families=[{rectangles: {counts: 3}}]", "families 'rectangles' takes the options"),
    ("--families=[]", "families must name at least one"),
    ("--split=trial", "split"),
]


@pytest.mark.parametrize(("argument", "named"), FAULTS)
def test_bad_input_is_one_sentence_and_writes_nothing(argument, named, tmp_path, capsys):
    assert named in sentence_of(["masks", DISCS, f"--out={tmp_path / 'out'}", argument], capsys)
    assert not (tmp_path / "out").exists()


def test_a_family_is_drawn_with_its_options_beside_itself_without_them(tmp_path):
    families = (
        "--families=[rectangles, {rectangles: {count: 3, hidden_fraction: [0.1, 0.1]}}, {patches: 1, objects: 1}]"
    )
    page = Page(make_page(tmp_path, families, "--fills=[black]", "--images=1"))
    titles = [row[0] for row in page.tables["gallery-1"][1:]]
    assert titles == ["Rectangles", "Rectangles (count 3, hidden fraction [0.1, 0.1])", "Patches and objects"]
    pictures = page.pictures()
    one, three = ((pictures[f"{title}, Black fill"][0] == 0).all(axis=2) for title in titles[:2])
    assert ndimage.label(one)[1] == 1 < ndimage.label(three)[1] <= 3


OWN = """
import torch
from maskrobust import draw, draw_hidden_fraction, fill, fold_in, mask_family

@mask_family("stripes")
def stripes(keys, height, width, *, hidden_fraction, period: int = 8):
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    place = torch.arange(width, device=keys.device) % period / period
    return (place >= fraction[:, None])[:, None, None].expand(-1, 1, height, -1)

@fill("grey")
def fill_grey(images, visible, *, value: float = 0.5):
    return draw(images, visible, torch.full_like(images, value))
"""


@pytest.fixture(autouse=True)
def _own_file(tmp_path, monkeypatch):
    """my_masks.py can be imported, and has not been: a page of the docs has one, too."""
    forget()
    (tmp_path / "my_masks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    forget()


def forget():
    for name, registry in (("stripes", FAMILIES), ("grey", FILLS)):
        registry.pop(name, None)
    sys.modules.pop("my_masks", None)


def test_a_network_is_trained_with_them(tmp_path, capsys):
    """It is measured under others in tests/test_stranger.py."""
    own, run = tmp_path / "own.yaml", tmp_path / "run"
    masks = {"mask_family": {"my_masks.stripes": {"period": 12}}, "fill": {"black": 1, "my_masks.grey": {"value": 0.3}}}
    own.write_text(yaml.safe_dump({"model": {"masking": "fill", **masks}}))
    main(["fit", *tiny_fit("cues.yaml", run), f"--config={own}"])
    assert "stripes" in FAMILIES and "grey" in FILLS
    (checkpoint,) = run.rglob("last.ckpt")
    assert yaml.safe_load(next(run.rglob("config.yaml")).read_text())["model"]["mask_family"] == masks["mask_family"]

    forget()
    assert load_network(str(checkpoint)).num_classes == 8
    assert "my_masks" not in sys.modules


def test_the_gallery_shows_them(tmp_path):
    names = ["--families=[patches, {my_masks.stripes: {period: 10}}]", "--fills=[black, my_masks.grey]"]
    main(["masks", DISCS, "--images=1", *names, f"--out={tmp_path / 'out'}"])
    page = Page((tmp_path / "out/masks.html").read_text())
    assert [row[0] for row in page.tables["gallery-1"]] == ["Family", "Patches", "Stripes (period 10)"]
    hole = (page.pictures()["Stripes (period 10), Black fill"][0] == 0).all(axis=2)
    assert np.array_equal(hole[0], np.arange(40) % 10 < 5)
    assert (page.pictures()["Stripes (period 10), Grey"][0][hole] == 128).all()
