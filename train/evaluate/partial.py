"""What an evaluation has found so far: shared by its processes, and gone on with by a call after one that stopped."""

import errno
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import uncentred
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.training.progress import note_progress
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.running.processes import from_first, is_first
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.storage.fingerprints import bank_digest, network_fingerprint, own_code

_SETTINGS, _NUMBERS = "settings.json", "numbers.json"
_WITHOUT_INFLUENCE = ("data", "network", "out", "device", "wordnet", "replicates")


@dataclass(frozen=True)
class Partial:
    """Numbered answers of several kinds, in a folder that every process sees.

    Those that were kept together lie in a folder of their own, which is made under another name and renamed when it is
    whole: no process writes into another's, and whatever is killed leaves none half.

    Attributes:
        root: the folder, made with the first answers.
        settings: what the answers follow from, by name; a check compares these alone.
        name: of a folder below the root, for answers of their own.
    """

    root: Path
    settings: Mapping[str, Any]
    name: str = ""

    @property
    def folder(self) -> Path:
        """Where the answers are."""
        return self.root / self.name

    def check(self) -> None:
        """Refuse to go on with what was found otherwise; every process must ask.

        Raises:
            InputError: the folder holds what was found with other settings, or nothing of an evaluation; or processes
                differ in their settings.
        """
        if is_first() and self.root.exists():
            if not (self.root / _SETTINGS).exists():
                raise InputError(
                    f"'{self.root}' is where evaluate keeps what it has found so far, but holds something else; move "
                    "that away, or give another --out."
                )
            if changed := _differing(self.settings, read_json(self.root / _SETTINGS)):
                raise InputError(
                    f"'{self.root}' holds a part of an evaluation with another {', '.join(changed)}; call it as it was "
                    "called then, give another --out, or delete that folder."
                )
        if changed := _differing(self.settings, from_first(self.settings)):
            raise InputError(
                f"every process must evaluate the same, but this one has another {', '.join(changed)} than the first; "
                "call each alike, and give networks of your own their weights in a file."
            )

    def numbers(self, kind: str) -> set[int]:
        """The numbers of all answers of a kind that were kept."""
        return {number for each in self._kept(kind) for number in read_json(each / _NUMBERS)}

    @contextmanager
    def keep(self, kind: str, numbers: Sequence[int]) -> Iterator[Path]:
        """A folder to write some answers into, which are kept together when the block ends without an error.

        Args:
            kind: of the answers.
            numbers: of the answers, at least one.
        """
        if not self.root.exists():
            with _whole(self.root) as work:
                write_json(work / _SETTINGS, self.settings)
        with _whole(self.folder / f"{kind}-{numbers[0]:06d}") as work:
            yield work
            write_json(work / _NUMBERS, numbers)
        if is_first():
            note_progress()

    def files(self, kind: str, name: str) -> list[Path]:
        """Every file of a name among the answers of a kind."""
        return [path for each in self._kept(kind) if (path := each / name).exists()]

    def remove(self) -> None:
        """Remove the folder, all or nothing."""
        gone = _beside(self.root)
        self.root.rename(gone)
        shutil.rmtree(gone)

    def _kept(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-*"))


def settings_of(config: EvaluationConfig, networks: Mapping[str, TrainedNetwork]) -> dict[str, Any]:
    """All that the answers of networks follow from, as plain values by name.

    Args:
        config: of the evaluation.
        networks: by name.
    """
    given = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in _WITHOUT_INFLUENCE}
    options = given.pop("data_options")
    outlines, families = config.probe_outlines, config.transfer_families
    own = (*map(uncentred, (*config.methods, *config.transfer_methods)), *families, options.get("class_path", ""))
    arguments = {name: value for name, value in options.get("init_args", {}).items() if name != "num_workers"}
    found = {
        "data": {**options, "init_args": arguments},
        "probe_outlines": None if outlines is None else bank_digest(SilhouetteBank.load(outlines)),
        "network": [[name, network_fingerprint(each)] for name, each in networks.items()],  # files number them
        "code of your own": own_code(own),
        "device": config.torch_device.type,
        "maskrobust version": version("maskrobust"),
        "torch version": torch.__version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(given | found, default=str))
    return plain


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its place when the block ends without an error, unless that is taken."""
    work = _beside(folder)
    work.mkdir(parents=True)
    try:
        yield work
        work.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process has made the same meanwhile
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")


def _differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Names of settings that others lack, or have another value of."""
    return sorted(name for name, value in settings.items() if others.get(name) != value)
