"""What networks answer about one image, kept while it is explained: what is stopped goes on within the image."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.train.storage.files import write_archive
from maskrobust.train.storage.store import Chunks, Store

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
        self._count = 0
        self._kept = deque(self._read())
        self._chunks = Chunks(self._write)

    def predictor(self, predict: Predictor, count: Callable[[int], object]) -> Predictor:
        """The predictor, asked where no answers are kept; `count` is told the number of queries of each pass."""

        def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
            count(len(images))
            if self._kept and len(self._kept[0]) == len(images):
                return self._kept.popleft().to(images.device)
            self._kept.clear()
            logits = predict(images, visible, keys).float()
            self._chunks.add(logits.cpu())
            return logits

        return ask

    def keep(self) -> None:
        """Write what has not been written yet."""
        self._chunks.keep()

    def _read(self) -> Iterator[Tensor]:
        while (folder := self._store.get(self._name())) is not None:
            found = read_arrays(folder / _ANSWERS, ("logits", "rows"))
            yield from torch.from_numpy(found["logits"]).split(found["rows"].tolist())
            self._count += 1

    def _write(self, answers: Sequence[Tensor]) -> None:
        found = {"logits": torch.cat([*answers]).numpy(), "rows": np.array([len(logits) for logits in answers])}
        self._store.get_or_make(self._name(), lambda folder: write_archive(folder / _ANSWERS, found))
        self._count += 1

    def _name(self) -> str:
        return f"{self._key}-{self._count:04d}"
