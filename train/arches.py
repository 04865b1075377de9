"""`maskrobust arches`: whether layer masking takes an architecture, and if not, why."""

import argparse
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.networks.architectures import build_outline, build_own_network, is_own_class

_ANY_CLASSES = 1000


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust arches` with command-line arguments, the command first.

    Raises:
        ArgumentError: no name is given, or an option, where there are none.
        InputError: a name is unknown.
    """
    parser = argparse.ArgumentParser(
        prog="maskrobust arches",
        description="Whether layer masking takes these networks; docs/layer-masking.md lists those it is tested on.",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="as in --model.architecture: resnet50, timm/resnet10t, my_module.MyNet"
    )
    parsed, unknown = parser.parse_known_args(arguments[1:])
    if unknown:
        raise argparse.ArgumentError(None, f"unrecognized arguments: {' '.join(unknown)}")
    Console().print(verdicts_table({name: try_to_wrap(name) for name in parsed.names}))


def try_to_wrap(architecture: str) -> tuple[bool, str]:
    """Whether layer masking takes an architecture, and what there is to say.

    Args:
        architecture: an architecture as in `build_network`, or a class or function of the user's own, such as
            "my_module.MyNet".

    Returns:
        True, or False and the reason.

    Raises:
        InputError: the name is unknown.
    """
    own = is_own_class(architecture)
    network = build_own_network(architecture, _ANY_CLASSES) if own else build_outline(architecture, _ANY_CLASSES)
    try:
        LayerMasking(network)
    except UnsupportedNetworkError as error:
        return False, str(error)
    return True, ""


def verdicts_table(verdicts: Mapping[str, tuple[bool, str]]) -> Table:
    """The results of `try_to_wrap` by name."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("architecture", "layer masking", "reason"):
        table.add_column(column, overflow="fold")
    for name, (taken, detail) in verdicts.items():
        table.add_row(name, Text("yes", style="green") if taken else Text("no", style="red"), Text(detail))
    return table
