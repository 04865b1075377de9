"""The page of `play`: its parts, and what happens when somebody paints, chooses or asks."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explanation_plan import EXPLAINERS, ExplainerName
from maskrobust.lm_modules.methods import masking_methods
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.image_files import decode_mask, size_of
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.transforms import RESIZED_OVER_CROPPED
from maskrobust.train.explain.pictures import Picture, square_picture
from maskrobust.train.play import PlayConfig
from maskrobust.train.play.painted_hole import ask_about_hole, explain_whole, to_picture
from maskrobust.train.report.blocks import full_picture, html, picture_address
from maskrobust.train.report.wording import method_title
from maskrobust.train.storage.files import printable

_FOLDER = Path(__file__).parent
_HEAD = """# maskrobust play
Hide a part of the picture, and compare what the network answers when the hole is filled and when it is layer-masked."""
_PROGRESS = gr.Progress()
_QUICK: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}

Hole = NDArray[np.bool_]
"""(H, W), True in the hole."""


class Page:
    """What the page's parts call; everything about one tab is in its Gradio states.

    Args:
        config: what to show.
        networks: the networks to ask.
        pictures: the pictures to begin with.
        reading: how uploads are read.
    """

    def __init__(
        self, config: PlayConfig, networks: Sequence[TrainedNetwork], pictures: Sequence[Picture], reading: Reading
    ) -> None:
        self.config, self.networks, self.pictures, self.reading = config, networks, pictures, reading

    def choose(self, hole: Hole, methods: list[str], event: gr.EventData) -> tuple[Picture, Any, str]:
        """Another of the pictures behind the same hole: it, the painter's value, and the answers."""
        number = event.index if event.index in range(len(self.pictures)) else 0
        picture = self.pictures[number]
        return picture, shown_by_painter(picture, number), self.answer(picture, hole, methods)

    def upload(self, content: bytes | None, hole: Hole, methods: list[str]) -> tuple[Any, Any, str]:
        """A picture of the user's own behind the same hole; what is no picture changes nothing but the sentence."""
        try:
            whole = self.reading.decode(content or b"", "the upload")
            picture = square_picture("your picture", *whole, self.config.image_size)
        except InputError as error:
            reason = str(error).partition(";")[0]  # what follows is about files of a data set
            return gr.skip(), gr.skip(), rendered(problem=f"{reason}; choose another picture.")
        return picture, shown_by_painter(picture, None), self.answer(picture, hole, methods)

    def paint(self, picture: Picture, methods: list[str], event: gr.EventData) -> tuple[Any, str]:
        """Another hole in the same picture."""
        try:
            hole = read_hole(event.hole, self.config.image_size)
        except InputError as error:
            return gr.skip(), rendered(problem=str(error))
        return hole, self.answer(picture, hole, methods)

    def answer(self, picture: Picture, hole: Hole, methods: Sequence[str]) -> str:
        """The answers as HTML, or one sentence."""
        in_order = [each for each in masking_methods() if each in methods]
        try:
            return rendered([*ask_about_hole(self.networks, in_order, picture.image, hole, picture.known)])
        except InputError as error:
            return rendered(problem=str(error))

    def explain(
        self, picture: Picture, explainer: ExplainerName, methods: list[str], bar: gr.Progress = _PROGRESS
    ) -> str:
        """Explanations of what each network answers about the whole picture, as HTML, or one sentence."""

        def explained(network: TrainedNetwork) -> tuple[Any, ...]:
            told = partial(bar, desc=printable(network.name))
            return network.name, *explain_whole(network, methods, explainer, picture, told)

        try:
            return rendered(explanations=[*map(explained, self.networks)])
        except InputError as error:
            return rendered(problem=str(error))

    def blocks(self) -> gr.Blocks:
        """The page, not yet served."""
        thumbnails = [
            {"name": printable(each.name), "thumbnail": picture_address(to_picture(each.image), largest=112)}
            for each in self.pictures
        ]
        page: gr.Blocks
        size = self.config.image_size
        with gr.Blocks(title="maskrobust play", analytics_enabled=False, delete_cache=(60, 60)) as page:
            gr.Markdown(_HEAD)
            picture, hole = gr.State(self.pictures[0]), gr.State(np.zeros((size, size), dtype=np.bool_))
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    painter = gr.HTML(
                        shown_by_painter(self.pictures[0], 0),
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
                    [(title, name) for name, title in EXPLAINERS.items()],
                    value="lime",
                    label="Explain the answer about the whole picture, under each method chosen above",
                )
                start = gr.Button("Explain", min_width=120, scale=0)
            explanations = gr.HTML(apply_default_css=False)
            quick = {**_QUICK, "concurrency_id": "answers"}  # one after the other: the last answers are the last hole's
            latest = {**quick, "trigger_mode": "always_last"}
            painter.painted(self.paint, [picture, methods], [hole, answers], **latest)
            painter.chosen(self.choose, [hole, methods], [picture, painter, answers], **latest)
            upload.upload(self.upload, [upload, hole, methods], [picture, painter, answers], **quick)
            methods.change(self.answer, [picture, hole, methods], answers, **latest)
            start.click(self.explain, [picture, explainer, methods], explanations, api_visibility="private")
            page.load(self.answer, [picture, hole, methods], answers, **quick)
        return page


def shown_by_painter(picture: Picture, index: int | None) -> dict[str, Any]:
    """What the painter shows: a picture, its place among those offered, and its object where that is known.

    Of a file also its size, and the side of the square that is shown as a fraction of its shorter side.
    """
    outline = picture.object_mask
    inside = full_picture(np.repeat(outline[..., None], 4, axis=2) * np.uint8(255)) if outline.any() else None
    shown = full_picture(to_picture(picture.image))
    file = picture.whole_size if picture.label < 0 else None
    return {
        "picture": shown, "object": inside, "index": index, "name": printable(picture.name), "file": file,
        "shown": 1 / RESIZED_OVER_CROPPED,
    }  # fmt: skip


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
    template = (_FOLDER / "answers.html").read_text(encoding="utf-8")
    return html(template, answers=answers, explanations=explanations, problem=problem)
