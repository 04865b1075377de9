"""`maskrobust evaluate`: the numbers of checkpoints, side by side, and what it refuses."""

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.estimates.estimation import estimate_difference
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.accuracy import silhouette_accuracy
from maskrobust.lm_modules.reliance.measures.shape import TWO_CLASSES
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.measure import Answered
from maskrobust.train.evaluate.summary import summarise
from maskrobust.train.networks import load_for, load_networks, read_classes
from maskrobust.train.report.headline import said
from tests.lm_modules.reliance.tables import answering, make_outcomes
from tests.train.data.layouts import write_classes
from tests.train.report.pages import squeezed
from tests.train.runs import next_commands, table
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA, write_checkpoint

DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in TINY_DATA.items())]
METHODS = ("black", "layer_masking")
QUICK = [
    *(f"--methods=[{', '.join(METHODS)}]", "--plan.patch_size=8"),
    *("--plan.scenes=2", "--plan.scene_objects=16", "--plan.curve_families=[]", "--plan.transfer_families=[]"),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return [write_checkpoint(folder / f"{each}.ckpt", masking=each) for each in ("none", "layer_masking")]


@pytest.fixture(scope="module")
def evaluated(checkpoints, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    main(["evaluate", f"--network={json.dumps(checkpoints)}", *DATA, *QUICK, "--predictions=true", f"--out={out}"])
    return out


@pytest.fixture(scope="module")
def asked(checkpoints):
    """The answers of each checkpoint under each method, from a measurement itself."""
    data = Cues(**TINY_DATA)
    bank = SilhouetteBank.from_batches(data.test_dataloader())
    plan = ReliancePlan(patch_size=8, hidden_fractions=(0.5,))
    found = {}
    for path in checkpoints:
        network = MaskRobustClassifier.from_checkpoint(path).eval().trained_network()
        asked = {method: Asked(network.predictor(method), plan) for method in METHODS}
        found[path] = Measurement(asked, bank, data.num_classes).run(each.to("cpu") for each in data.test_dataloader())
    return found


def rows_of(folder, **wanted):
    return select([Row(**row) for row in json.loads((folder / "reliance.json").read_text())["rows"]], **wanted)


def test_the_rows_are_those_of_the_networks_in_the_files(evaluated, checkpoints, asked):
    assert json.loads((evaluated / "reliance.json").read_text())["networks"] == checkpoints
    conditions = {"clean_accuracy": "clean", "silhouette_accuracy": "silhouette", "retention_0.5": "retention/0.5"}
    for path, method, (name, condition) in itertools.product(checkpoints, METHODS, conditions.items()):
        outcomes = asked[path][method]
        right = outcomes.predictions_under(condition) == outcomes.labels
        of_objects = outcomes.object_valid if condition == "silhouette" else slice(None)
        rows = rows_of(evaluated, network=path, method=method, compared_with="")
        (row,) = (row for row in rows if row.name == name)
        assert row.value == pytest.approx(right[of_objects].mean()) and row.images == right[of_objects].size


def test_further_checkpoints_and_methods_are_compared_with_the_first_image_by_image(evaluated, checkpoints, asked):
    differences = [row for row in rows_of(evaluated) if row.compared_with]
    first, second = checkpoints
    assert {(row.network, row.compared_with) for row in differences} == {
        (second, first),
        (first, first),
        (second, second),
    }
    assert {row.compared_method for row in differences if row.network == row.compared_with} == {METHODS[0]}
    accuracies = select(differences, measure="silhouette_accuracy")
    (of_network,) = select(accuracies, method="black", compared_with=first, network=second)
    (of_method,) = select(accuracies, method=METHODS[1], compared_with=second, network=second)
    runs = (asked[second]["black"], asked[first]["black"]), (asked[second][METHODS[1]], asked[second][METHODS[0]])
    for found, (one, other) in zip((of_network, of_method), runs, strict=True):
        expected = estimate_difference(silhouette_accuracy(), [one], [other])
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_every_pair_of_checkpoints_and_of_methods_is_told_apart_or_not_by_how_far_choices_lie_from_half(tmp_path):
    skills = {"low": {"black": 0.0, "mean": 0.9}, "high": {"black": 0.9, "mean": 0.9}}
    reliance, _ = made_up(tmp_path, skills | {"also_low": {"black": 0.0, "mean": 0.0}}, images=300)
    readings = {
        (row["network"], row["method"], row["compared_with"], row["compared_method"]): row["reading"]
        for row in reliance["rows"]
        if row["measure"] == "reliance"
    }
    assert readings == {
        ("high", "black", "low", ""): "relies more",
        ("also_low", "black", "low", ""): "no evidence of a difference",
        ("also_low", "black", "high", ""): "relies less",
        ("high", "mean", "low", ""): "no evidence of a difference",
        ("also_low", "mean", "low", ""): "relies less",
        ("also_low", "mean", "high", ""): "relies less",
        ("low", "mean", "low", "black"): "relies more",
        ("high", "mean", "high", "black"): "no evidence of a difference",
        ("also_low", "mean", "also_low", "black"): "no evidence of a difference",
    }


def made_up(folder, skills, images=80):
    """What is summarised of made-up outcomes of networks that read outlines with these skills, and the outcomes.

    With nothing hidden they are right about half of the images, and guess the others.
    """
    runs: dict[str, dict[MaskingMethod, Outcomes]] = {}
    for seed, (name, skill) in enumerate(skills.items()):
        known = np.random.default_rng(seed).random(images) < 0.5
        for method, each in skill.items():
            found = make_outcomes(images, seed, skill=each)
            clean = np.where(known, found.labels, found.predictions["clean"])
            runs.setdefault(name, {})[method] = answering(found, clean=clean)
    methods = tuple(next(iter(runs.values())))
    given: dict[str, Any] = {"methods": methods, "plan": ReliancePlan()}
    config = EvaluationConfig(Cues(**TINY_DATA), folder, list(runs), **given)
    return summarise(config, Answered(runs, config.plans), {}, seconds=0.0).as_json(), runs


@pytest.mark.parametrize("frequencies", [(38, 4), (34, 4, 4)])
def test_of_42_images_of_unbalanced_classes_nothing_false_is_said_and_no_interval_is_longer_than_its_scale(
    frequencies, tmp_path
):
    """A reader of outlines, and a network that always names the commonest class, which is at chance."""
    labels, runs = np.repeat(np.arange(len(frequencies)), frequencies), {}
    for name, skill in (("reader", 0.9), ("commonest", 0.0)):
        made = replace(make_outcomes(42, 0, skill=skill), labels=labels, num_classes=len(frequencies), scenes=None)
        common = np.zeros(42, np.int64)
        behind = {hole: common for hole in ("clean", "silhouette", "circle", "retention/0.5")}
        if skill:
            behind |= {"clean": labels, "silhouette": labels}
        runs[name] = {"black": answering(made, **behind)}
    config = EvaluationConfig(Cues(**TINY_DATA), tmp_path, [*runs], methods=("black",), plan=ReliancePlan())
    results = summarise(config, Answered(runs, config.plans), {}, seconds=0.0)
    for row in results.rows:
        scale = {"fraction": 1.0, "points": 2.0, "number": 2.0}.get(catalogue()[row.measure].unit, np.inf)
        assert (row.high or 0.0) - (row.low or 0.0) <= scale * (1 + bool(row.compared_with)), row
    first, *others = [squeezed(each) for each in said(results)]
    if len(frequencies) == 2:
        assert first.startswith("reader is right in 90% under black fill, with half of the patches hidden.")
        assert TWO_CLASSES in others
    else:
        assert first == (
            "reader reads outlines under black fill (of two classes, that of the hole's shape is preferred in 93%; "
            "50%: blind)."
        )
    assert any(each.startswith("commonest is at chance with nothing hidden (") for each in others)
    assert not any("commonest reads" in each or "commonest hardly" in each for each in [first, *others])


def test_a_network_is_pulled_where_the_interval_lies_above_zero(evaluated):
    rows = [row for row in rows_of(evaluated, measure="outline_pull") if row.low is not None and not row.compared_with]
    assert any(row.low <= 0.0 for row in rows)
    for row in rows:
        assert row.reading == ("pulled" if row.low > 0.0 else "no evidence")


def test_the_csv_holds_every_row(evaluated):
    lines = table(evaluated / "reliance.csv")
    for line, row in zip(lines, rows_of(evaluated), strict=True):
        assert (line["network"], line["method"], line["measure"]) == (row.network, row.method, row.measure)
        assert line["value"] == ("" if row.value is None else str(row.value))


def test_predictions_are_those_that_the_accuracies_count(evaluated, checkpoints):
    lines = table(evaluated / "predictions.csv")
    for path, (method, fraction, measure) in itertools.product(
        checkpoints, (("", "0.0", "clean_accuracy"), ("black", "0.5", "retention"))
    ):
        about = {"network": path, "method": method, "hidden_fraction": fraction}
        right = [line["label"] == line["prediction"] for line in lines if about.items() <= line.items()]
        (row,) = rows_of(evaluated, network=path, method="black", measure=measure, compared_with="")
        assert len(right) == row.images and sum(right) / len(right) == pytest.approx(row.value)


def test_weights_of_a_named_architecture_are_measured_and_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # in fewer, words of the first column are folded
    weights = tmp_path / "weights.pt"
    torch.save(SmallResNet(8, width=16).state_dict(), weights)
    given = [f"--network=small_resnet:{weights}", *FEW, "--methods=[black, layer_masking]"]
    main(["evaluate", *given, f"--out={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    assert {"layer", "masking", "outline", "circle"} <= set(printed.split()) and "reliance.json" in printed
    ((command, *predicting),) = next_commands(printed)
    assert command == "predict" and predicting[:2] == ["--network", f"small_resnet:{weights}"]
    assert {row.compared_with for row in rows_of(tmp_path / "out")} == {"", f"small_resnet:{weights}"}
    assert rows_of(tmp_path / "out", measure="clean_accuracy", method="black")[0].images == 24


def test_a_plan_without_shapes_leaves_out_what_they_tell(tmp_path):
    networks = "--network=[small_resnet:random, timm/test_resnet:random]"  # two: pairs are compared by what shapes tell
    main(["evaluate", networks, *FEW, "--plan.shapes=false", f"--out={tmp_path / 'out'}"])
    assert rows_of(tmp_path / "out", measure="retention") and not rows_of(tmp_path / "out", measure="silhouette_leak")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Half of the patches hidden" in page
    assert "Object hidden, and a blob elsewhere" not in page and "Enclosing circle of the object" not in page
    settings = json.loads((tmp_path / "out" / "reliance.json").read_text())["settings"]
    assert settings["left_out"] == []


def test_without_hidden_fractions_no_patches_are_hidden(tmp_path):
    nothing = ["--plan.hidden_fractions=[]", "--plan.shapes=false", "--predictions=true"]
    main(["evaluate", "--network=small_resnet:random", *FEW, *nothing, f"--out={tmp_path / 'out'}"])
    assert not rows_of(tmp_path / "out", measure="retention")
    assert {row.method for row in rows_of(tmp_path / "out", measure="clean_accuracy")} == {"black"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Patches hidden" in page and "half" not in page.partition('id="grid"')[2].partition("</section>")[0]


FEW = [*DATA, *FEW_MEASURES, "--methods=[black]"]


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    """A folder of weights and classes, two networks of different size and number of outputs, and what both take."""
    folder = tmp_path_factory.mktemp("networks")
    torch.save(SmallResNet(9, width=16).state_dict(), folder / "weights.pt")
    classes = {name: 2 * place % 9 for place, name in enumerate(Cues(**TINY_DATA).class_names)}
    write_classes(folder / "classes.csv", classes)
    networks = [f"small_resnet:{folder / 'weights.pt'}", "timm/test_resnet:random"]
    options = [*FEW, "--data.test_images=16", f"--classes={folder / 'classes.csv'}"]
    main(["evaluate", f"--network={json.dumps(networks)}", *options, f"--out={folder / 'both'}"])
    return folder, networks, options


def test_the_rows_of_a_further_network_of_another_kind_are_those_of_a_call_of_its_own(side_by_side, tmp_path):
    folder, networks, options = side_by_side
    main(["evaluate", f"--network={networks[1]}", *options, f"--out={tmp_path}"])
    alone = rows_of(tmp_path, network=networks[1], compared_with="")
    assert alone and rows_of(folder / "both", network=networks[1], compared_with="") == alone


def test_answers_that_are_none_of_the_datas_classes_are_wrong_or_left_out(side_by_side, tmp_path):
    folder, networks, options = side_by_side
    main(["evaluate", f"--network={networks[1]}", *options, "--answers=present", f"--out={tmp_path}"])
    data, network = Cues(**{**TINY_DATA, "test_images": 16}), load_network(networks[1])
    outputs = [2 * place % 9 for place in range(data.num_classes)]
    batch = Batch.cat(list(data.test_dataloader())).to("cpu")
    with torch.no_grad():
        logits = network(batch.images)
    wanted = torch.tensor(outputs)[batch.labels]
    for out, right in (
        (folder / "both", logits.argmax(dim=1) == wanted),
        (tmp_path, logits[:, outputs].argmax(dim=1) == batch.labels),
    ):
        (row,) = rows_of(out, network=networks[1], method="black", measure="clean_accuracy", compared_with="")
        assert row.value == pytest.approx(right.float().mean().item())


def test_a_checkpoint_is_measured_on_some_of_its_classes_by_their_names(checkpoints, tmp_path, capsys):
    options = [f"--network={checkpoints[0]}", *FEW, "--data.num_classes=3"]
    main(["evaluate", *options, f"--out={tmp_path / 'out'}"])
    some = rows_of(tmp_path / "out", measure="clean_accuracy", method="black")
    data = Cues(**{**TINY_DATA, "num_classes": 3})
    classifier = MaskRobustClassifier.from_checkpoint(checkpoints[0]).eval()
    assert classifier.class_names == Cues(**TINY_DATA).class_names
    outputs = torch.tensor([classifier.class_names.index(name) for name in data.class_names])
    batch = Batch.cat(list(data.test_dataloader())).to("cpu")
    with torch.no_grad():
        right = classifier(batch.images).argmax(dim=1) == outputs[batch.labels]
    assert [row.value for row in some] == [pytest.approx(right.float().mean().item())]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--network=[nowhere.ckpt]"], "'nowhere.ckpt' does not exist"),
        (["--network=[resnet18:random, resnet18:random]"], "must be different"),
        (["--network=resnet18:random", "--classes={folder}/other.csv"], "'brick ellipse'"),
        (["--network=timm/test_resnet"], "test_resnet.r160_in1k:pretrained"),
        (["--network=small_resnet:random", "--classes={folder}/line.csv"], "it has the line b"),
        (["--network=small_resnet:random", "--preprocess={crop: 0.7}"], "leave it out of --preprocess"),
        (["--network=small_resnet:random", "--device=cuda:99"], "device"),
        (["--network=timm/mixer_s32_224:random"], "layer masking"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_nothing_is_written(options, named, tmp_path, capsys):
    (tmp_path / "line.csv").write_text("class,output\na,1\nb\n")
    write_classes(tmp_path / "other.csv", {"dog": 1})
    given = [option.replace("{folder}", str(tmp_path)) for option in options]
    assert named in sentence_of(["evaluate", *given, *DATA, f"--out={tmp_path / 'out'}"], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["small_resnet:random", "timm/test_resnet:random"])
def test_random_weights_have_as_many_outputs_as_the_data_have_classes(name):
    data = Cues(num_classes=3)
    network = load_networks([name], data, "32")[name]
    assert network(torch.rand(2, 3, 48, 48)).shape == (2, 3) and network.class_names is None
    assert load_for(name, None, "32").num_classes == (10 if name.startswith("small") else 1000)


def test_outputs_of_classes_are_numbers_or_names(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text(f'class,output\nn01440764,0\n\n"golden, retriever",n02099601\n4,5\ncat,{"9" * 200}\n')
    assert read_classes(path) == {"n01440764": 0, "golden, retriever": "n02099601", "4": 5, "cat": "9" * 200}
