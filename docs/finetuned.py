"""Measure networks that were fine-tuned by arm and seed, and tell what came of it, for docs/results-finetuned.md.

python docs/finetuned.py measure lite0.safetensors runs/finetuned 1    # the networks of a seed; 1: the frozen one, too
python docs/finetuned.py report runs/finetuned                         # tables from all seeds measured
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.reliance.catalogue import MeasureMember, Parameters, catalogue
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.objectives import distillation_loss
from maskrobust.train.data import Cutouts
from maskrobust.train.networks import load_for, select_data_outputs
from maskrobust.train.running.memory import keep_freed_memory

FROZEN = "frozen"
FILLS = ("black", "mean", "random_colour", "linear_imputation", "inpainting")
ARMS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    FROZEN: ("Frozen, as it is", "layer_masking", (*FILLS, "layer_masking")),
    "patches": ("Patches, mean colour", "mean", ("mean", "inpainting", "layer_masking")),
    "silhouettes": (
        "Silhouettes, random colours",
        "random_colour",
        ("random_colour", "mean", "inpainting", "layer_masking"),
    ),
    "abstention": ("Abstention, mean colour", "mean", ("mean", "inpainting", "layer_masking")),
    "layer_masking": ("Layer masking", "layer_masking", ("layer_masking", "mean")),
    "inpainting": ("Patches, inpainted", "inpainting", ("inpainting", "layer_masking")),
}
"""Title, the method of its training, and the methods it is asked under."""

PLAN = ReliancePlan(shapes=False, hidden_fractions=(0.5,), patch_size=16, scenes=24, scene_objects=60)
LOOKS = {"mean": [0.498] * 3, "std": [0.502] * 3}


def measure(weights: str, folder: str, seed: str) -> None:
    """Ask the networks of one seed, and with seed 1 the frozen one; what is there already stays.

    Objects are shown in one picture each; the silhouettes in empty scenes are those of six.
    """
    keep_freed_memory()
    data, bank = Cutouts(views=1), SilhouetteBank.from_batches(_pictures(Cutouts(views=6)))
    for arm, (_, _, methods) in ARMS.items():
        name = f"timm/tf_efficientnet_lite0:{weights}" if arm == FROZEN else _checkpoint(folder, arm, seed)
        paths = {method: _outcomes(folder, arm, seed, method) for method in methods}
        if all(path.exists() for path in paths.values()) or (arm == FROZEN and seed != "1"):
            continue
        start = time.process_time()
        network = select_data_outputs(load_for(name, data, "32", preprocess=LOOKS), data)
        measurement = Measurement(
            {arm: network},
            bank,
            dict.fromkeys(methods, PLAN),
            num_classes=data.num_classes,
            seed=0,
            object_of=data.object_of,
            scenes=data.empty_scenes("test", PLAN.scenes),
        )
        answers = [measurement.ask(batch) for batch in _pictures(data)]
        in_scenes = [measurement.ask_in_scenes(rows) for rows in measurement.passes]
        if arm != FROZEN:
            _write(_check_path(folder, arm, seed), manipulation_check(name, data, int(seed)))
        for method, path in paths.items():
            key = arm, method
            path.parent.mkdir(parents=True, exist_ok=True)
            measurement.outcomes(key, [each[key] for each in answers], [each[key] for each in in_scenes]).save(path)
        print(f"{arm}, seed {seed}: {time.process_time() - start:.0f} seconds of processor time", flush=True)


def manipulation_check(checkpoint: str, data: Cutouts, seed: int) -> dict[str, float]:
    """How far the aim of a training was reached on objects that it has not seen, before and after.

    The views are those of the training, with its mask families, silhouettes and fill; those with a hole count. The aim
    is the frozen network's answer to the whole picture, or to the scene where nothing is left of the object.
    """
    after, before = (MaskRobustClassifier.from_checkpoint(checkpoint).eval() for _ in range(2))
    before.network.load_state_dict(before.teacher.state_dict())
    after.build_masks(Cutouts(views=1, training_objects="others", seed=seed))
    answers: dict[str, list[Tensor]] = {"aim": [], "before": [], "after": []}
    with torch.inference_mode():
        for batch in _pictures(data):
            shown = after.present(batch)
            scenes = data.without_object("test", batch.ids)
            aim = torch.where(shown.hides_object[:, None, None, None], scenes, batch.images)
            masked = shown.is_masked
            visible = None if shown.visible is None else shown.visible[masked]
            answers["aim"].append(before(aim[masked]))
            answers["before"].append(before(shown.images[masked], visible))
            answers["after"].append(after(shown.images[masked], visible))
    aim, *both = (torch.cat(each) for each in answers.values())
    found: dict[str, float] = {"views": len(aim)}
    for when, logits in zip(("before", "after"), both, strict=True):
        found[f"divergence {when}"] = distillation_loss(logits, aim).item()
        found[f"agreement {when}"] = (logits.argmax(dim=1) == aim.argmax(dim=1)).float().mean().item()
    return found


def report(folder: str) -> None:
    """Print the tables over all seeds that are there for every arm."""
    seeds = _seeds(folder)
    print(f"seeds: {', '.join(seeds)}\n")
    runs = {
        (arm, method): [Outcomes.load(_outcomes(folder, arm, seed, method)) for seed in seeds]
        for arm, (_, _, methods) in ARMS.items()
        for method in methods
    }
    _print_table(runs)
    _print_differences(runs)
    _print_manipulation_check(folder, seeds)


def _measures() -> dict[str, MeasureMember]:
    wanted: dict[str, tuple[str, Parameters]] = {
        "pull, noise": ("outline_pull_on", {"scenes": "noise"}),
        "pull, photographs": ("outline_pull_on", {"scenes": "photographs"}),
        "2AFC": ("outline_2afc", {}),
        "nothing hidden": ("clean_accuracy", {}),
        "half hidden": ("retention", {"hidden_fraction": 0.5}),
    }
    known = catalogue()
    return {
        title: MeasureMember(known[name], parameters, known[name].function(**parameters))
        for title, (name, parameters) in wanted.items()
    }


def _print_table(runs: Mapping[tuple[str, str], list[Outcomes]]) -> None:
    print("| arm | asked under | " + " | ".join(_measures()) + " |\n" + "|---" * (len(_measures()) + 2) + "|")
    for (arm, method), found in runs.items():
        title, own, _ = ARMS[arm]
        shown = f"**{method}**" if method == own else method
        only = found[:1] if arm == FROZEN else found
        numbers = [_written(member.estimate(only, replicates=2000)) for member in _measures().values()]
        print(f"| {title} | {shown} | " + " | ".join(numbers) + " |")


def _print_differences(runs: Mapping[tuple[str, str], list[Outcomes]]) -> None:
    """Every arm under its method minus the frozen network under it, and minus the arm trained with layer masking."""
    measures = {name: each for name, each in _measures().items() if name != "nothing hidden"}
    trained = [(arm, own) for arm, (_, own, _) in ARMS.items() if arm != FROZEN]
    reference = ("layer_masking", "layer_masking")
    compared = [(key, (FROZEN, key[1])) for key in trained]
    compared += [(key, reference) for key in (*trained, (FROZEN, "layer_masking")) if key != reference]
    print("\n| arm | minus | " + " | ".join(measures) + " |\n" + "|---" * (len(measures) + 2) + "|")
    for key, other in compared:
        numbers = [_written(each.difference(runs[key], runs[other], replicates=2000)) for each in measures.values()]
        print(f"| {', '.join(key)} | {', '.join(other)} | " + " | ".join(numbers) + " |")


def _print_manipulation_check(folder: str, seeds: list[str]) -> None:
    print("\n| arm | divergence before | after | agreement before | after |\n|---|---|---|---|---|")
    for arm, (title, _, _) in ARMS.items():
        if arm != FROZEN:
            found = [json.loads(_check_path(folder, arm, seed).read_text()) for seed in seeds]
            names = ("divergence before", "divergence after", "agreement before", "agreement after")
            means = [sum(each[name] for each in found) / len(found) for name in names]
            print(f"| {title} | " + " | ".join(f"{each:.2f}" for each in means) + " |")


def _seeds(folder: str) -> list[str]:
    """Those that all arms were measured with."""
    arms = [arm for arm in ARMS if arm != FROZEN]
    found = _check_path(folder, arms[0], "1").parent.glob(f"{arms[0]}-*")
    named = sorted(path.stem.rpartition("-")[2] for path in found)
    return [seed for seed in named if all(_outcomes(folder, arm, seed, ARMS[arm][2][-1]).exists() for arm in arms)]


def _pictures(data: Cutouts) -> Iterator[Batch]:
    data.setup("test")
    return (batch.to("cpu") for batch in data.test_dataloader())


def _checkpoint(folder: str, arm: str, seed: str) -> str:
    return str(Path(folder) / f"{arm}-{seed}" / "version_0" / "checkpoints" / "last.ckpt")


def _check_path(folder: str, arm: str, seed: str) -> Path:
    return Path(folder) / "manipulation_check" / f"{arm}-{seed}.json"


def _outcomes(folder: str, arm: str, seed: str, method: str) -> Path:
    """The frozen network has no seed."""
    return Path(folder) / "outcomes" / f"{arm}-{0 if arm == FROZEN else seed}-{method}.npz"


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def _written(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "undefined"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]".replace("-", "−").replace("0.", ".")


if __name__ == "__main__":
    {"measure": measure, "report": report}[sys.argv[1]](*sys.argv[2:])
