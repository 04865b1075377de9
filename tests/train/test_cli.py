"""The command line: its help, what is told of a mistake or an error, and that nothing takes seconds for nothing."""

import ctypes
import inspect
import json
import re
import resource
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from maskrobust.errors import InputError, MissingFileError, about_library
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.objectives import OBJECTIVES
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter
from maskrobust.train.cli import COMMANDS, keep_freed_memory, main
from maskrobust.train.data import SHIPPED
from maskrobust.train.error_sentences import one_sentence
from tests.processes import started
from tests.train.data.sets.test_folder import write_tree


def sentence_of(arguments, capsys):
    """Run a command that must fail, and return what it told the user: a sentence, or a list of several."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    _, begins, last = capsys.readouterr().err.strip().rpartition("maskrobust: error: ")
    assert begins and all(line.startswith("- ") for line in last.splitlines()[1:])
    return last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_by_its_help(command, capsys):
    with suppress(SystemExit):
        main([command, "--help"])
    _, *described = re.split(r"\n  (?=-|NAME)", capsys.readouterr().out.partition("\n\n")[2])
    texts = {" ".join(re.split(r" {2,}|\n", each)[:1]): re.split(r" {2,}|\n\s*", each)[1] for each in described}
    assert {
        name: text for name, text in texts.items() if not text or text.startswith(("(type", "(required", "(default"))
    } == {}
    if command == "shards":
        assert "--samples_per_shard SAMPLES_PER_SHARD" in texts


TRAININGS = [("fit", MaskRobustClassifier), ("pretrain", MaskedPretraining), ("segment", MaskRobustSegmenter)]


@pytest.mark.parametrize(("command", "model"), TRAININGS)
def test_the_help_of_a_training_tells_every_option_of_its_model_with_its_default(command, model, capsys):
    main([command, "--help"])
    text = capsys.readouterr().out
    told = {each.split()[0]: " ".join(each.split()) for each in re.split(r"\n(?=  --|\n)", text) if each.split()}
    for name, each in inspect.signature(model).parameters.items():
        if name in ("mean", "std", "ignore_index") or (name == "num_classes" and command != "pretrain"):
            continue
        line = told[f"--model.{name}"]
        default = str(each.default).lower() if isinstance(each.default, bool) else str(each.default)
        assert line.endswith(f"[{default}]") or each.default in (None, inspect.Parameter.empty), line
    assert f"{', '.join(OBJECTIVES)} or your own" in " ".join(text.split()) or command != "fit"


NEAREST = [
    ("evaluat", "evaluate"),
    ("--verison", "--version"),
    ("fit --data=Cues --trainer.max_epoch 1", "--trainer.max_epochs"),
    ("evaluate --data=Cues --out=o --patch_size 8", "--plan.patch_size"),
    ("masks --out=o --data=Cuse", "Cues"),
    ("masks --out=o --data=Folder --data.rot=x", "root"),
]


def test_a_misspelt_option_of_a_yaml_is_told_with_the_nearest_one(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("{data: Cues, plan: {patch_siz: 8}}")
    assert "(did you mean plan.patch_size?)" in sentence_of(["evaluate", f"--config={tmp_path / 'own.yaml'}"], capsys)


@pytest.mark.parametrize(("given", "nearest"), NEAREST, ids=[given for given, _ in NEAREST])
def test_a_misspelt_name_is_told_with_the_nearest_known_one(given, nearest, capsys):
    sentence = sentence_of(given.split(), capsys)
    assert f"(did you mean {nearest}?)" in sentence
    assert sentence.count("did you mean") == 1


TAKE_SECONDS = (
    *("albumentations", "cv2", "gradio", "matplotlib", "pytorch_lightning", "scipy", "skimage", "sklearn", "timm"),
    *("torch._dynamo", "torchmetrics", "torchvision", "wandb", "webdataset"),
)
OF_TORCHVISION = {"torchvision", "torch._dynamo"}
"""Which knows the names of its networks."""
IMPORTS_THEM = {"claim"}
"""Commands whose help reads what their data and trainings take."""


def test_help_and_misspelt_options_and_networks_import_nothing_that_takes_seconds(tmp_path):
    code = f"""
import sys
from maskrobust.train.cli import main
wrong = [
    ["evaluate", "--data=Cues", "--out=o", "--network", "[resnt18:x]"], ["export", "--onnx=o", "--network=no.ckpt"],
    ["predict", "--images=i", "--out=o", "--network=resnt18:x"], ["explain", "--data=Cues", "--network=resnt18"],
    ["play", "--network=resnt18:x"], ["fit", "--config=cues.yaml", "--model.architecture=resnt18"],
    ["evaluate", "--config=cues.yaml", "--out=o", "--network", "."]
]
misspelt = [["explain", "--imags=3"], ["evaluate", "--chekpoint", "x"], ["masks", "--imags=3"]]
helped = [[command, "--help"] for command in {sorted({*COMMANDS} - IMPORTS_THEM)}]
for words in [*misspelt, *helped, ["--help"]]:
    try:
        main(words)
    except SystemExit as stopped:
        assert stopped.code == (2 if words in misspelt else 0), words
print("imported:", sorted(sys.modules.keys() & {set(TAKE_SECONDS)}))
for words in wrong:
    try:
        main(words)
    except SystemExit as stopped:
        assert stopped.code == 2, words
        print("imported:", words[0], sorted(sys.modules.keys() & {set(TAKE_SECONDS) - OF_TORCHVISION}))
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path)
    imported = [line for line in done.stdout.splitlines() if line.startswith("imported: ")]
    commands = ("evaluate", "export", "predict", "explain", "play", "fit", "evaluate")
    assert imported == ["imported: []", *(f"imported: {command} []" for command in commands)]
    told = done.stderr.splitlines()[-7:]
    assert [("(did you mean resnet18?)" in line, "no.ckpt" in line, "'.' is a folder" in line) for line in told] == [
        *((True, False, False), (False, True, False)),
        *[(True, False, False)] * 4,
        (False, False, True),
    ]


CALLBACK = "pytorch_lightning.callbacks.ModelCheckpoint"
SENTENCES = [
    ("fit", ["required", "data"]),
    ("masks --data=Cues --out=o --data.ima=2", ["data: ", "Cues", "ima", "2"]),
    ("fit --data=Folder --trainer.max_epochs=1", ["data: ", "Folder", "required: root; see"]),
    ("fit --data=Cues --wandb.tags=x", ["wandb: ", "tags: ", "a list, as in '[a, b]'", "x"]),
    ("fit --data=torch.nn.Linear", ["data: ", "torch.nn.Linear", f"shipped data modules are {', '.join(SHIPPED)}"]),
]


OWN_SENTENCES = [
    (
        "fit --data=Cues --trainer.max_epochs=1 --model.weights=pretrained",
        "weights of 'small_resnet' must be a file, got 'pretrained'",
    ),
    (
        "fit --data=Cues --trainer.max_epochs=1 --model.fill=blak",
        "exemplar, other_image, or named after its own module",
    ),
    (
        "evaluate --data=Cues --out=o --network=resnet18:random --methods=[grey]",
        "token_dropping, or named after its own module",
    ),
    ("masks --out=o", "told nothing about data; name a configuration with data, or give --data."),
]


@pytest.mark.parametrize(("given", "named"), OWN_SENTENCES, ids=["weights", "fill", "methods", "data"])
def test_an_unknown_name_is_told_with_those_that_are_known(given, named, capsys):
    assert named in sentence_of(given.split(), capsys)


def assert_names(sentence, command, named):
    """It is one line that names all of `named` in this order, and says where to read on."""
    assert re.search(".*".join(map(re.escape, named)), sentence), sentence
    assert sentence.endswith(f"; see maskrobust {command} --help.")
    assert not re.search(r"<class|Union|typing|NestedArg|Parser key|NoneType", sentence)


@pytest.mark.parametrize(("given", "named"), SENTENCES, ids=[given for given, _ in SENTENCES])
def test_what_is_wrong_with_an_option_is_told_with_its_name_and_value(given, named, capsys):
    assert_names(sentence_of(given.split(), capsys), given.split(maxsplit=1)[0], named)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"data": {"class_path": "Folder", "init_args": {"rot": "X"}}}, ["data: ", "Folder", "'rot'"]),
        (
            {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": "x"}}]}},
            ["trainer.callbacks: ", CALLBACK, "save_top_k: ", "int", "x"],
        ),
    ],
    ids=["option", "type of a list"],
)
def test_what_is_wrong_in_a_yaml_is_told_with_its_name_and_value(content, named, tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"data": "Cues"} | content))
    assert_names(sentence_of(["fit", f"--config={path}"], capsys), "fit", named)


def test_a_group_that_is_no_group_in_a_yaml_is_named(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("{data: Cues, network: x, out: o, plan: 3}")
    sentence = sentence_of(["evaluate", f"--config={tmp_path / 'own.yaml'}"], capsys)
    assert sentence == "plan must hold options and their values, got '3'; correct it in the YAML."
    (tmp_path / "own.yaml").write_text("[data, Cues]")
    sentence = sentence_of(["evaluate", f"--config={tmp_path / 'own.yaml'}"], capsys)
    assert sentence.endswith("own.yaml' must hold options and their values as YAML, got list; correct it there.")


class Nothing(Dataset[int]):
    """Data whose samples cannot be had, for one kind of reason."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.kind("sample 0 must be there,\nbut is not; look for it.")


def error_of(samples):
    with pytest.raises(Exception, match="sample 0") as raised:
        list(samples)
    return raised.value


@pytest.mark.parametrize("kind", [InputError, MissingFileError, RuntimeError])
def test_what_a_loader_process_finds_wrong_is_told_on_one_line_unless_it_is_a_fault_of_the_program(kind):
    sentence = one_sentence(error_of(DataLoader(Nothing(kind), num_workers=1)), "fit")
    if kind is RuntimeError:
        assert sentence is None
    else:
        assert sentence is not None and sentence.endswith("sample 0 must be there, but is not; look for it.")
        assert "Traceback" not in sentence


def test_a_path_that_cannot_be_used_is_told_with_the_reason(tmp_path):
    with pytest.raises(IsADirectoryError) as raised:
        tmp_path.read_bytes()
    assert one_sentence(raised.value, "fit") == (
        f"'{tmp_path}' cannot be used (Is a directory); choose another path, or change its permissions."
    )


def import_nothing_of_ours():
    with pytest.raises(ImportError) as missing:
        from maskrobust.train.error_sentences import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    return missing.value


def test_a_fault_of_the_program_is_none_of_the_users_whatever_it_came_from():
    behind = RuntimeError("a fault")
    behind.__context__, behind.__suppress_context__ = InputError("dealt with."), True  # as by `raise ... from None`
    for fault in (import_nothing_of_ours(), behind):
        assert one_sentence(fault, "fit") is None


class Hungry(SmallResNet):
    """A network that asks for more memory than any machine has."""

    def __init__(self, num_classes=2):
        super().__init__(num_classes)

    def forward(self, images):
        return super().forward(images) + torch.empty(2**50)


FIT = ["fit", "--data=Folder", "--data.num_workers=0", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
OWN = f"{__name__}.Hungry"


@pytest.mark.parametrize(
    ("command", "precision"),
    [
        ([*FIT, "--data.image_size=32", f"--model.architecture={OWN}"], "--trainer.precision bf16-mixed"),
        (["evaluate", "--data=Folder", "--data.image_size=32", f"--network={OWN}", "--out=out"], "--precision bf16"),
    ],
    ids=["first step", "evaluation"],
)
def test_memory_that_runs_out_is_one_line_that_says_what_to_make_smaller(
    command, precision, tmp_path, capsys, monkeypatch
):
    write_tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = sentence_of([*command, "--data.root=images"], capsys)
    assert said.startswith(
        "memory ran out; make --data.batch_size or --data.image_size smaller, or compute in bfloat16"
    )
    assert said.endswith(f"({precision}).")


def count_new_pages(told):
    """The pages that a second tensor of 64 MiB takes, without and with what commands do first."""
    found = []
    for prepare in (lambda: None, keep_freed_memory):
        prepare()
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(16, 2**20)  # freed at once
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    told.write_text(json.dumps(found))


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_a_tensor_as_large_as_one_that_was_freed_takes_no_new_pages(tmp_path):
    with started(count_new_pages, tmp_path / "told") as process:
        assert process.wait() == 0
    without, kept = json.loads((tmp_path / "told").read_text())
    assert kept < 100 < without


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "scipy.stats",
            "scipy is needed here, .*; install it with pip install scipy, or all libraries with pip install ",
        ),
        ("cv2", "cv2 is needed here, .*; install it with pip install opencv-python-headless, or all libraries with "),
        ("absl", r"absl is needed here, .*; install the package that has it, or all of ours with pip install \."),
    ],
)
def test_a_missing_library_is_named_as_a_package_only_where_we_know_its_name(module, said):
    """The package of absl is absl-py; a stranger may own the name absl."""
    assert re.match(said, about_library(ImportError("no", name=module)))
