"""The study of the paper's curves: similarity of WordNet's nouns, and the metrics."""

import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust import Batch
from tests.pages.commands import script
from tests.test_house import ROOT

NOUNS = """  1 a line of the licence, which begins with spaces
00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | the root
00000002 03 n 02 animal 0 beast 0 001 @ 00000001 n 0000 | two words
00000003 03 n 01 dog 0 001 @ 00000002 n 0000 | a kind
00000004 03 n 01 Felix 0 001 @i 00000002 n 0000 | one of a kind
00000005 03 n 01 puppy 0 002 @ 00000003 n 0000 @ 00000001 n 0000 | two ways up, of three steps and of one
00000006 03 n 01 vertebrate 0 001 @ 00000002 n 0000 | below animal
00000007 03 n 01 mammal 0 001 @ 00000006 n 0000 | below vertebrate
00000008 03 n 01 canine 0 001 @ 00000007 n 0000 | below mammal
00000009 03 n 01 hound 0 002 @ 00000008 n 0000 @ 00000002 n 0000 | three steps up to vertebrate, two over animal
00000010 03 n 01 viper 0 001 @ 00000006 n 0000 | below vertebrate
00000011 03 n 01 whelp 0 001 @ 00000005 n 0000 | below puppy
00000012 03 n 01 runt 0 001 @ 00000011 n 0000 | below whelp
00000013 03 n 01 first 0 001 @ 00000012 n 0000 | below runt
00000014 03 n 01 second 0 001 @ 00000012 n 0000 | below runt
"""


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "studies"))
    return script("paper_curves")


@pytest.fixture
def wordnet(study, tmp_path):
    (tmp_path / "data.noun").write_text(NOUNS)
    return study.WordNet(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("n00000003", "n00000003", 1),
        ("n00000003", "n00000004", 2 * 2 / (2 * 2 + 1 + 1)),
        ("n00000003", "n00000001", 2 * 1 / (2 * 1 + 2)),
        ("n00000005", "n00000005", 2 * 3 / (2 * 3 + 1 + 1)),
        ("n00000009", "n00000010", 2 * 3 / (2 * 3 + 2 + 1)),
        ("n00000013", "n00000014", 2 * 6 / (2 * 6 + 1 + 1)),
    ],
)
def test_similarity_is_wu_and_palmers_as_nltk_computes_it(wordnet, one, other, similarity):
    assert wordnet.similarity(one, other) == wordnet.similarity(other, one) == pytest.approx(similarity)


def test_metrics_are_averages_over_the_pictures(study, wordnet):
    names = [f"n0000000{number}" for number in range(1, 6)]
    nothing = torch.zeros(6, 1, 1, 1)
    batch = Batch(torch.arange(6), nothing, nothing.bool(), torch.tensor([2, 2, 3, 3, 0, 4]))
    said = np.array([[2, 3, 3, 3, 0, 0]])
    data = study.Data(batch, names, wordnet)
    assert study.terms("accuracy", said, data).mean() == pytest.approx(4 / 6)
    assert study.terms("entropy", said, data).mean() == pytest.approx(stats.entropy([1, 3, 2]))
    assert study.terms("similarity", said, data)[0, :3] == pytest.approx([1, 2 / 3, 1])
