"""The page: its parts, and what happens when somebody paints, chooses or asks."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from maskrobust.augment.fills.drawing import to_pixels
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explainers.registry import EXPLAINERS, load_explainers
from maskrobust.lm_modules.methods import masking_methods
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.image_files import decode_image, decode_mask, size_of
from maskrobust.train.explain.pictures import Picture, square_picture
from maskrobust.train.play.answers import ask_about_hole, explain_whole
from maskrobust.train.play.config import PlayConfig
from maskrobust.train.report.templates import picture_address, render_template
from maskrobust.train.report.wording import method_title
from maskrobust.train.storage.plain_text import printable

_FOLDER = Path(__file__).parent
_HEAD = """# maskrobust play
Hide a part of the picture, and compare what the network answers when the hole is filled and when it is layer-masked."""
_UPLOADED = "the uploaded file"
_CHOSEN_EXPLAINERS = ("lime", "occlusion")

Hole = NDArray[np.bool_]
"""(H, W), True in the hole."""


class Page:
    """What the page's parts call; everything about one tab is in its Gradio states.

    Args:
        config: what to show.
        networks: to ask.
        pictures: to begin with.
    """

    def __init__(self, config: PlayConfig, networks: Sequence[TrainedNetwork], pictures: Sequence[Picture]) -> None:
        self.config, self.networks, self.pictures = config, networks, pictures

    def choose(self, index: object, hole: Hole, methods: Sequence[str]) -> tuple[Picture, Any, str]:
        """Another of the pictures behind the same hole: it, the painter's value, and the answers."""
        known = isinstance(index, int) and 0 <= index < len(self.pictures)
        number = index if known and isinstance(index, int) else 0
        picture = self.pictures[number]
        return picture, painted(picture, number), self.answer(picture, hole, methods)

    def upload(self, content: bytes | None, hole: Hole, methods: Sequence[str]) -> tuple[Any, Any, str]:
        """A picture of the user's own behind the same hole; what is no picture changes nothing but the sentence."""
        try:
            picture = square_picture("your picture", decode_image(content or b"", _UPLOADED), self.config.image_size)
        except InputError as error:
            reason = str(error).partition(";")[0]  # what follows is about files of a data set
            return gr.skip(), gr.skip(), rendered(problem=f"{reason}; choose another picture.")
        return picture, painted(picture, None), self.answer(picture, hole, methods)

    def paint(self, picture: Picture, drawn: object, methods: Sequence[str]) -> tuple[Any, str]:
        """Another hole in the same picture."""
        try:
            hole = read_hole(drawn, self.config.image_size)
        except InputError as error:
            return gr.skip(), rendered(problem=str(error))
        return hole, self.answer(picture, hole, methods)

    def answer(self, picture: Picture, hole: Hole, methods: Sequence[str]) -> str:
        """The answers as HTML, or one sentence."""
        known = [each for each in masking_methods() if each in methods]
        try:
            return rendered([*ask_about_hole(self.networks, known, picture.image, hole, self.config.seed)])
        except InputError as error:
            return rendered(problem=str(error))

    def explain(self, picture: Picture, explainer: str, methods: Sequence[str], progress: Callable[..., object]) -> str:
        """Explanations of what each network answers about the whole picture, as HTML, or one sentence."""
        known, found = [each for each in masking_methods() if each in methods], []
        try:
            for network in self.networks:
                name = network.name
                report = lambda fraction, name=name: progress(fraction, desc=printable(name))  # noqa: E731
                found.append((name, *explain_whole(network, known, explainer, picture.image, self.config.seed, report)))
        except InputError as error:
            return rendered(problem=str(error))
        return rendered(explanations=found)

    def blocks(self) -> gr.Blocks:
        """The page, not yet served."""
        load_explainers()
        thumbnails = [
            {"name": printable(each.name), "thumbnail": picture_address(pixels(each), largest=112)}
            for each in self.pictures
        ]
        size = self.config.image_size
        page: gr.Blocks
        with gr.Blocks(title="maskrobust play", analytics_enabled=False, delete_cache=(60, 60)) as page:
            gr.Markdown(_HEAD)
            picture, hole = gr.State(self.pictures[0]), gr.State(np.zeros((size, size), dtype=np.bool_))
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    painter = gr.HTML(
                        painted(self.pictures[0], 0),
                        html_template=(_FOLDER / "painter.html").read_text(encoding="utf-8"),
                        js_on_load=(_FOLDER / "painter.js").read_text(encoding="utf-8"),
                        apply_default_css=False,
                        pictures=thumbnails,
                        size=size,
                    )
                    upload = gr.UploadButton("Use a picture of yours", type="binary", file_types=["image"])
                with gr.Column(scale=3, min_width=320):
                    answers = gr.HTML(apply_default_css=False)
            methods = gr.CheckboxGroup(
                [(method_title(each), each) for each in masking_methods()],
                value=[each for each in masking_methods() if each in self.config.methods],
                label="How the hole is presented to the network",
            )
            with gr.Row():
                explainer = gr.Radio(
                    [(EXPLAINERS[each].title, each) for each in _CHOSEN_EXPLAINERS],
                    value=_CHOSEN_EXPLAINERS[0],
                    label="Explain the answer about the whole picture, under each method chosen above",
                )
                start = gr.Button("Explain", min_width=120, scale=0)
            explanations = gr.HTML(apply_default_css=False)
            quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
            latest = {**quick, "trigger_mode": "always_last"}

            def on_paint(shown: Picture, chosen: list[str], event: gr.EventData) -> tuple[Any, str]:
                return self.paint(shown, event.hole, chosen)

            def on_choose(kept: Hole, chosen: list[str], event: gr.EventData) -> tuple[Picture, Any, str]:
                return self.choose(event.index, kept, chosen)

            progress = gr.Progress()

            def on_explain(shown: Picture, name: str, chosen: list[str], bar: Any = progress) -> str:
                return self.explain(shown, name, chosen, bar)

            painter.painted(on_paint, [picture, methods], [hole, answers], **latest)
            painter.chosen(on_choose, [hole, methods], [picture, painter, answers], **latest)
            upload.upload(self.upload, [upload, hole, methods], [picture, painter, answers], **quick)
            methods.change(self.answer, [picture, hole, methods], answers, **latest)
            start.click(on_explain, [picture, explainer, methods], explanations, api_visibility="private")
            page.load(self.answer, [picture, hole, methods], answers, **quick)
        return page


def pixels(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture."""
    import torch

    return to_pixels(picture.image, torch.uint8).permute(1, 2, 0).numpy()


def painted(picture: Picture, index: int | None) -> dict[str, Any]:
    """What the painter shows: a picture, its place among those offered, and its object where that is known."""
    outline = picture.object_mask
    inside = picture_address(np.repeat(outline[..., None], 4, axis=2) * np.uint8(255), None) if outline.any() else None
    shown = picture_address(pixels(picture), None)
    return {"picture": shown, "object": inside, "index": index, "name": printable(picture.name)}


def read_hole(drawn: object, size: int) -> Hole:
    """The hole that a page has drawn.

    Args:
        drawn: address of a PNG (`data:`) of that size, white where hidden and black elsewhere.
        size: side of the picture in pixels.

    Raises:
        InputError: it is anything else.
    """
    try:
        content = base64.b64decode(str(drawn).partition(",")[2], validate=True)
    except binascii.Error as error:
        raise InputError("a hole must be a PNG in base64, got something else; load the page again.") from error
    if size_of(content, "the hole") != (size, size):
        raise InputError(f"a hole must have {size} x {size} pixels, as the picture has; load the page again.")
    return decode_mask(content, "binary", "the hole")[0].numpy()


def rendered(answers: Iterable[Any] = (), explanations: Iterable[Any] = (), problem: str = "") -> str:
    """Answers, explanations or one sentence as HTML; names of classes and networks are escaped."""
    return render_template("play.html.j2", [], answers=answers, explanations=explanations, problem=problem)
