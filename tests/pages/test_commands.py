"""Every command of README, CONTRIBUTING and docs runs as it is written, made short by further options.

A page's commands run in order and in one folder, so that later ones find what earlier ones have made. A training by a
configuration that no later command needs is built, and takes no step: those of tests/train/test_configs.py do. The
Python of README and use.md runs, too; that of gallery.md, masks.md, layer-masking.md and explanations.md has its tests.
"""

import shutil
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
import wandb
import yaml
from PIL import Image
from safetensors.torch import save_file
from skimage.data import coffee
from torch import nn

from maskrobust.augment import FAMILIES, FILLS
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.networks import onnx_model
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train.claim.checks import parse_config as parse_claim
from maskrobust.train.cli import main
from maskrobust.train.command_line import with_config_paths
from maskrobust.train.evaluate.config import parse_config as parse_evaluation
from maskrobust.train.fit.command import FitCLI
from maskrobust.train.play import parse_config as parse_play
from tests.pages.commands import blocks, commands
from tests.test_house import ROOT
from tests.train.data.sets.test_folder import write_tree
from tests.train.test_bands import write as write_tiles
from tests.train.tiny import FEW_MEASURES, TINY_NETWORK, TWO_STEPS, content_of, tiny_data

PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md")))
    if any(block.language == "bash" for block in blocks(page))
]
NOT_RUN = {
    "scripts/demo": "trains for minutes; tests/scripts/test_scripts.py runs its commands",
    "scripts/test": "runs these tests; tests/scripts/test_scripts.py",
    "scripts/docs": "writes into the clone; tests/scripts/test_scripts.py and tests/pages/test_site.py",
    "pre-commit": "writes into the clone's .git",
    "wandb": "needs an account",
}
SHORT_FIT = [
    *TINY_NETWORK,
    *TWO_STEPS,
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--trainer.strategy=auto",
    "--trainer.devices=1",
    "--trainer.sync_batchnorm=false",
    "--trainer.precision=32-true",
    "--compile=false",
]
SHORT_EXPLANATION = [
    "--network=small_resnet:random",
    "--images=PHOTOS",
    "--image_size=48",
    "--patch_size=12",
    "--plan.window=24",
    "--plan.samples=128",
]
WEIGHTS_OF_A_CLAIM = "runs/full/arms/layer_masking/seed-1/weights.safetensors"

pytestmark = [pytest.mark.filterwarnings("ignore:The dirpath has changed")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that commands run in, with what their capital letters stand for, and modules to import."""
    write_tree(tmp_path / "given")
    for name in ("images", "masks"):
        (tmp_path / "given" / name).rename(tmp_path / name.upper())
    write_tiles(tmp_path / "TILES")
    (tmp_path / "NEW").mkdir(), (tmp_path / "NEW_MASKS").mkdir()
    for path in (tmp_path / "IMAGES" / "val").rglob("*.png"):
        shutil.copy(path, tmp_path / "NEW")
        with Image.open(path) as image:
            Image.new("L", image.size, 255).save(tmp_path / "NEW_MASKS" / path.name)
    (tmp_path / "PHOTOS").mkdir()
    Image.fromarray(coffee()).save(tmp_path / "PHOTOS" / "coffee.png")
    (tmp_path / WEIGHTS_OF_A_CLAIM).parent.mkdir(parents=True)
    for weights, classes, save in (("WEIGHTS", 1000, torch.save), (WEIGHTS_OF_A_CLAIM, 4, save_file)):
        save(build_network("small_resnet", classes, {"width": 16}).state_dict(), tmp_path / weights)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    # The exporter takes 20 s for the network of a page: tests/lm_modules/masking/test_export.py.
    tiny = LayerMasking(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8)).eval())
    write = onnx_model.onnx_model
    monkeypatch.setattr(onnx_model, "onnx_model", lambda _, size, **options: write(tiny, size, **options))
    registered, imported = [dict(registry) for registry in (FAMILIES, FILLS)], set(sys.modules)
    yield tmp_path
    wandb.finish()
    for registry, before in zip((FAMILIES, FILLS), registered, strict=True):
        registry.clear()
        registry.update(before)
    for name in set(sys.modules) - imported:  # a page's own modules, which other tests have under the same names
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_runs(page, folder):
    shown: dict[str, Any] = {}
    left = [words for block in blocks(page) if block.language == "bash" for words in commands(block)]
    for block in blocks(page):
        if block.file_name is not None:
            (folder / block.file_name).write_text(block.text)
        elif block.language == "python" and page.name in ("README.md", "use.md"):
            exec(compile(block.text, page.name, "exec"), shown)
        elif block.language == "bash":
            for words in commands(block):
                run_command(words, folder, left := left[1:])


def test_a_sweep_gives_options_that_fit_knows(folder):
    (sweep,) = (yaml.safe_load(each.text) for each in blocks(ROOT / "docs/running.md") if each.language == "yaml")
    chosen = {name: one["values"][-1] if "values" in one else one["max"] for name, one in sweep["parameters"].items()}
    *words, last = sweep["command"]
    assert last == "${args}"  # which an agent of W&B replaces by --NAME=VALUE
    run_command([*words, *(f"--{name}={value}" for name, value in chosen.items())], folder, [])


def run_command(words, folder, later):
    program, *arguments = words
    if program in NOT_RUN:
        return
    if program == "maskrobust":
        if arguments[0] == "fit" and not is_needed(arguments, later):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(FitCLI, "fit", lambda *_, **__: None)
                run_maskrobust(arguments, folder)
        else:
            run_maskrobust(arguments, folder)
    else:
        pytest.fail(f"nothing here runs '{' '.join(words)}'; teach run_command to, or say in NOT_RUN why not")


def is_needed(arguments, later):
    """Whether a training is of data of its own, or a later command of the page goes on with it or reads its files."""
    if "--data" in arguments:
        return True
    for words in later:
        if words[:2] == ["maskrobust", "fit"] and run_name(words) == run_name(arguments):
            return "last" in words
        if any(f"runs/{run_name(arguments)}/" in word for word in words):
            return True
    return False


def run_name(arguments):
    """The one that is given, or else that of the training's configuration, which is the name of its file."""
    return [*option(arguments, "--config")[:1], *option(arguments, "--run_name")][-1].removesuffix(".yaml")


def parse(command, arguments):
    """What each process that a launcher starts does first; what it does then is in tests/scripts."""
    if command == "evaluate":
        parse_evaluation(with_config_paths(arguments))
    elif command == "claim":
        parse_claim(with_config_paths(arguments))
    else:
        assert says_how_long(arguments)
        run_short(["fit", *arguments, "--print_config"])


def run_maskrobust(arguments, folder):
    command = arguments[0]
    if command in ("fit", "pretrain", "segment"):
        assert says_how_long(arguments), f"trains without an end: maskrobust {' '.join(arguments)}"
    if command in ("launch", "submit"):
        place = arguments.index("--")
        main([*arguments[:place], "--dry_run", *arguments[place:]])
        parse(arguments[1], arguments[place + 1 :])
    elif command == "play":
        parse_play(arguments[1:])  # it serves until it is stopped: tests/train/test_play.py
    elif command in ("fit", "pretrain", "segment"):
        run_short([*arguments, *data_options(arguments, folder), *SHORT_FIT])
    elif command == "evaluate":
        if "[a.ckpt, b.ckpt]" in arguments or "a.ckpt" in arguments:
            make_checkpoints(folder / "a.ckpt", folder / "b.ckpt")
        untrained = ["--network=small_resnet:random"] if "resnet50:IMAGENET1K_V2" in arguments else []
        run_short([*arguments, *data_options(arguments, folder), *FEW_MEASURES, *untrained])
    elif command == "explain":
        run_short([*arguments, *SHORT_EXPLANATION])
    elif command == "claim":
        parse_claim(with_config_paths(arguments[1:]))  # tests/train/test_configs.py and tests/train/claim make runs
    elif command in ("masks", "shards"):
        run_short([*arguments, *data_options(arguments, folder)])
    else:
        run_short(arguments)


def run_short(arguments):
    """Run a command; to print its options, and then to stop, is success, too."""
    try:
        main(arguments)
    except SystemExit as stopped:
        if stopped.code != 0:
            pytest.fail(f"exit status {stopped.code}: maskrobust {' '.join(arguments)}")


def says_how_long(arguments):
    """Whether a training does so by itself: `SHORT_FIT` would hide that it does not."""
    trainers = [content_of(name).get("trainer", {}) for name in option(arguments, "--config")]
    return "--trainer.max_epochs" in arguments or any("max_epochs" in trainer for trainer in trainers)


def option(arguments, name):
    return [value for given, value in pairwise(arguments) if given == name]


def data_options(arguments, folder):
    """Options that make the data small, which a command names itself or by its configurations."""
    configs = [content_of(name) for name in option(arguments, "--config")]
    named = [config["data"] for config in configs if "data" in config]
    classes = option(arguments, "--data") or [data["class_path"] for data in named]
    if not classes:
        return []
    small = dict(made_data(classes[-1], folder))
    if any(argument.startswith(("--data.root", "--data.init_args.root")) for argument in arguments) or (
        named and named[-1]["init_args"].get("root") == "IMAGES"
    ):
        small = {name: value for name, value in small.items() if "root" not in name and name != "val_fraction"}
    return [f"--data.init_args.{name}={value}" for name, value in small.items()]


def made_data(data, folder):
    """`tiny_data`, written once for each page."""
    made = folder / "made" / f"{data}.yaml"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        made.write_text(yaml.safe_dump(tiny_data(data, folder / "made")))
    content: dict[str, Any] = yaml.safe_load(made.read_text())
    return content


def make_checkpoints(*paths):
    """Checkpoints of the training that README evaluates, or of the first that the page has made."""
    out = paths[0].with_suffix("")
    if not [*paths[0].parent.rglob("best.ckpt")]:
        sizes = data_options(["--config", "cues.yaml"], out.parent)
        main(["fit", "--config=cues.yaml", f"--trainer.default_root_dir={out}", *sizes, *SHORT_FIT])
    for path in paths:
        shutil.copy(next(paths[0].parent.rglob("best.ckpt")), path)
