"""Write files atomically, read them within bounds, and make text from them harmless."""

import csv
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import category

from maskrobust.errors import InputError, MissingFileError

LARGEST_JSON = 32 * 2**20
"""Most bytes of a JSON or CSV file that are read: parsed, 32 MiB take less than 1 GiB, whatever they hold."""

_LONGEST_TEXT = 255
"""Most characters of what a CSV file says of something, as of a folder's name."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    The folder is made when missing. After an error, or a kill, `path` is what it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # a process id is unique on one machine alone
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before work is put into what it is to hold.

    Raises:
        InputError: it, or the folder that it is to be made in, takes no files.
    """
    there = folder
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        with TemporaryDirectory(prefix=".maskrobust-", dir=there):  # permissions alone do not tell: /proc takes none
            pass
    except OSError as error:
        raise InputError(
            f"'{folder}' must be a folder that can be written to, but '{there}' takes no files ({error.strerror}); "
            "choose another path, or change its permissions."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, atomically; numbers that are not finite are refused.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 encoded JSON of at most `LARGEST_JSON` bytes.

    Raises:
        ValueError: it is too large, not JSON, not UTF-8, nested too deeply, or has a number of thousands of digits.
    """
    if len(content) > LARGEST_JSON:
        raise ValueError(f"it has more than {LARGEST_JSON >> 20} MiB")
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_pairs(path: Path, *head: str) -> dict[str, str]:
    """Read a CSV file of two columns, such as image and class: the second text of each line by its first.

    Raises:
        MissingFileError, InputError: see `read_rows`; or it has the same first text twice.
    """
    found: dict[str, str] = {}
    for one, other in read_rows(path, *head):
        if one in found:
            raise InputError(f"'{path}' must name each {head[0]} once, but '{one}' comes twice; correct it.")
        found[one] = other
    return found


def read_rows(path: Path, *head: str) -> list[list[str]]:
    """Read the lines of a CSV file after its first, without spaces around their texts.

    Args:
        path: path of the file, in UTF-8 with or without a byte order mark.
        head: what its first line holds.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is larger than `LARGEST_JSON` bytes, no such CSV, or holds its first line alone.
    """
    if not path.is_file():
        raise MissingFileError(f"'{path}' must hold {' and '.join(head)} as CSV, but does not exist; check the path.")
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has more than {LARGEST_JSON >> 20} MiB")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first, *rows = [row for row in csv.reader(stream, strict=True) if row] or [[]]
        if [each.strip() for each in first] != [*head]:
            raise ValueError(f"its first line is {','.join(first)[:_LONGEST_TEXT]}")
        if wrong := [row for row in rows if len(row) != len(head)]:
            raise ValueError(f"it has the line {','.join(wrong[0])}")
        if not rows:
            raise ValueError("it has no other line")
        return [[*map(str.strip, row)] for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"'{path}' must be a CSV file in UTF-8 whose first line is {','.join(head)} and whose others hold these, "
            f"but is not ({error}); correct it."
        ) from error


def read_json(path: Path, remedy: str = "delete it to have it made again") -> Any:
    """Read a JSON file; see `parse_json`.

    Args:
        path: path of the file.
        remedy: what to do where it cannot be read, for the message.

    Raises:
        InputError: the file is not such JSON.
    """
    try:
        with path.open("rb") as stream:
            return parse_json(stream.read(LARGEST_JSON + 1))
    except ValueError as error:
        raise InputError(f"'{path}' is not readable JSON ({error}); {remedy}.") from error


_SUSPECT = re.compile(r"[^\n\t -~]")
_HARMFUL = ("Cc", "Cf", "Cs", "Co", "Cn")


def printable(text: str) -> str:
    r"""The text with what is invisible spelt out, as in "\\x1b[31m", but for spaces, tabs and line feeds.

    That is what Unicode counts among control and format characters, private and unassigned ones, and lone surrogates:
    they colour or overwrite a terminal's lines, or turn the direction of what is shown.
    """
    return _SUSPECT.sub(_spelt_out, text)


def _spelt_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode() if category(found[0]) in _HARMFUL else found[0]
