"""What `maskrobust play` shows, of which networks, and where."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrobust.errors import InputError, check_distinct
from maskrobust.lm_modules.methods import LAYER_MASKING, check_methods
from maskrobust.train.arguments import PARSER_OPTIONS, Parser, as_list

_SIZES, _PORTS = (32, 1024), (1, 65535)


@dataclass(frozen=True)
class PlayConfig:
    """What to show.

    Attributes:
        network: names of the networks, side by side; none for a small one that is trained on generated images at the
            first call, and kept in the user's cache.
        images: image files, and folders of them; none for those that come with scikit-image and, where they are
            installed, cut-outs; or, for the small network, generated ones.
        methods: masking methods that are chosen when the page opens; it offers all that there are.
        image_size: side in pixels of the square at the centre of each image that is shown, from 32 to 1,024.
        host: address to listen at; other machines reach the page where it is not this one's own, such as 0.0.0.0.
        port: to listen at, from 1 to 65535.
        device: to compute on, such as cpu, cuda or cuda:1; by default the first GPU, or the CPU where there is none.
    """

    network: tuple[str, ...]
    images: tuple[Path, ...]
    methods: tuple[str, ...] = ("black", "mean", "blur", "inpainting", LAYER_MASKING)
    image_size: int = 224
    host: str = "127.0.0.1"
    port: int = 7860
    device: str | None = None


def parse_config(arguments: Sequence[str]) -> PlayConfig:
    """Parse and check the arguments of `maskrobust play`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain.
    """
    parser = Parser(prog="maskrobust play", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--network", type=list[str] | str, help="a network, or several side by side: '[a, b]'")
    parser.add_argument("--images", type=list[Path] | Path, help="an image, a folder of images, or several: '[a, b]'")
    parser.add_class_arguments(PlayConfig, skip={"network", "images"})
    given = vars(parser.instantiate(parser.parse_args(list(arguments))))
    for name in ("network", "images"):
        given[name] = tuple(as_list(given[name]))
    config = PlayConfig(**given)
    if config.network:
        check_distinct("network", config.network)
    check_methods(config.methods, "methods")
    ranges = {"image_size": _SIZES, "port": _PORTS}
    for option, (low, high) in ranges.items():
        if not low <= given[option] <= high:
            raise InputError(f"{option} must be from {low} to {high}, got {given[option]}; choose such a number.")
    return config


def check_port(host: str, port: int) -> None:
    """Raise an InputError where nothing can listen at a port of an address, before networks are loaded."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
    except OSError as error:
        found = f"play must listen at port {port} of '{host}', but cannot ({error.strerror})"
        raise InputError(f"{found}; choose another --port, or another --host.") from error
