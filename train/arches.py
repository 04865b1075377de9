"""`maskrobust arches`: list the architectures that layer masking supports or refuses, or try one."""

import argparse
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.networks.architectures import build_outline, build_own_network, is_own_class
from maskrobust.lm_modules.networks.tested_architectures import known_architectures, taken_by_family

_ANY_CLASSES = 1000


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust arches` with command-line arguments, the command first.

    Raises:
        ArgumentError: an option is given, where there are none.
        InputError: a name is unknown.
    """
    parser = argparse.ArgumentParser(
        prog="maskrobust arches",
        description="Without names: the architectures that layer masking is tested on, and those it refuses and why. "
        "With names: whether it takes these.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="as in --model.architecture: resnet50, timm/resnet10t, my_module.MyNet"
    )
    parsed, unknown = parser.parse_known_args(arguments[1:])
    if unknown:
        raise argparse.ArgumentError(None, f"unrecognized arguments: {' '.join(unknown)}")
    names = parsed.names
    Console().print(verdicts_table({name: try_to_wrap(name) for name in names}) if names else lists())


def lists() -> RenderableType:
    """The tested architectures and the refused ones, as two tables."""
    by_family, refused_ones = taken_by_family(), [each for each in known_architectures() if each.refused]
    known = f"{len(by_family['torchvision'])} of torchvision, {len(by_family) - 1} families of timm"
    tested = _table(f"tested: {known}", "family", "architectures")
    for family, names in by_family.items():
        tested.add_row(family, ", ".join(names))
    refused = _table(f"refused: {len(refused_ones)}", "family", "architecture", "reason")
    for each in refused_ones:
        refused.add_row(*each)
    return Group(tested, refused)


def try_to_wrap(architecture: str) -> tuple[bool, str]:
    """Whether layer masking takes an architecture, and what there is to say.

    Args:
        architecture: as in `build_network`, or a class or function of the user's own, such as "my_module.MyNet".

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
    table = _table(None, "architecture", "layer masking", "reason")
    for name, (taken, detail) in verdicts.items():
        table.add_row(name, Text("yes", style="green") if taken else Text("no", style="red"), Text(detail))
    return table


def _table(title: str | None, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
