"""What is kept: files and entries whole or not there, told apart by what they follow from, their names plain text."""

import copy
import csv
import io
import json
import shutil
import sys
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from maskrobust.augment import FILLS
from maskrobust.errors import InputError
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.masking import LayerMasking, MergeRule
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.cli import main
from maskrobust.train.fit.checkpoints import CheckpointError
from maskrobust.train.masks.drawing import Gallery, GalleryImage, GalleryRow, render_gallery
from maskrobust.train.report.results import rows_as_csv
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage import provenance as provenance_module
from maskrobust.train.storage.files import atomic_path, printable, read_json, write_json
from maskrobust.train.storage.provenance import fingerprint, network_fingerprint, provenance
from maskrobust.train.storage.store import Store
from tests.train.data.layouts import save
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA, write_claim


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root", {"seed": 1, "plan.layers": ("layer1",)})


def write(text):
    return lambda folder: (folder / "text").write_text(text)


def text_in(folder):
    return (folder / "text").read_text()


def test_an_entry_is_made_elsewhere_once_and_there_when_it_is_whole(store):
    def make(folder):
        assert folder.parent == store.root and store.get("a") is None and not (store.root / "a").exists()
        write("first")(folder)

    assert store.get_or_make("a", make) == store.root / "a"
    assert text_in(store.get_or_make("a", lambda _: pytest.fail("made again"))) == "first"
    assert sorted(path.name for path in (store.root / "a").iterdir()) == ["entry.json", "text"]


def save_weights(text):
    return lambda folder: save_file({text: torch.zeros(1)}, folder / "text")


def save_state(_text):
    """As a training does whose folder goes between the check that it is there and the opening of the file."""

    def fail(folder):
        raise CheckpointError(f"the checkpoint '{folder / 'state.ckpt'}' cannot be written; make room.")

    return fail


@pytest.mark.parametrize(
    ("write_slowly", "makes_its_folder"),  # FileNotFoundError, safetensors' own, and what a training tells its user
    [(write, False), (write, True), (save_weights, False), (save_state, False)],
)
def test_the_first_of_two_processes_to_finish_counts_and_the_other_takes_its_entry(
    write_slowly, makes_its_folder, store
):
    def slow(folder):
        store.get_or_make("a", write("of the fast one"))
        assert not folder.exists()
        if makes_its_folder:
            folder.mkdir()
        write_slowly("of the slow one")(folder)

    assert text_in(store.get_or_make("a", slow)) == "of the fast one"
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_an_interrupted_entry_leaves_its_files_to_the_next_call_with_the_same_settings(store):
    def interrupted(folder):
        write("after one epoch")(folder)
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        store.get_or_make("a", interrupted)
    found = store.newest_unfinished("a", "text")
    assert found is not None and found.read_text() == "after one epoch" and store.get("a") is None
    assert Store(store.root, {"seed": 2}).newest_unfinished("a", "text") is None
    store.get_or_make("a", write("whole"))
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_a_full_disk_is_no_entry_of_another_process(store):
    def make(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.get_or_make("a", make)


def test_other_settings_are_refused_by_name_and_what_is_kept_stays(store):
    kept = store.get_or_make("a", write("kept"))
    other = Store(store.root, {"seed": 2, "plan.layers": (), "split": "val"})
    for use in (other.check, lambda: other.get("a"), lambda: other.get_or_make("a", write("other"))):
        with pytest.raises(InputError, match=r"was made with another plan\.layers, seed, split; call it as it was"):
            use()
    assert text_in(kept) == "kept"
    assert Store(store.root, {"seed": 1}).get("a") == kept  # of the settings that are named alone


def test_what_is_no_entry_is_refused_and_left_alone(store):
    (store.root / "a").mkdir(parents=True)
    (store.root / "a" / "notes.txt").touch()
    for use in (store.check, lambda: store.get_or_make("a", write("made"))):
        with pytest.raises(InputError, match="holds something else than what this version"):
            use()
    assert [path.name for path in (store.root / "a").iterdir()] == ["notes.txt"]


def test_an_entry_that_has_lost_a_file_is_made_again(store):
    (store.get_or_make("a", write("first")) / "text").unlink()
    assert store.get("a") is None
    assert text_in(store.get_or_make("a", write("again"))) == "again"


def test_a_store_is_removed_with_all_its_entries(store):
    store.get_or_make("a", write("kept"))
    store.remove()
    assert list(store.root.parent.iterdir()) == []


def test_fingerprints_tell_contents_apart_and_ignore_order():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})


def test_a_file_appears_whole(tmp_path):
    with atomic_path(tmp_path / "deep" / "file") as path:
        path.write_text("content")
        assert not (tmp_path / "deep" / "file").exists()
    assert (tmp_path / "deep" / "file").read_text() == "content"
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["file"]


def test_an_error_keeps_what_was_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    def write_half():
        with atomic_path(target) as path:
            path.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="full"):
        write_half()
    assert target.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"value": float("nan")})
    assert not (tmp_path / "file.json").exists()


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ValueError, match=r"file\.json' is not readable JSON"):
        read_json(tmp_path / "file.json")


def test_the_commit_of_another_project_around_the_package_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setattr(provenance_module, "__file__", __file__)  # in a checkout, but not at its top
    assert provenance(1.0, "maskrobust claim")["commit"] is None


DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in (TINY_DATA | {"batch_size": 4}).items())]
EVALUATE = ["evaluate", *DATA, *FEW_MEASURES, "--methods=[black, layer_masking]"]


def weights(path, seed):
    """A network's name: a file with weights of its own."""
    torch.manual_seed(seed)
    torch.save(build_network("small_resnet", 8, {}).state_dict(), path)
    return f"small_resnet:{path}"


def stop_after(batches, command):
    """Break an evaluation off once it has kept the answers to some batches."""
    ask, asked = Measurement.ask, []

    def limited(self, batch):
        if len(asked) == batches:
            raise RuntimeError("stopped")
        asked.append(batch)
        return ask(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskrobust.train.evaluate.measure.SECONDS_A_CHUNK", 0.0)
        patch.setattr(Measurement, "ask", limited)
        with pytest.raises(RuntimeError, match="stopped"):
            main(command)


@pytest.mark.parametrize(("option", "value"), [("global_pool", "max"), ("output_stride", 16)])
def test_a_network_with_another_option_has_another_fingerprint_with_the_same_weights(option, value):
    state = build_network("timm/test_resnet", 8, {}).state_dict()
    found = set()
    for options in ({}, {option: value}):
        network = build_network("timm/test_resnet", 8, options)
        network.load_state_dict(state)
        found.add(network_fingerprint(trained(network, origin=Origin("timm/test_resnet", options))))
    assert len(found) == 2


def test_networks_in_another_order_do_not_take_each_others_answers(tmp_path, capsys):
    """Answers are kept by a network's place."""
    names = [weights(tmp_path / f"{seed}.pt", seed) for seed in range(2)]
    out = f"--out={tmp_path / 'out'}"
    first, second = (f"--network={json.dumps(each)}" for each in (names, names[::-1]))
    stop_after(2, [*EVALUATE, first, out])
    kept = sorted((tmp_path / "out" / "partial").rglob("*"))
    assert "with another network; call it as it was called" in sentence_of([*EVALUATE, second, out], capsys)
    assert sorted((tmp_path / "out" / "partial").rglob("*")) == kept and len(kept) > 2


def test_an_evaluation_is_not_continued_with_another_fill_of_ones_own(tmp_path, capsys, monkeypatch, request):
    request.addfinalizer(lambda: FILLS.pop("dark", None))
    module = tmp_path / "fill_of_test_store.py"
    module.write_text(FILL)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    network = weights(tmp_path / "weights.pt", 0)
    command = [*EVALUATE, f"--network={network}", f"--out={tmp_path / 'out'}", f"--methods=[{module.stem}.dark]"]
    stop_after(2, command)
    module.write_text(FILL.replace("0.1", "0.2"))
    assert "with another code of your own" in sentence_of(command, capsys)


@pytest.mark.parametrize("change", ["an image more", "another label"])
def test_an_evaluation_is_not_continued_with_other_images_without_masks(change, tmp_path, capsys):
    """Batches are kept by their numbers: an image ahead of the others would never be asked about."""
    paths = [tmp_path / "images" / "val" / label / f"{number}.png" for label in "ab" for number in range(1, 4)]
    for path in paths:
        save(np.full((40, 40, 3), 90, dtype=np.uint8), path)
    options = {"root": tmp_path / "images", "image_size": 32, "batch_size": 1, "num_workers": 0}
    data = ["--data=Folder", *(f"--data.{name}={value}" for name, value in options.items())]
    command = ["evaluate", "--network=small_resnet:random", *data, *FEW_MEASURES, f"--out={tmp_path / 'out'}"]
    stop_after(2, command)
    if change == "an image more":
        shutil.copy(paths[0], paths[0].with_name("0.png"))
    else:
        paths[-1].rename(paths[0].with_name("9.png"))
    assert "with another list of images" in sentence_of(command, capsys)


def trained(network, **options):
    return TrainedNetwork("a", network, Preprocessing(), 8, **options)


def test_every_option_of_layer_masking_that_decides_answers_decides_the_fingerprint():
    network = build_network("timm/test_convnext", 8, {})  # which begins with patches
    others: dict[str, Any] = {"merge": "union", "detach_padding": False, "padding": "mirror"}
    others["partial_patches"] = "hidden"
    assert others.keys() == {each.name for each in fields(MaskingOptions)} and others["merge"] in get_args(MergeRule)
    options = [{}, *({name: value} for name, value in others.items())]
    found = {network_fingerprint(trained(LayerMasking(network, **each))) for each in options}
    assert len(found | {network_fingerprint(trained(network))}) == len(options) + 1


def test_how_a_network_is_asked_decides_its_fingerprint_and_its_name_does_not():
    network = trained(build_network("small_resnet", 8, {"width": 16}))
    before = network_fingerprint(network)
    bf16, compiled = network.configured(precision="bf16"), network.configured(pass_size=4)
    renamed = network.select_outputs(range(8))
    same = network_fingerprint(renamed)
    renamed.name = "b"
    others = [network.select_outputs([1, 0]), network.configured(preprocessing=Preprocessing(crop=0.5)), bf16, compiled]
    assert len({before, same, *map(network_fingerprint, others)}) == 6
    assert network_fingerprint(renamed) == same and network_fingerprint(network) == before
    network.predictor("layer_masking")(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32) < 0.5, torch.arange(1))
    assert network_fingerprint(network) == before


FILL = """
import torch
from maskrobust import draw, fill


@fill("dark")
def fill_dark(images, visible):
    return draw(images, visible, torch.full_like(images, 0.1))
"""

SOURCE = """
from maskrobust.lm_modules.networks.architectures import SmallResNet


class Net(SmallResNet):
    def __init__(self):
        super().__init__(8, width=16)

    def forward(self, images):
        return super().forward(images)
"""


def test_the_file_of_a_class_of_ones_own_decides_the_fingerprint(tmp_path, monkeypatch):
    module, name = tmp_path / "network_of_test_store.py", "network_of_test_store.Net"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), tmp_path / "weights.pt")
    found = []
    for source in (SOURCE, SOURCE.replace("forward(images)", "forward(-images)")):
        module.write_text(source)
        sys.modules.pop(module.stem, None)
        found.append(network_fingerprint(load_network(f"{name}:{tmp_path / 'weights.pt'}")))
    assert found[0] != found[1]


def test_the_manipulation_check_of_another_arm_is_told_apart(tmp_path):
    path = write_claim(tmp_path / "claim.yaml")
    before = parse_config([f"--config={path}", f"--out={tmp_path / 'out'}"])
    models = copy.deepcopy(before.models)
    models["patches_mean"]["hidden_fraction"] = (0.2, 0.3)
    after = replace(before, models=models)
    one, other = (config.run_of("no_masks", 1) for config in (before, after))
    assert one.trained.settings == other.trained.settings and one.answered.settings != other.answered.settings


NASTY = "\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"
HARMLESS = r"\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"


def test_what_is_invisible_is_spelt_out_and_the_rest_stays():
    assert printable(NASTY) == HARMLESS
    kept = "Köln, 犬 🐕 n° 1 (50\u202f%)\tA\nB <b>"
    assert printable(kept) == kept
    assert printable(printable(NASTY)) == HARMLESS


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_text_that_a_spreadsheet_would_calculate_is_text(text):
    row = Row(text, text, text, -0.5, None, 1.0, 9, 0, compared_with=text, undefined_because=text, reading=text)
    names = [field.name for field in fields(Row)]
    read = next(csv.DictReader(io.StringIO(rows_as_csv([row]), newline="")))
    texts = ("network", "method", "measure", "compared_with", "undefined_because", "reading")
    assert list(read) == names and {read[name] for name in texts} == {"'" + printable(text)}
    assert [read[name] for name in ("value", "low", "high")] == ["-0.5", "", "1.0"]


def test_parameters_of_a_row_are_harmless_in_the_csv():
    row = Row("a", "black", "probability", 0.5, None, None, 1, 0, parameters={"class": NASTY, "fraction": 0.5})
    text = rows_as_csv([row])
    read = next(csv.DictReader(io.StringIO(text, newline="")))
    assert read["parameters"] == f"class={HARMLESS} fraction=0.5"
    assert not set(text) & set("\x1b\r\x08\x00\x9b\u202e\udc80")


def test_a_page_shows_names_and_follows_no_markup_in_them():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    row = GalleryRow("patches", 0.5, (pixels, pixels))
    gallery = Gallery(("black",), (GalleryImage(NASTY, pixels, (row,)),), {NASTY: NASTY})
    page = render_gallery(gallery, NASTY)
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page and r"\u202e" in page
    assert not set(page) & set("\x1b\r\x08\x00\x9b\u202e\udc80")


def test_an_error_quotes_a_file_without_its_control_characters(monkeypatch, capsys):
    def refuse(_):
        raise InputError(f"'{NASTY}' must be another.")

    monkeypatch.setattr("maskrobust.train.masks.main", refuse)
    with pytest.raises(SystemExit):
        main(["masks"])
    assert "\x1b" not in (error := capsys.readouterr().err) and r"\x1b[31m" in error


def test_a_progress_bar_shows_brackets_as_they_are():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with CountingDisplay(console) as progress:
        progress.add_task("measuring [red]a[/red] [/]", total=1)
    assert "[red]a[/red] [/]" in console.file.getvalue()
