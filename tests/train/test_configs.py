"""Every shipped configuration takes its steps: a new YAML is found by itself, and fails here until it can be run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from maskrobust.augment import SilhouetteBank
from maskrobust.train.claim.checks import parse_config as parse_claim
from maskrobust.train.claim.runs import all_runs, measured_run, run_arm
from maskrobust.train.cli import main
from maskrobust.train.running.progress import ClaimProgress
from tests.test_house import CONFIGS
from tests.train.runs import rows
from tests.train.tiny import TINY_NETWORK, TWO_STEPS, content_of, tiny_claim, tiny_data

CLAIMS = [name for name in CONFIGS if "arms" in content_of(name)]
OVERLAYS = [name for name in CONFIGS if name.startswith("overlays/")]
PRETRAININGS = [name for name in CONFIGS if name.startswith("pretrain")]
SEGMENTATIONS = [name for name in CONFIGS if name.startswith("segment")]
TRAININGS = [name for name in CONFIGS if name not in CLAIMS + OVERLAYS + PRETRAININGS + SEGMENTATIONS]
MASK_OVERLAYS = [name for name in OVERLAYS if "model" in content_of(name)]

Data = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Arguments that make a data module small, by its name; what it reads is written once."""
    written = {}

    def small(name):
        if name not in written:
            written[name] = tiny_data(name, tmp_path_factory.mktemp(name))
        return written[name]

    return small


def fit_arguments(data, folder, training, *overlays):
    content = content_of(training)
    small = data(content["data"]["class_path"])
    configs = [f"--config={name}" for name in (training, *overlays)]
    sizes = [f"--data.init_args.{name}={value}" for name, value in small.items()]
    arguments = [*configs, f"--trainer.default_root_dir={folder}", *TWO_STEPS, *TINY_NETWORK, *sizes]
    return arguments


def checkpoint(folder):
    """The checkpoint best.ckpt of the run below a folder, after which it must have been validated."""
    assert any(row["val/accuracy"] for row in rows(folder))
    (path,) = folder.rglob("best.ckpt")
    return torch.load(path, weights_only=True)


def test_every_configuration_is_a_training_a_claim_an_explanation_an_evaluation_or_an_overlay():
    assert all({"trainer", "data", "model", "run_name"} <= content_of(name).keys() for name in TRAININGS)
    assert {"layer_masking", "mask_augmentation", "no_masks"} <= {Path(name).stem for name in MASK_OVERLAYS}
    assert len(CLAIMS) + len(TRAININGS) >= 9
    assert len(TRAININGS) >= len(MASK_OVERLAYS)  # each overlay goes with a training


@pytest.mark.parametrize("training", TRAININGS)
def test_every_shipped_training_takes_two_steps(training, data, tmp_path):
    main(["fit", *fit_arguments(data, tmp_path, training)])
    saved = checkpoint(tmp_path)
    assert saved["global_step"] == 2
    assert saved["config"]["run_name"] == Path(training).stem  # so that runs do not end in one folder
    if training == "imagenet_folder.yaml":  # which saves averaged weights
        averaged, last = saved["state_dict"], saved["current_model_state"]
        names = ("network.conv1.weight", "network.bn1.running_mean")
        assert averaged.keys() == last.keys() and not any(torch.equal(averaged[name], last[name]) for name in names)


@pytest.mark.parametrize("pretraining", PRETRAININGS)
def test_every_shipped_pretraining_takes_two_steps(pretraining, data, tmp_path):
    sizes = [
        f"--data.init_args.{name}={value}"
        for name, value in data(content_of(pretraining)["data"]["class_path"]).items()
    ]
    config = [f"--config={pretraining}", f"--trainer.default_root_dir={tmp_path}"]
    main(["pretrain", *config, *TWO_STEPS, *TINY_NETWORK, *sizes, "--model.patch_size=8"])
    assert any(row["val/loss"] for row in rows(tmp_path))
    (best,) = tmp_path.rglob("best.ckpt")
    assert torch.load(best)["config"]["run_name"] == Path(pretraining).stem


@pytest.mark.parametrize("segmentation", SEGMENTATIONS)
def test_every_shipped_segmentation_takes_two_steps(segmentation, data, tmp_path):
    sizes = [f"--data.init_args.{name}={value}" for name, value in data("Tiles").items()]
    small = "--model.architecture_options={encoder_depth: 3, decoder_channels: [16, 8, 8]}"
    main(["segment", f"--config={segmentation}", f"--trainer.default_root_dir={tmp_path}", *TWO_STEPS, *sizes, small])
    (best,) = tmp_path.rglob("best.ckpt")
    assert torch.load(best)["config"]["run_name"] == Path(segmentation).stem and rows(tmp_path)[-1]["val/iou"]


@pytest.mark.parametrize(("training", "overlay"), list(zip(TRAININGS, MASK_OVERLAYS, strict=False)))
def test_every_mask_overlay_changes_a_training_as_it_says(training, overlay, data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *fit_arguments(data, tmp_path, training, overlay), "--print_config"])
    model, given = yaml.safe_load(capsys.readouterr().out)["model"], content_of(training)["model"]
    changed = content_of(overlay)["model"]
    assert {name: model[name] for name in changed} == changed
    kept = given.keys() - changed.keys() - {"architecture", "weights", "trainable"}
    assert {name: model[name] for name in kept} == {name: given[name] for name in kept}


@pytest.fixture
def compiled_by(fresh_compiler):
    """The backends of torch.compile that were asked for; a cheap one does the work."""
    asked = []
    compile_with = torch.compile

    def cheaply(*arguments, backend="inductor", **options):
        asked.append(backend)
        return compile_with(*arguments, backend="eager", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", cheaply)
        yield asked


@pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary")
def test_half_precision_comes_with_an_overlay_and_goes_with_compilation(data, tmp_path, compiled_by):
    arguments = fit_arguments(data, tmp_path, "imagenet_folder.yaml", "overlays/gpu_bf16")
    tiny = ["--model.architecture=tests.train.networks.Tiny", "--model.architecture_options={}"]
    main(["fit", *arguments, *tiny, "--compile=true"])
    saved = checkpoint(tmp_path)
    assert saved["config"]["trainer"]["precision"] == "bf16-mixed"
    assert compiled_by == ["inductor"]
    assert not any("_orig_mod" in name for name in saved["state_dict"])


def test_every_overlay_is_tested():
    others = {
        f"overlays/{name}.yaml" for name in ("gpu_bf16", "multi_gpu", "wandb")
    }  # the latter in test_launchers.py and test_loggers.py
    assert set(OVERLAYS) == {*MASK_OVERLAYS, *others}


@pytest.mark.parametrize("name", CLAIMS)
def test_every_shipped_claim_makes_a_run(name, data, tmp_path):
    content = content_of(name)
    small = data(content["data"]["class_path"]) | {"train_images": 32, "val_images": 16, "test_images": 16}
    changes = {"data": content["data"] | {"init_args": content["data"]["init_args"] | small | {"image_size": 32}}}
    few = {"curve_families": [], "transfer_families": []}  # more in tests/train/claim/test_claim.py
    changes["evaluation"] = content["evaluation"] | {"plan": content["evaluation"]["plan"] | few}
    changes["seeds"] = content["seeds"]
    path = tiny_claim(name, tmp_path / "claim.yaml", **changes)
    config = parse_claim([f"--config={path}", f"--out={tmp_path / 'out'}"])
    assert len(all_runs(config)) == len(content["seeds"]) * len(content["arms"])
    config.data.prepare_data()
    config.data.setup("fit")
    first, bank = next(iter(config.arms)), SilhouetteBank.from_batches(config.data.annotated_batches("val"))
    with ClaimProgress(Console(quiet=True), runs=1) as progress:
        run_arm(config, first, config.seeds[0], bank, progress)
    assert measured_run(config, first, config.seeds[0]).keys() == {*config.plans_of(first)}
