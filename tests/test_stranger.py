"""The wheel in the hands of others: built without a warning, installed in an environment of its own, used from there.

Nothing of the repository is on the path of the processes that are started here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import torch

from maskrobust.lm_modules.networks.architectures import build_network
from tests.test_house import distribution_name, required_by
from tests.train.report.pages import Page
from tests.train.tiny import FEW_MEASURES, TINY_DATA

ROOT = Path(__file__).parents[1]
FOLDERS = ("augment", "configs", "lm_modules", "train", "maskrobust")
SOURCES = (*FOLDERS, "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")
BUILD = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('sdists'); build_wheel('wheels')"
SITE_PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def run(command, folder, status=0):
    """Run a command in a folder, without what says where to find modules, and return what it has said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The wheel, and what building it and the sdist has said; a warning of Python's would have ended it."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_links_and_caches)
        else:
            shutil.copy(source, folder / name)
    done = run([sys.executable, "-W", "error", "-c", BUILD], folder)
    (wheel,) = (folder / "wheels").iterdir()
    return wheel, done.stdout + done.stderr


def _links_and_caches(folder, names):
    return [name for name in names if name == "__pycache__" or Path(folder, name).is_symlink()]


@pytest.fixture(scope="module")
def commands(build, tmp_path_factory):
    """An environment with all libraries: its `python` and `maskrobust`."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    others = "".join(f"{path}\n" for path in sys.path if path.endswith("-packages"))
    (folder / SITE_PACKAGES / "others.pth").write_text(others)
    pip = [sys.executable, "-m", "pip", "--python", folder]
    run([*pip, "install", "-q", "--no-deps", "--no-index", build[0]], folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of somebody else's, whose files have the names of our folders."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "configs").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), folder / "weights.pt")
    return folder


FILES = {
    "augment.py": "augmented = True\n",
    "holes.py": """
import torch
from maskrobust import Statistic, draw, fill, mask_family, measure, right_answers, where_shapes

@mask_family("stripes")
def stripes(keys, height, width, *, period: int = 4):
    shown = torch.arange(width, device=keys.device) % (2 * period) < period
    return shown.expand(len(keys), 1, height, width)

@fill("pink")
def pink(images, visible):
    return draw(images, visible, torch.tensor([1.0, 0.5, 0.5])[None, :, None, None].expand_as(images))

@measure(title="Circle error", definition="Errors behind the circle.", goal="high", members=where_shapes)
def circle_error():
    return Statistic(lambda outcomes: right_answers(outcomes, "circle"), lambda means: 1 - means[..., 0])
""",
    "train.py": """
import maskrobust
import augment
from networks import Cubic

def mine():
    return maskrobust.LayerMasking, Cubic

if __name__ == "__main__":
    import train
    print(train.__file__, augment.__file__, maskrobust.LayerMasking(Cubic(num_classes=3)).training)
""",
    "networks.py": """
import sys
from torch import nn
from maskrobust import Masked, masking_rule

assert not {"wandb", "timm"} & {*sys.modules}, "what takes a second is imported for nothing"

class Cube(nn.Module):
    def forward(self, x):
        return x**3

@masking_rule(Cube)
def cube(operation: Cube, x: Masked) -> Masked:
    return x.with_features(operation(x.features))

class Cubic(nn.Sequential):
    def __init__(self, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=4), nn.BatchNorm2d(16), Cube(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(16, num_classes),
        )
""",
    "configs/own.yaml": f"""
run_name: own
trainer: {{max_epochs: 1, limit_train_batches: 2, accelerator: cpu, enable_progress_bar: false}}
data: {{class_path: Cues, init_args: {TINY_DATA}}}
model:
  architecture: {{class_path: networks.Cubic, init_args: {{num_classes: 8}}}}
  masking: fill
  mask_family: {{holes.stripes: {{period: 2}}}}
  fill: holes.pink
  mask_probability: 0.5
""",
}
OWN = (
    "--plan.transfer_families=[holes.stripes]",
    "--methods=[black, holes.pink]",
    "--plan.own_measures=[holes.circle_error]",
)


def test_building_the_wheel_and_the_sdist_warns_of_nothing(build):
    assert [line for line in build[1].splitlines() if re.search(r"warn|deprecat", line, re.IGNORECASE)] == []


def test_the_sdist_has_every_file_that_the_wheel_is_made_of(build):
    (path,) = (build[0].parents[1] / "sdists").iterdir()
    with tarfile.open(path) as sdist, zipfile.ZipFile(build[0]) as wheel:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
        installed = [name for name in wheel.namelist() if ".dist-info/" not in name]
    places = [name.removeprefix("maskrobust/") if name.split("/")[1] in FOLDERS else name for name in installed]
    assert [place for place in places if place not in packed] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= packed
    assert not any(name.startswith("tests/") for name in packed)


def other_modules():
    """Modules of all that is installed, but of torch, torchvision, NumPy, OpenCV and what these need themselves."""
    needed, left = set(), ["torch", "torchvision", "numpy", "opencv-python-headless"]
    while left:
        if (name := left.pop()) not in needed:
            needed.add(name)
            with suppress(metadata.PackageNotFoundError):  # it is required elsewhere, as on another system
                left += required_by(name)
    of_module = metadata.packages_distributions()
    return {module for module, owners in of_module.items() if needed.isdisjoint(map(distribution_name, owners))} - {
        "maskrobust"
    }


MISSING = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *given: None if name.partition(".")[0] in OTHERS else find(name, *given)
"""


def test_layer_masking_fills_families_and_questions_need_no_further_libraries_and_the_rest_says_what_it_lacks(
    commands, tmp_path
):
    code = """
import json, torch, torchvision
import maskrobust
from maskrobust import (
    FAMILIES, FILLS, Batch, LayerMasking, ReliancePlan, SilhouetteBank, apply_fill, build_family, patches, predictor,
    sample_keys,
)
from maskrobust.augment import family_needs
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement, result_rows

said = {}
def tried(name, call):
    try:
        return call()
    except maskrobust.errors.InputError as error:
        said[name] = str(error)

ids = torch.arange(8)
object_mask = torch.zeros(8, 1, 48, 48, dtype=torch.bool)
object_mask[..., 12:36, 12:30] = True
batch = Batch(ids, torch.rand(8, 3, 48, 48), object_mask, ids % 2)
bank, keys, colour = SilhouetteBank.from_batches([batch]), sample_keys(0, ids), (0.4, 0.5, 0.6)
visible = patches(keys, 48, 48, hidden_fraction=(0.5, 0.5), patch_size=8)
masked = LayerMasking(torchvision.models.resnet18(num_classes=2).eval())
assert masked(batch.images, visible).shape == (8, 2)
for name in FAMILIES:
    options = {"bank": bank} if "bank" in family_needs(name) else {}
    tried(name, lambda: build_family(name, **options)(keys, batch))
for name in FILLS:
    tried(name, lambda: apply_fill(name, batch.images, visible, keys=keys, mean=colour))
by_layers = predictor(masked, "layer_masking", colour, colour)
outcomes = Measurement({"layers": Asked(by_layers, ReliancePlan())}, bank, num_classes=2).ask(batch)["layers"]
tried("intervals", lambda: [*result_rows("mine", "layer_masking", {0: outcomes}, Context(ReliancePlan()))])
for name in maskrobust.__all__:
    tried(name, lambda: getattr(maskrobust, name))
print(json.dumps(said), flush=True)

from maskrobust.train.cli import main
main(['masks', '--data', 'Cues', '--out', 'out'])
"""
    program = f"OTHERS = {other_modules()}\n{MISSING}\n{code}"
    done = run([commands / "python", "-c", program], tmp_path, status=2)
    (line,), (told,) = done.stdout.splitlines(), done.stderr.splitlines()
    assert re.fullmatch(
        r"maskrobust: error: (\w+) is needed here, .*; install it with pip install \S+, or all .*", told
    )
    remedies = {"skimage": "scikit-image", "scipy": "scipy", "pytorch_lightning": "pytorch-lightning"}
    lacking = {"slic": "skimage", "quickshift": "skimage", "exemplar": "scipy", "linear_imputation": "scipy"}
    lacking["intervals"] = "scipy"
    lacking |= dict.fromkeys(
        (
            "MaskRobustClassifier",
            "MaskRobustSegmenter",
            "MaskedPretraining",
            "RelianceCallback",
            "Prediction",
            "predict",
        ),
        "pytorch_lightning",
    )
    assert json.loads(line) == {
        name: f"{library} is needed here, but cannot be imported (No module named '{library}'); install it with pip "
        f"install {remedies[library]}, or all libraries with pip install . in a clone of maskrobust."
        for name, library in lacking.items()
    }


def test_a_script_of_the_project_gets_its_own_modules_and_ours(commands, project):
    own_train, own_augment, training = run([commands / "python", "train.py"], project).stdout.split()
    assert (Path(own_train), Path(own_augment)) == (project / "train.py", project / "augment.py")
    assert training == "True"


BOTH = """
import sys
from maskrobust.train.cli import main
one, other = "\\n".join(sys.argv[1:]).split("\\n--\\n")
main(one.split("\\n"))
main(other.split("\\n"))
"""


def test_own_parts_are_trained_with_and_weights_of_the_project_are_evaluated(commands, project):
    """By one process, which like the command itself does not find modules in its folder by itself."""
    assert run([commands / "maskrobust", "--version"], project).stdout
    own = ["--config", "configs/own.yaml"]
    evaluated = ["evaluate", *own, "--network", "small_resnet:weights.pt", *FEW_MEASURES, *OWN, "--out", "out"]
    run([commands / "python", "-P", "-c", BOTH, "fit", *own, "--", *evaluated], project)
    (checkpoint,) = project.glob("runs/own/version_0/checkpoints/last.ckpt")
    assert "val/accuracy" in (checkpoint.parents[1] / "metrics.csv").read_text()
    assert {path.name for path in (project / "out").iterdir()} >= {"reliance.json", "report.html"}
    rows = json.loads((project / "out" / "reliance.json").read_text())["rows"]
    measured = {(row["method"], row["measure"]): row for row in rows if not row["compared_with"]}
    error, accuracy = (measured["holes.pink", name]["value"] for name in ("circle_error", "circle_accuracy"))
    assert error == pytest.approx(1 - accuracy)
    assert measured["black", "transfer_accuracy"]["parameters"] == {"family": "holes.stripes"}
    page = (project / "out" / "report.html").read_text()
    assert all(title in page for title in ("Circle error", "Pink", "Stripes"))
    assert "holes.stripes" not in Page(page).texts["numbers"]
