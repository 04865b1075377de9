"""Reading a page: its elements, tables and texts, without trusting who wrote it."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """Attributes:
    elements: (tag, attributes) of every element.
    texts: text of every element that has an id, by id.
    tables: rows of cell texts of every table, by id.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.tables = [], {}, {}
        self._open, self._rows = [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def pictures(self):
        """Pixels of every picture by its description, in the order of the page."""
        found = {}
        for tag, attributes in self.elements:
            if tag == "img":
                raw = base64.b64decode(attributes["src"].partition(";base64,")[2])
                found.setdefault(attributes["alt"], []).append(np.asarray(Image.open(io.BytesIO(raw))))
        return found

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "table":
            self._rows = self.tables.setdefault(attributes["id"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if "id" in attributes:
            self.texts[attributes["id"]] = ""
        if tag not in VOID:
            self._open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, identity in self._open:
            if identity is not None:
                self.texts[identity] += data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self._rows[-1][-1] += data


def squeezed(text):
    """The text with runs of white space as one space, a plain hyphen for the minus sign, and no space before "%"."""
    return " ".join(text.replace("−", "-").replace("\u202f%", "%").split())


def brightness(colour):
    """Red, green and blue of a CSS colour like "rgb(1, 2, 3)", added up: 0 to 765."""
    return sum(map(int, re.findall(r"\d+", colour)[:3]))
