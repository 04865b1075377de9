"""`maskrobust pretrain`: the command line of `fit` around `MaskedPretraining`, on images without labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors.torch import save_file

from maskrobust.lm_modules.callbacks import Reconstructions
from maskrobust.lm_modules.networks.architectures import head_of
from maskrobust.lm_modules.networks.weights import read_state_dict
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.command_line import next_line
from maskrobust.train.fit import command
from maskrobust.train.storage.files import atomic_path

_PREFIX = "network."


class PretrainCLI(command.FitCLI):
    """`FitCLI` whose model needs no classes: the best checkpoint has the lowest loss, and leaves a file of weights."""

    command = "pretrain"
    linked = ("mean", "std")
    best = ("val/loss", "min")
    of_images = ()
    pictures = Reconstructions

    def _next(self, folder: str, path: str) -> Iterator[str]:
        """Write the encoder's weights, and say how to fine-tune them: with the checkpoint, which knows the colours."""
        weights = Path(folder) / "encoder.safetensors"
        write_encoder(path, weights, without=head_of(self.model.network.network))
        yield f"encoder, for timm and torchvision: {weights}"
        if self.model.maps.axes != 2:  # which fit does not train
            return
        config = self.config[self.subcommand].model
        words = ["fit", "--config", "small_folder.yaml", "--data.init_args.root", "LABELLED_IMAGES"]
        if isinstance(config.architecture, str):
            words += ["--model.architecture", config.architecture]
        if config.architecture_options:
            words += ["--model.architecture_options", str(config.architecture_options)]
        yield next_line(*words, "--model.weights", path)


def write_encoder(checkpoint: str | Path, path: Path, *, without: str | None) -> None:
    """Write the encoder of a checkpoint of `MaskedPretraining` under the network's own names, as safetensors.

    Args:
        checkpoint: a checkpoint of Lightning.
        path: path of the file.
        without: path of the module that is not trained, the head; None where there is none.

    Raises:
        MissingFileError, InputError: see `read_state_dict`.
    """
    state = read_state_dict(checkpoint)
    encoder = {name.removeprefix(_PREFIX): each for name, each in state.items() if name.startswith(_PREFIX)}
    trained = {name: each for name, each in encoder.items() if not name.startswith(f"{without}.")}
    with atomic_path(path) as temporary:
        save_file({name: each.contiguous().clone() for name, each in trained.items()}, temporary)


def main(arguments: Sequence[str]) -> None:
    """Run `pretrain` with command-line arguments, the command first; see `command.main` for what it raises."""
    command.main(["fit", *arguments[1:]], PretrainCLI, MaskedPretraining)
