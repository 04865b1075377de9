"""Pages from this package's templates and style sheets; everything they need is inside them."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from maskrobust.train.report import wording
from maskrobust.train.storage.plain_text import printable

_LARGEST_PICTURE = 160
_LARGEST_LOSSLESS = 64
"""Sides in pixels: of pictures on a page, and of those that keep every pixel, which a page shows enlarged."""
_PNG = {"format": "png", "optimize": True}
_JPEG = {"format": "jpeg", "quality": 85, "subsampling": 0, "optimize": True}  # subsampled, coloured noise turns grey


def render_template(name: str, styles: Sequence[str], **content: Any) -> str:
    """A page made from a template of this package.

    Args:
        name: file of the template.
        styles: files of the style sheets, joined in this order for the template's `style`.
        content: everything else that the template names.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "compact": wording.compact,
        "duration": wording.duration,
        "family_title": wording.family_title,
        "method_title": wording.method_title,
        "picture": picture_address,
        "full_picture": partial(picture_address, largest=None),
        "plain": _plain,
        "pretty_json": _pretty_json,
        "for_script": _for_script,
        "base64": _base64,
    }
    style = "\n".join((folder / sheet).read_text(encoding="utf-8") for sheet in styles)
    return environment.get_template(name).render(**content, style=style)


def compact_json(content: Mapping[str, Any]) -> str:
    """JSON without white space.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _visible(value: Any) -> Any:
    """A value as it goes into a page: text without control characters; what is markup already stays as it is."""
    return printable(value) if type(value) is str else value


def picture_address(pixels: Any, largest: int | None = _LARGEST_PICTURE) -> str:
    """A picture, at most `largest` wide and high: PNG where small or transparent, else PNG or JPEG, the shorter."""
    picture = Image.fromarray(pixels)
    if largest is not None:
        picture.thumbnail((largest, largest))
    formats = [_PNG] if max(picture.size) <= _LARGEST_LOSSLESS or picture.mode == "RGBA" else [_PNG, _JPEG]
    return min((_as_address(picture, **options) for options in formats), key=len)


def _as_address(picture: Image.Image, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return f"data:image/{options['format']};base64," + base64.b64encode(buffer.getvalue()).decode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _plain(value: Any) -> str:
    """A setting as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _for_script(raw: str) -> str:
    """JSON that cannot end the script element it stands in, and still is the same JSON."""
    return raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
