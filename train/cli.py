"""The `maskrobust` command."""

import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from maskrobust.train.error_sentences import one_sentence

COMMANDS = {
    "fit": ("maskrobust.train.fit.command", "train or fine-tune a classifier"),
    "pretrain": ("maskrobust.train.fit.pretrain", "pre-train a network on images without labels"),
    "segment": ("maskrobust.train.fit.segment", "train a segmentation network on images with holes"),
    "evaluate": ("maskrobust.train.evaluate", "measure how far networks rely on the outlines of holes"),
    "predict": ("maskrobust.train.predict.command", "predict classes of image files, whole or with holes"),
    "export": ("maskrobust.train.commands.export", "write a network under layer masking as one ONNX file"),
    "claim": (
        "maskrobust.train.claim",
        "train networks in several ways and decide whether mask augmentation is enough",
    ),
    "explain": (
        "maskrobust.train.explain",
        "show which parts of an image a prediction is based on, under each masking method",
    ),
    "play": ("maskrobust.train.play", "paint a hole into a picture, on a local page, and see what networks predict"),
    "masks": ("maskrobust.train.masks", "show mask families and fills on your images"),
    "shards": ("maskrobust.train.commands.shards", "write WebDataset tar shards from any data"),
    "launch": ("maskrobust.train.commands.launch", "start a command on several GPUs or machines"),
    "submit": ("maskrobust.train.commands.submit", "submit a command to SLURM"),
}
_LONGEST_SENTENCE = 2000
_SECONDS_FOR_THE_FIRST = 2.0
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_GOING_ON = ("claim", "shards")
"""Commands that keep what they have made, and make the rest when they are called again."""


class _Stopped(SystemExit):
    """SIGTERM or Ctrl-C has asked the process to stop; unlike a KeyboardInterrupt, Lightning lets it through."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of `maskrobust`.

    Exits with status 0 on success, 2 on bad input (after one sentence on standard error), 143 or 130 where SIGTERM or
    Ctrl-C has stopped it (after another), and with the traceback of anything unforeseen. With MASKROBUST_DEBUG=1 in the
    environment every error shows its traceback.

    Args:
        arguments: the command and its options; those of the process when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_usage())
        return
    if given[0] == "--version":
        from importlib.metadata import version

        print(f"maskrobust {version('maskrobust')}")
        return
    command = given[0]
    if command not in COMMANDS:
        from maskrobust.errors import did_you_mean

        _fail(
            f"maskrobust knows the commands {', '.join(COMMANDS)}, got '{command}'"
            f"{did_you_mean(command, (*COMMANDS, '--help', '--version'))}; see maskrobust --help."
        )
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # which asks the network when it is imported
    if os.getcwd() not in sys.path:  # where a network of one's own lies; last, so that it hides nothing installed
        sys.path.append(os.getcwd())
    keep_freed_memory()
    with _stopped_by_signals(goes_on=command in _GOING_ON):
        _run(given)


def _run(given: Sequence[str]) -> None:
    module, _ = COMMANDS[given[0]]
    try:
        from maskrobust.train.command_line import check_networks, with_config_paths

        about_model = Path(__file__).parent / "fit" / f"{given[0]}.txt"
        if about_model.is_file() and not {"-h", "--help"}.isdisjoint(given):  # the parser's takes seconds: 1,400 lines
            text = about_model.with_name("training.txt").read_text(encoding="utf-8").replace("COMMAND", given[0])
            print(text.replace("MODEL\n", about_model.read_text(encoding="utf-8")), end="")
            return
        arguments = with_config_paths(given)
        if {"-h", "--help"}.isdisjoint(given):
            check_networks(arguments)
        if module not in sys.modules:
            importlib.import_module(module)
        sys.modules[module].main(arguments)
    except Exception as error:
        sentence = one_sentence(error, given[0])
        if sentence is None or os.environ.get("MASKROBUST_DEBUG") == "1":
            raise
        _fail(sentence)


def keep_freed_memory() -> None:
    """Have this process keep what it frees for the next forward pass, for as long as it runs.

    By default glibc maps every tensor of more than 32 MiB anew, and the system clears its pages one by one: on virtual
    machines that takes longer than the convolution that fills them. What is kept is about what was once in use,
    somewhat more where sizes vary. Other C libraries are left as they are.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


@contextmanager
def _stopped_by_signals(*, goes_on: bool) -> Iterator[None]:
    """End a block in order on SIGTERM or Ctrl-C, with one line and the signal's status; a second signal kills.

    What breaks because of it, as a file that is being written, is no error of its own.

    Args:
        goes_on: whether the command goes on where it was when it is called again.
    """
    owner, received = os.getpid(), list[int]()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork has inherited this; Ctrl-C reaches it, too, but is the parent's to answer
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        raise _Stopped(128 + number)

    is_main = threading.current_thread() is threading.main_thread()  # no other may ask for signals
    taken = [each for each in (signal.SIGTERM, signal.SIGINT) if is_main and signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.getsignal(each) for each in taken}
    for each in taken:
        signal.signal(each, stop)
    try:
        yield
    except (_Stopped, Exception) as error:
        if not received:
            raise
        rest = "; call the same command again to go on" if goes_on else ""
        if _speaks_for_all():
            print(f"maskrobust: stopped{rest}.", file=sys.stderr)
        raise _Stopped(128 + received[0]) from error
    finally:
        for each, handler in before.items():
            if signal.getsignal(each) == stop:
                signal.signal(each, handler)


def _speaks_for_all() -> bool:
    """Whether this process is alone, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _usage() -> str:
    commands = "\n".join(f"  {name:<10} {meaning}" for name, (_, meaning) in COMMANDS.items())
    return f"""usage: maskrobust COMMAND [options]

{commands}

first steps, which need no data of your own:
  maskrobust masks --data Cues --out runs/masks   writes a page of mask families and fills
  maskrobust fit --config cues.yaml               trains a small network on generated images
  maskrobust COMMAND --help                       lists a command's options"""


def _fail(sentence: str) -> None:
    from maskrobust.train.storage.files import printable  # what is wrong may quote a file, at any length

    if not _speaks_for_all():  # what all find wrong the first says, and its end has torchrun stop the others
        time.sleep(_SECONDS_FOR_THE_FIRST)
    print(f"maskrobust: error: {printable(sentence[:_LONGEST_SENTENCE])}", file=sys.stderr)
    sys.exit(2)
