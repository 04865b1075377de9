"""How valid files are changed: bits, lengths, truncation, swapped types, deep nesting, huge numbers, nasty names."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NASTY: list[Any] = [
    None, True, -1, 0, 3, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, float("inf"), float("nan"), "", "0", [], {},
    [[]], {"": None}, "x; touch pwned; true ", "$(touch pwned)", "`touch pwned`", "| touch pwned", "../../pwned",
    "/etc/passwd", "file:/etc/passwd", "pipe:touch pwned", "https://192.0.2.1/x", "-rf", "\x1b[31m\r\x00", "\u202e",
    "[bold]", "<script>alert(1)</script>", "=1+1", "{0.__class__}", "%s%n", "a" * 1000, "stranger.Network",
    {"class_path": "stranger.Network"}, {"pretrained": True}, {"checkpoint_path": "canary"}, [[[[0]]]] * 3,
]  # fmt: skip
"""Values of swapped types, huge numbers, and names with characters of shells, paths, terminals, pages and formats."""

_INTEGERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]
_INSERTED = [b"", b"\0", b"\xff" * 8, b"[" * 5000, b'{"a":' * 5000, b"(" * 300, b"\n", b"9" * 5000, b"- " * 500, b"../"]


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A few changes at any places of a file."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        change = draw(st.integers(0, 6))
        if change == 0 and at < len(content):
            flipped = content[at] ^ (1 << draw(st.integers(0, 7)))
            content = content[:at] + bytes([flipped]) + content[at + 1 :]
        elif change == 1:
            size = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(_INTEGERS)) % 2 ** (8 * size)
            order = draw(st.sampled_from(["little", "big"]))
            content = content[:at] + number.to_bytes(size, order) + content[at + size :]  # type: ignore[arg-type]
        elif change == 2:
            content = content[:at]
        elif change == 3:
            content = content[:at] + draw(st.sampled_from(_INSERTED)) + content[at:]
        elif change == 4:
            content = content[:at] + content[at + draw(st.sampled_from([1, 2, 16, 512])) :]
        elif change == 5:
            other = draw(st.integers(0, len(content)))
            content = content[:at] + content[other : other + 512] + content[at:]
        else:
            content = content[:at] + draw(st.binary(max_size=16)) + content[at:]
    return content


@st.composite
def changed_tree(draw: st.DrawFn, tree: Any) -> Any:
    """A few changes at any places of nested mappings and lists."""
    for _ in range(draw(st.integers(1, 3))):
        tree = _with_change(draw, tree)
    return tree


def _with_change(draw: st.DrawFn, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(tree)))
        if not draw(st.integers(0, 5)):
            return {each: value for each, value in tree.items() if each != key}
        return {**tree, key: _with_change(draw, tree[key])}
    if isinstance(tree, list) and tree and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(tree) - 1))
        return [*tree[:place], _with_change(draw, tree[place]), *tree[place + 1 :]]
    if isinstance(tree, dict) and draw(st.booleans()):
        return {**tree, draw(st.sampled_from(["extra", "..", "a" * 300])): draw(st.sampled_from(NASTY))}
    if isinstance(tree, list) and draw(st.booleans()):
        return tree * draw(st.sampled_from([0, 2, 50]))
    return draw(st.sampled_from(NASTY))


def with_checksums_of_png(content: bytes) -> bytes:
    """A PNG with every chunk's checksum made right, as far as its chunks can be followed."""
    place, parts = 8, [content[:8]]
    while place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        if place + 12 + size > len(content):
            break
        body = content[place + 4 : place + 8 + size]
        parts.append(content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + size
    return b"".join(parts) + content[place:]


def with_checksums_of_tar(content: bytes) -> bytes:
    """A tar file with the checksum of every block made right that looks like a header."""
    blocks = [content[place : place + 512] for place in range(0, len(content), 512)]
    for number, block in enumerate(blocks):
        if len(block) == 512 and block[257:262] == b"ustar":
            total = sum(block) - sum(block[148:156]) + 8 * 0x20
            blocks[number] = block[:148] + f"{total:06o}\0 ".encode() + block[156:]
    return b"".join(blocks)


def within_archive(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """A zip archive with the part changed whose name ends so, and right checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.infolist():
            part = old.read(entry)
            new.writestr(entry.filename, change(part) if entry.filename.endswith(name) else part, entry.compress_type)
    return stream.getvalue()
