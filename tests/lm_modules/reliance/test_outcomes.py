"""Outcomes on disk and across ranks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lm_modules.reliance import Outcomes
from tests.lm_modules.reliance.tables import make_outcomes


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = make_outcomes(20, seed=0)
    saved.save(tmp_path / "run.outcomes")
    loaded = Outcomes.load(tmp_path / "run.outcomes")
    assert loaded.num_classes == saved.num_classes
    assert isinstance(loaded.num_classes, int)
    for name, values in vars(saved).items():
        found = getattr(loaded, name)
        assert np.array_equal(found, values)
        assert np.asarray(found).dtype == np.asarray(values).dtype


def test_an_incomplete_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", ids=np.arange(3))
    with pytest.raises(ValueError, match="lacks the arrays broken_mask, circle, clean"):
        Outcomes.load(tmp_path / "short.npz")


@pytest.mark.parametrize("damage", [lambda whole: whole[:200], lambda _: b"", lambda _: b"no archive at all"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "run.npz"
    make_outcomes(20, seed=0).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"run\.npz' must be a readable npz archive.*; delete it") as caught:
        Outcomes.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FileNotFoundError"):
        Outcomes.load(tmp_path / "run.npz")


def test_merging_sorts_by_id_and_keeps_the_first_of_a_repeated_one() -> None:
    whole = make_outcomes(30, seed=1)
    order = np.random.default_rng(0).permutation(30)
    parts = [take(whole, order[:12]), take(whole, order[10:]), take(whole, order[[3, 3]])]
    merged = Outcomes.merge(parts)
    for name, values in vars(whole).items():
        assert np.array_equal(getattr(merged, name), values)
    assert len(merged) == 30


def test_parts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Outcomes.merge([])
    with pytest.raises(ValueError, match="share classes and hidden fractions"):
        Outcomes.merge([make_outcomes(5, seed=0), make_outcomes(5, seed=0, fractions=(0.0, 0.7))])


def take(outcomes: Outcomes, chosen: np.ndarray) -> Outcomes:
    shared = {"num_classes": outcomes.num_classes, "hidden_fractions": outcomes.hidden_fractions}
    rest = {name: values[..., chosen] for name, values in vars(outcomes).items() if name not in shared}
    return Outcomes(**shared, **rest)
