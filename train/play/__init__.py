"""`maskrobust play`: a local page on which to paint a hole into a photograph and see what networks predict."""

import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from maskrobust.errors import InputError, check_distinct, check_within
from maskrobust.lm_modules.methods import LAYER_MASKING, check_methods
from maskrobust.train.command_line import PARSER_OPTIONS, VISIBLE_HELP, Parser, as_list
from maskrobust.train.data_options import GivenVisible

_CLOSED: dict[str, Any] = {"share": False, "run_history": False, "enable_monitoring": False, "footer_links": []}
_SERVING: dict[str, Any] = {"max_file_size": 16 * 2**20, "state_session_capacity": 100, "quiet": True}


@dataclass(frozen=True)
class PlayConfig:
    """What to show.

    Attributes:
        network: names of the networks, side by side; none for a small one that is trained on generated images at the
            first call, and kept in the user's cache.
        images: image files, and folders of them; none for those that come with scikit-image, or, for the small
            network, generated ones.
        visible: which pixels of image files may be seen; the others are a part of every hole.
        methods: masking methods that are chosen when the page opens. It offers all others, too.
        image_size: side in pixels of the square at the centre of each image that is shown, from 32 to 1,024.
        host: address or name to listen at. Requests under another name than this, 127.0.0.1 or localhost are refused.
            With 0.0.0.0 other machines reach the page under any name.
        port: port to listen at, from 1 to 65535.
        device: device to compute on, such as cpu, cuda or cuda:1. By default the first GPU, or the CPU if there is
            none.
    """

    network: tuple[str, ...]
    images: tuple[Path, ...]
    visible: GivenVisible | None = None
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
    parser.add_argument("--data.visible", type=GivenVisible | None, help=VISIBLE_HELP)
    parser.add_class_arguments(PlayConfig, skip={"network", "images", "visible"})
    given = vars(parser.instantiate(parser.parse_args(list(arguments))))
    given["visible"] = given.pop("data").visible
    for name in ("network", "images"):
        given[name] = tuple(as_list(given[name]))
    config = PlayConfig(**given)
    if config.network:
        check_distinct("network", config.network)
    check_methods(config.methods, "methods")
    check_within("[32, 1024]", "image_size", config.image_size)
    check_within("[1, 65535]", "port", config.port)
    return config


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust play` with command-line arguments, the command first, until it is stopped."""
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    with served(config, console := Console()) as address:
        console.print(f"play: {address} (Ctrl-C ends it)", markup=False, soft_wrap=True)
        threading.Event().wait()


def allowed_names(host: str) -> list[str]:
    """Names of this machine that requests may bear: a site can have its own name resolve to 127.0.0.1."""
    name = f"[{host}]" if ":" in host else host
    return ["*"] if host in ("0.0.0.0", "::") else ["127.0.0.1", "localhost", "[::1]", name]


@contextmanager
def served(config: PlayConfig, console: Console) -> Iterator[str]:
    """Serve the page, and yield its address; the block's end stops it.

    What Gradio would take from the environment is forgotten: nothing there opens the page to others.

    Raises:
        ImportError: Gradio is missing.
        MissingFileError, InputError: a network or a picture cannot be loaded, or the port is taken.
    """
    try:  # before networks are loaded, which may take minutes
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        socket.create_server((config.host, config.port), family=family).close()
    except OSError as error:
        raise InputError(
            f"play cannot listen at port {config.port} of '{config.host}' ({error.strerror}); choose another --port or "
            "--host."
        ) from error
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="maskrobust-play-") as uploads:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from maskrobust.train.data.files.reading import Reading, reading_for
        from maskrobust.train.play.offered import load_networks, offered_pictures
        from maskrobust.train.play.page import Page

        networks = load_networks(config, console)
        reading = reading_for(networks, Reading(config.visible))
        page = Page(config, networks, offered_pictures(config, reading), reading).blocks()
        try:
            _, address, _ = page.launch(
                server_name=config.host,
                server_port=config.port,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
                css_paths=Path(__file__).parent / "page.css",
                prevent_thread_lock=True,
                app_kwargs={
                    "middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=allowed_names(config.host))]
                },
                **_SERVING,
                **_CLOSED,
            )
            yield address
        finally:
            page.close(verbose=False)
