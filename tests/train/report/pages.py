"""Reading a page: its elements, tables and texts, without trusting the code that wrote it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


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
