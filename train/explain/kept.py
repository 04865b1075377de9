"""What networks answer about one image, kept while it is explained: what is stopped goes on within the image."""

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.train.storage.files import write_archive
from maskrobust.train.storage.store import Store

SECONDS_A_CHUNK = 30.0
"""How long answers are gathered before they are kept; as much is lost where a process is killed."""

_ANSWERS = "answers.npz"


class KeptAnswers:
    """The logits of an image's forward passes, in the order in which they are asked for.

    An image is always asked about in the same order, so the passes of a call that was stopped are answered from what it
    has kept, as far as they have the same number of queries.

    Args:
        store: to keep them in.
        key: the image's name there.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._chunks = 0
        self._new: list[Tensor] = []
        self._since = time.monotonic()
        self._kept = deque(self._read())

    def predictor(self, predict: Predictor, count: Callable[[int], object]) -> Predictor:
        """The predictor, asked where no answers are kept; `count` is told the number of queries of each pass."""

        def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
            count(len(images))
            if self._kept and len(self._kept[0]) == len(images):
                return self._kept.popleft().to(images.device)
            self._kept.clear()
            logits = predict(images, visible, keys).float()
            self._new.append(logits.cpu())
            if time.monotonic() - self._since >= SECONDS_A_CHUNK:
                self.keep()
            return logits

        return ask

    def keep(self) -> None:
        """Write what has not been written yet."""
        if self._new:
            rows = np.array([len(logits) for logits in self._new])
            found = {"logits": torch.cat(self._new).numpy(), "rows": rows}
            self._store.get_or_make(self._name(self._chunks), lambda folder: write_archive(folder / _ANSWERS, found))
            self._chunks += 1
            self._new = []
        self._since = time.monotonic()

    def _read(self) -> Iterator[Tensor]:
        while (folder := self._store.get(self._name(self._chunks))) is not None:
            found = read_arrays(folder / _ANSWERS, ("logits", "rows"))
            yield from torch.from_numpy(found["logits"]).split(found["rows"].tolist())
            self._chunks += 1

    def _name(self, chunk: int) -> str:
        return f"{self._key}-{chunk:04d}"
