"""`maskrobust evaluate`: the figures of checkpoints, side by side, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest
import torch

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.reliance.estimation import estimate_difference
from maskrobust.lm_modules.reliance.measures.accuracy import silhouette_accuracy
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.suite import RelianceSuite
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.summary import summarise
from tests.lm_modules.reliance.tables import make_outcomes
from tests.train.report.pages import Page
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_DATA, tiny_fit

DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in TINY_DATA.items())]
QUICK = ["--methods=[black, layer_masking]", "--patch_size=8", "--replicates=50"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    found = []
    for masking in ("none", "layer_masking"):
        folder = tmp_path_factory.mktemp(masking)
        main(["fit", *tiny_fit("cues.yaml", folder), f"--model.masking={masking}"])
        found.append(str(next(folder.rglob("last.ckpt"))))
    return found


@pytest.fixture(scope="module")
def evaluated(checkpoints: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    main(["evaluate", f"--checkpoint={json.dumps(checkpoints)}", *DATA, *QUICK, f"--out={out}"])
    return out


def outcomes_of(path: str, method: str) -> Outcomes:
    data = Cues(**TINY_DATA)
    bank = SilhouetteBank.from_batches(data.test_dataloader())
    suite = RelianceSuite(bank, data.num_classes, ReliancePlan(patch_size=8, hidden_fractions=(0.5,)))
    classifier = MaskRobustClassifier.from_checkpoint(path).eval()
    for batch in data.test_dataloader():
        suite.update({method: classifier.predictor(method)}, batch)
    return suite.outcomes()[method]


def test_the_figures_are_those_of_the_networks_in_the_files(evaluated: Path, checkpoints: list[str]) -> None:
    reliance = json.loads((evaluated / "reliance.json").read_text())
    assert list(reliance["checkpoints"]) == checkpoints
    for path in checkpoints:
        for method in ("black", "layer_masking"):
            figures, outcomes = reliance["checkpoints"][path][method], outcomes_of(path, method)
            valid = outcomes.object_valid
            for figure, condition in (
                ("clean_accuracy", "clean"),
                ("silhouette_accuracy", "silhouette"),
                ("retention_0.5", "retention/0.5"),
            ):
                right = outcomes.behind(condition) == outcomes.labels
                asked = valid if condition == "silhouette" else slice(None)
                assert figures[figure]["value"] == pytest.approx(right[asked].mean())
    assert reliance["checkpoints"][checkpoints[1]]["layer_masking"]["hidden_pixel_sensitivity"]["value"] == 0


def test_further_checkpoints_are_compared_with_the_first_image_by_image(
    evaluated: Path, checkpoints: list[str]
) -> None:
    reliance = json.loads((evaluated / "reliance.json").read_text())
    assert list(reliance["differences"]) == checkpoints[1:] and reliance["compared_with"] == checkpoints[0]
    found = reliance["differences"][checkpoints[1]]["black"]["silhouette_accuracy"]
    runs = [[outcomes_of(path, "black")] for path in reversed(checkpoints)]
    expected = estimate_difference(silhouette_accuracy(), *runs, replicates=50).estimate
    assert expected is not None and [found[name] for name in ("value", "low", "high")] == pytest.approx(list(expected))


def test_a_difference_is_that_of_the_further_checkpoint_minus_the_first(tmp_path: Path) -> None:
    runs = {name: {"black": make_outcomes(80, seed, skill=seed / 2)} for seed, name in enumerate(("first", "further"))}
    first, further = (by_method["black"] for by_method in runs.values())
    probe = ProbeOutcomes(first.ids, first.labels, first.labels)
    shapes_alone = {"features": False, "curve_families": (), "transfer_families": ()}
    config = EvaluationConfig(
        Cues(**TINY_DATA), tmp_path, list(runs), methods=("black",), replicates=50, **shapes_alone
    )
    differences = summarise(config, runs, probe, seconds=0.0, command="")["differences"]["further"]["black"]
    for name, condition in (("clean_accuracy", "clean"), ("silhouette_accuracy", "silhouette")):
        before, after = ((run.behind(condition) == run.labels).mean() for run in (first, further))
        assert differences[name]["value"] == pytest.approx(after - before) != 0


def test_every_figure_with_an_interval_is_in_the_csv(evaluated: Path, checkpoints: list[str]) -> None:
    reliance = json.loads((evaluated / "reliance.json").read_text())
    rows = csv.DictReader((evaluated / "reliance.csv").read_text().splitlines())
    values = {(row["checkpoint"], row["compared_with"], row["method"], row["figure"]): row["value"] for row in rows}
    for part, other in {"checkpoints": "", "differences": checkpoints[0]}.items():
        for path, methods in reliance[part].items():
            for method, figures in methods.items():
                for name, figure in figures.items():
                    if "low" in figure:
                        expected = "" if figure["value"] is None else str(figure["value"])
                        assert values[path, other, method, name] == expected


def test_the_report_shows_the_checkpoints_and_what_they_took_the_examples_for(evaluated: Path) -> None:
    page = Page((evaluated / "report.html").read_text())
    reliance = json.loads((evaluated / "reliance.json").read_text())
    assert json.loads(page.texts["reliance-json"]) == reliance
    assert all(path in page.texts["checkpoints"] for path in reliance["checkpoints"])
    names = [name.replace("_", " ") for name in Cues(**TINY_DATA).class_names]
    assert any(name.replace("_", " ") in page.texts["examples"] for name in names)


def test_weights_of_a_named_architecture_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.pt"
    data = Cues(**TINY_DATA)
    classifier = MaskRobustClassifier("small_resnet", data.num_classes, architecture_options={"width": 16})
    torch.save(classifier.network.state_dict(), weights)
    architecture = ["--architecture=small_resnet", "--architecture_options={width: 16}"]
    main(["evaluate", f"--checkpoint=[{weights}]", *architecture, *DATA, *QUICK, f"--out={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    assert {"Layer", "masking", "share"} <= set(printed.split()) and "reliance.json" in printed
    assert json.loads((tmp_path / "out" / "reliance.json").read_text())["differences"] == {}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--checkpoint=[nowhere.ckpt]"], "'nowhere.ckpt' does not exist"),
        (["--checkpoint=[]"], "checkpoint must name at least one"),
        (["--checkpoint=[a.ckpt, a.ckpt]"], "different files"),
        (["--checkpoint=[a.ckpt]", "--hidden_fractions=[1.5]"], "hidden_fractions"),
        (["--checkpoint=[a.ckpt]", "--methods=[]"], "methods"),
        (["--checkpoint=[a.ckpt]", "--replicates=0"], "replicates"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_nothing_written(
    options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in sentence_of(["evaluate", *options, *DATA, f"--out={tmp_path / 'out'}"], capsys)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskrobust.train.evaluate.measure.measure", lambda *_: pytest.fail("has measured"))
    (tmp_path / "file").write_text("")
    sentence = sentence_of(["evaluate", "--checkpoint=any.ckpt", *DATA, f"--out={tmp_path / 'file'}"], capsys)
    assert sentence.startswith(f"'{tmp_path / 'file'}' cannot be used (Not a directory)")


def test_a_network_for_other_classes_is_refused(
    checkpoints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--checkpoint={json.dumps(checkpoints)}", *DATA, "--data.num_classes=3", f"--out={tmp_path}"]
    assert "classes but the data have 3" in sentence_of(["evaluate", *options], capsys)
