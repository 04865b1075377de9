"""Where the runs of a claim lie on disk, and which of them are missing."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.train.claim.config import CALIBRATION_IMAGES, MASK_OPTIONS, ClaimConfig, fingerprint
from maskrobust.train.files import read_json


@dataclass(frozen=True)
class StoredRun:
    """One run of one arm on disk: what it has learned, what it was asked, and a record of either.

    Attributes:
        arm: name of the arm that makes it.
        seed: of the run.
        folder: of all that follows.
        learned: what it has learned: the weights of its network, or the affine maps of a calibration.
        settings: fingerprint of all that this follows from.
        outcomes: files of its answers by masking method.
        measured: fingerprint of all that these follow from.
    """

    arm: str
    seed: int
    folder: Path
    learned: Path
    settings: str
    outcomes: dict[MaskingMethod, Path]
    measured: str

    @property
    def training_record(self) -> Path:
        """Written when `learned` is there."""
        return self.folder / "training.json"

    @property
    def evaluation_record(self) -> Path:
        """Written when all `outcomes` are there."""
        return self.folder / "evaluation.json"

    @property
    def lock(self) -> Path:
        """Held by the process that makes the run."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    def is_trained(self) -> bool:
        """Whether what it has learned is there; a InputError where that is another configuration's."""
        return is_done(self.training_record, self.settings, [self.learned])

    def is_measured(self) -> bool:
        """Whether its outcomes are there; a InputError where those are another configuration's."""
        return is_done(self.evaluation_record, self.measured, self.outcomes.values())


def stored_run(config: ClaimConfig, arm: str, seed: int) -> StoredRun:
    """The run that holds an arm's outcomes: its own, or that of the arm whose network it looks at as it is."""
    given = config.arms[arm]
    if given.network_of is not None and not given.calibration:
        return stored_run(config, given.network_of, seed)
    model = config.models[arm]
    if given.network_of is not None:
        name = "calibration.safetensors"
        content = {
            "network": stored_run(config, given.network_of, seed).settings,
            "masks": {option: model[option] for option in MASK_OPTIONS},
            "images": CALIBRATION_IMAGES,
            "methods": list(config.plans_of(arm)),
        }
    else:
        name = "weights.safetensors"
        content = {
            "data": config.content_of("data"),
            "model": model,
            "training": config.content_of("training"),
            "seed": seed,
        }
    settings, plans = fingerprint(content), config.plans_of(arm)
    asked = {method: asdict(plan) for method, plan in plans.items()}
    folder = config.out / "arms" / arm / f"seed-{seed}"
    return StoredRun(
        arm=arm,
        seed=seed,
        folder=folder,
        learned=folder / name,
        settings=settings,
        outcomes={method: folder / f"outcomes-{method}.npz" for method in plans},
        measured=fingerprint([settings, config.content_of("evaluation"), asked]),
    )


def source_run(config: ClaimConfig, arm: str, seed: int) -> StoredRun:
    """The run that has trained the network of an arm: its own, or that of the arm whose network it uses."""
    return stored_run(config, config.arms[arm].network_of or arm, seed)


def is_done(record: Path, expected: str, results: Iterable[Path]) -> bool:
    """Whether a step's record is on disk with the expected fingerprint, and its results beside it.

    Raises:
        InputError: the record has another fingerprint.
    """
    if not record.exists():
        return False
    content = read_json(record)
    found = content.get("fingerprint") if isinstance(content, dict) else None
    if found != expected:
        raise InputError(
            f"'{record.parent}' holds a run with another configuration ({record.name} says {str(found)[:40]}, expected "
            f"{expected}); give another --out, or delete that folder."
        )
    return all(result.exists() for result in results)


def all_runs(config: ClaimConfig) -> list[StoredRun]:
    """Every run of the claim once, in the order to make them: those first whose networks others use."""
    runs = [stored_run(config, arm, seed) for arm in config.execution_order for seed in config.seeds]
    return list({run.folder: run for run in runs}.values())


def refuse_foreign(config: ClaimConfig) -> None:
    """Raise a InputError where the folder holds a run of another configuration, or a record that cannot be read."""
    for run in all_runs(config):
        run.is_trained()
        run.is_measured()


def independent_parts(config: ClaimConfig) -> list[str]:
    """Options of processes that can make the claim's runs at once, one for each network to train.

    An arm that uses the network of another one is made by the process that trains it.
    """
    users = {
        trained: [name for name, arm in config.arms.items() if trained in (name, arm.network_of)]
        for trained, arm in config.arms.items()
        if arm.network_of is None and trained in config.only_arms
    }
    return [f"--arm=[{','.join(arms)}] --seed={seed}" for seed in config.only_seeds for arms in users.values()]


def refuse_missing(config: ClaimConfig) -> None:
    """Raise a InputError that names the runs which are not on disk with all their outcomes, if there are any."""
    missing = [run for run in all_runs(config) if not run.is_measured()]
    if missing:
        raise InputError(
            f"--collect joins runs that are there, but {len(missing)} of {len(all_runs(config))} are missing in "
            f"'{config.out}': {in_words(missing)}; make each with --arm and --seed in place of --collect."
        )


def what_is_left(config: ClaimConfig) -> str:
    """One line about what a claim that is run in parts still lacks."""
    missing = [run for run in all_runs(config) if not run.is_measured()]
    if not missing:
        return "all runs are there: join them with --collect in place of --arm and --seed."
    return f"still missing: {len(missing)} of {len(all_runs(config))} runs: {in_words(missing)}"


def in_words(runs: Sequence[StoredRun]) -> str:
    """Runs by arm, such as "no_masks (seeds 1, 2), layer_masking (seed 2)"."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.arm, []).append(str(run.seed))
    return ", ".join(f"{arm} (seed{'s' * (len(each) > 1)} {', '.join(each)})" for arm, each in seeds.items())
