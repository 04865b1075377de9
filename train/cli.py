"""The `maskrobust` command."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from train.arguments import one_sentence, with_config_paths

_COMMANDS = {
    "fit": ("train.fit", "train or fine-tune a classifier"),
    "validate": ("train.fit", "measure a checkpoint on the validation split"),
    "test": ("train.fit", "measure a checkpoint on the test split"),
    "evaluate": ("train.evaluate", "measure how far checkpoints read the outline of holes"),
    "claim": ("train.claim", "train matched arms and decide whether mask augmentation is enough"),
    "masks": ("train.masks", "show mask families and fills on your images"),
    "shards": ("train.shards", "write WebDataset tar shards from any data, or check those that are there"),
    "arches": ("train.arches", "list the architectures that layer masking takes, or try one"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of `maskrobust`.

    Exits with status 0 on success, 2 on bad input (after one sentence on standard error), 143 or 130 where SIGTERM or
    Ctrl-C has stopped a `fit`, and with the traceback of anything unforeseen. With MASKROBUST_DEBUG=1 in the
    environment every error shows its traceback.

    Args:
        arguments: the command and its options; those of the process when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_usage())
        return
    if given[0] == "--version":
        print(f"maskrobust {version('maskrobust')}")
        return
    command = given[0]
    if command not in _COMMANDS:
        _fail(f"maskrobust knows the commands {', '.join(_COMMANDS)}, got '{command}'; see maskrobust --help.")
    try:
        module = importlib.import_module(_COMMANDS[command][0])
        module.main(with_config_paths(given))
    except Exception as error:
        sentence = one_sentence(error)
        if sentence is None or os.environ.get("MASKROBUST_DEBUG") == "1":
            raise
        _fail(sentence)


def _usage() -> str:
    lines = [f"  {name:<10} {meaning}" for name, (_, meaning) in _COMMANDS.items()]
    return "\n".join(
        ["usage: maskrobust COMMAND [options]", "", *lines, "", "maskrobust COMMAND --help lists a command's options."]
    )


def _fail(sentence: str) -> None:
    print(f"maskrobust: error: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
