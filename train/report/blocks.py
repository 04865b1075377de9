"""Building blocks of report pages: text, tables, bars, pictures.

Whatever goes into a block or a page is escaped, and what is invisible in it spelt out; `Markup` alone stays as it is.
"""

import base64
import io
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from maskrobust.train.report import wording
from maskrobust.train.storage.files import printable

_LARGEST_PICTURE = 160
_LARGEST_LOSSLESS = 64
"""Sides in pixels: of pictures on a page, and of those that keep every pixel, which a page shows enlarged."""
_PNG = {"format": "png", "optimize": True}
_JPEG = {"format": "jpeg", "quality": 85, "subsampling": 0, "optimize": True}  # subsampled, coloured noise turns grey

Content = TypeVar("Content")


class Section(NamedTuple, Generic[Content]):
    """A part of a page under a heading.

    Attributes:
        anchor: its id on the page.
        title: its heading.
        show: what stands below the heading; None where there is nothing to show: the section is left out.
        is_open: whether it is read at first; the others are folded.
    """

    anchor: str
    title: str
    show: Callable[[Content], Markup | None]
    is_open: bool = False


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        value: text, or `Markup` such as a picture.
        interval: the interval in brackets, or why the value is undefined; empty where there is neither.
        look: CSS classes of the cell, and of its heading when in the first line.
    """

    value: str | Markup = ""
    interval: str = ""
    look: str = ""


class Line(NamedTuple):
    """One line of a table.

    Attributes:
        title: text of its first cell.
        cells: the others.
        look: CSS classes.
    """

    title: str | Markup
    cells: Sequence[Cell]
    look: str = ""


def html(template: str, **content: Any) -> Markup:
    """A template of Jinja in which the blocks of `blocks.html` are known as `blocks`, rendered; values are escaped."""
    return _markup(_compiled(template).render(**content))


def block(name: str, *content: Any, **further: Any) -> Markup:
    """A block of `blocks.html`."""
    return _markup(getattr(_environment().get_template("report/blocks.html").module, name)(*content, **further))


def prose(name: str, room: str = "report", **content: Any) -> Markup:
    """Words of the `prose.html` of a folder of `train`, with what they name."""
    return _markup(getattr(_environment().get_template(f"{room}/prose.html").module, name)(**content))


def page_part(template: str, **content: Any) -> Markup:
    """A template of this folder, rendered; values are escaped."""
    return _markup(_environment().get_template(f"report/{template}").render(**content))


def render_page(
    command: str,
    title: str,
    header: Markup,
    sections: Iterable[Section[Content]],
    content: Content,
    *,
    look: str = "",
    style: str = "",
) -> str:
    """One self-contained page: it loads nothing, runs nothing, and follows the system's light or dark.

    Args:
        command: the command that made it.
        title: title of the document.
        header: what stands above all sections.
        sections: the sections in order; sections with nothing to show are left out.
        content: what each section is given.
        look: CSS class of the page.
        style: further rules of CSS.

    Returns:
        HTML with a content security policy that forbids scripts and every request; equal arguments give equal text.
    """
    sheet = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    page = page_part(
        "page.html",
        command=command,
        title=title,
        header=header,
        sections=[(each, found) for each in sections if (found := each.show(content))],
        look=look,
        style=Markup(f"{sheet}{style}"),
    )
    return str(page)


def table(
    identity: str, label: str, headings: Sequence[str | Markup], lines: Sequence[Line], *, look: str = "figures"
) -> Markup:
    """A table that scrolls sideways where it must.

    Args:
        identity: its id.
        label: says what it shows, for those who cannot see it.
        headings: headings of the columns; the first one is above the titles of the lines.
        lines: its lines, at least one.
        look: CSS classes.
    """
    return block("table", identity, label, headings, lines, look)


def facts(items: Iterable[tuple[str | Markup, Any]], identity: str = "", look: str = "facts") -> Markup:
    """A list of terms, each with what is said of it: text as it is, everything else as JSON."""
    return block("facts", list(items), identity, look)


def folded(summary: str | Markup, content: Markup, *, is_open: bool = False) -> Markup:
    """What the reader may open."""
    return block("folded", summary, content, is_open)


def download(name: str, text: str, kind: str) -> Markup:
    """A link that saves a text as a file; `kind` is its MIME type."""
    data = base64.b64encode(text.encode()).decode()
    identity = f"download-{name.rpartition('.')[2]}"
    return Markup('<a id="{}" download="{}" href="data:{};base64,{}">Download {}</a>').format(
        identity, name, kind, data, name
    )


def picture_address(pixels: Any, largest: int | None = _LARGEST_PICTURE) -> str:
    """A picture, at most `largest` wide and high: PNG where small or transparent, else PNG or JPEG, the shorter."""
    picture = Image.fromarray(pixels)
    if largest is not None:
        picture.thumbnail((largest, largest))
    formats = [_PNG] if max(picture.size) <= _LARGEST_LOSSLESS or picture.mode == "RGBA" else [_PNG, _JPEG]
    return min((_as_address(picture, **options) for options in formats), key=len)


def full_picture(pixels: Any) -> str:
    """`picture_address` in the picture's own size."""
    return picture_address(pixels, None)


def _as_address(picture: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return f"data:image/{options['format']};base64," + base64.b64encode(buffer.getvalue()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("percent", "points", "compact", "duration", "in_words", "family_title", "method_title")
    environment.filters |= {name: getattr(wording, name) for name in names}
    environment.filters |= {"picture": picture_address, "full_picture": full_picture, "plain": _plain}
    return environment


@cache
def _compiled(template: str) -> Template:
    return _environment().from_string("{% import 'report/blocks.html' as blocks %}" + template)


def _markup(rendered: str) -> Markup:
    """What has been rendered, as it goes into a page: without control characters."""
    return Markup(printable(rendered))


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else json.dumps(value)
