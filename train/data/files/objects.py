"""Which pictures show one object, by a CSV file or by a pattern of their names."""

import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from maskrobust.errors import InputError
from maskrobust.train.storage.files import read_pairs


class ObjectNames:
    """Names the object that a picture shows by the name of the picture.

    Args:
        given: a CSV file (.csv) whose first line is `image,object`, and which names every picture, with or without
            suffix; or else a regular expression, of which the first group, or all that it finds, names the object.

    Raises:
        MissingFileError, InputError: there is no such file, or it says something else; or it is no regular expression.
    """

    def __init__(self, given: str) -> None:
        self._given = given
        self._listed = read_pairs(Path(given), "image", "object") if given.endswith(".csv") else {}
        try:
            self._pattern = re.compile(given)
        except re.error as error:
            raise InputError(
                f"objects must be a CSV file or a regular expression, got '{given}' ({error}); correct it."
            ) from error

    def number(self, name: str, label: object) -> int:
        """A number, in [-2^63, 2^63), of the object that a picture shows: a hash of its name and its class.

        Args:
            name: the picture's name, with folders between slashes.
            label: its class, so that no object has two.

        Raises:
            InputError: the file or the pattern does not name an object for it.
        """
        found = self._listed.get(name) or self._listed.get(str(PurePosixPath(name).with_suffix("")))
        if not self._listed and (match := self._pattern.search(name)):
            found = match[min(1, self._pattern.groups)]
        if not found:
            raise InputError(f"objects '{self._given}' must name the object of '{name}', but does not; correct it.")
        digest = blake2b(f"{label}\0{found}".encode(errors="backslashreplace"), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)
