"""The page served by Gradio: on this machine alone, and loading nothing from elsewhere."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.train.play.config import PlayConfig

_CLOSED: dict[str, Any] = {"share": False, "run_history": False, "enable_monitoring": False, "footer_links": []}
_SERVING: dict[str, Any] = {"max_file_size": 16 * 2**20, "state_session_capacity": 100, "quiet": True}


@contextmanager
def served(config: PlayConfig, console: Console) -> Iterator[str]:
    """Serve the page, and yield its address; the block's end stops it.

    What Gradio would take from the environment is forgotten: nothing there opens the page to others.

    Raises:
        MissingFileError, InputError: Gradio is missing, or a network or a picture cannot be loaded.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="maskrobust-play-") as uploads:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        try:
            import gradio as gr
        except ImportError as error:
            message = f"Gradio must serve the page, but cannot be imported ({error}); pip install 'maskrobust[play]'."
            raise InputError(message) from error
        from maskrobust.train.play.networks import load_networks
        from maskrobust.train.play.page import Page
        from maskrobust.train.play.pictures import offered_pictures

        networks = load_networks(config, console)
        page = Page(config, networks, offered_pictures(config)).blocks()
        try:
            _, address, _ = page.launch(
                server_name=config.host,
                server_port=config.port,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
                css_paths=Path(__file__).parent / "page.css",
                prevent_thread_lock=True,
                **_SERVING,
                **_CLOSED,
            )
            yield address
        finally:
            page.close(verbose=False)
