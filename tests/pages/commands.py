"""What a page tells its readers to type and to write: read from Markdown, so that no command can be forgotten."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"# (\w+\.(?:py|yaml))\n")


class Block(NamedTuple):
    """A code block of a page.

    Attributes:
        language: as the fence says.
        text: what is between the fences.
    """

    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The file that it is to be written to, which its first line names."""
        title = TITLE.match(self.text)
        return None if title is None else title[1]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block as words, without comments, settings of variables and the folder of .venv."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = [_without_settings(shlex.split(line, comments=True)) for line in lines]
    return [[re.sub(r"^(\.venv/bin/|\./)", "", words[0]), *words[1:]] for words in split if words]


def _without_settings(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words
