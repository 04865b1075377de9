"""Outcomes on disk and across ranks."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.outcomes import Outcomes
from tests.lm_modules.reliance.tables import make_outcomes


def test_what_is_saved_is_loaded(tmp_path):
    features = {"silhouette": np.random.default_rng(0).random((20, 3))}
    saved = replace(make_outcomes(20, seed=0), features=features)
    saved.save(tmp_path / "run.outcomes")
    loaded = Outcomes.load(tmp_path / "run.outcomes")
    assert loaded.num_classes == saved.num_classes
    assert isinstance(loaded.num_classes, int)
    assert_equal(loaded, saved)


def test_answers_about_scenes_are_saved_and_those_of_the_first_part_that_has_some_are_kept(tmp_path):
    saved = make_outcomes(20, seed=0)
    assert saved.scenes is not None
    saved.save(tmp_path / "run.npz")
    loaded = Outcomes.load(tmp_path / "run.npz").scenes
    merged = Outcomes.merge([replace(saved, scenes=None), saved]).scenes
    for found in (loaded, merged):
        assert found is not None and all(map(np.array_equal, found, saved.scenes))
    assert Outcomes.merge([replace(saved, scenes=None)]).scenes is None


def test_an_incomplete_file_is_refused(tmp_path):
    np.savez(tmp_path / "short.npz", ids=np.arange(3))
    with pytest.raises(ValueError, match="lacks the arrays at_border, labels, num_classes, object_fraction, "):
        Outcomes.load(tmp_path / "short.npz")


@pytest.mark.parametrize("damage", [lambda whole: whole[:200], lambda _: b"", lambda _: b"no archive at all"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "run.npz"
    make_outcomes(20, seed=0).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"run\.npz' must be a readable npz archive.*; delete it") as caught:
        Outcomes.load(path)
    assert "\n" not in str(caught.value)


def test_merging_sorts_by_id_and_keeps_the_first_of_a_repeated_one():
    whole = replace(make_outcomes(30, seed=1), features={"circle": np.random.default_rng(0).random((30, 3))})
    order = np.random.default_rng(0).permutation(30)
    parts = [take(whole, order[:12]), take(whole, order[10:]), take(whole, order[[3, 3]])]
    merged = Outcomes.merge(parts)
    assert_equal(merged, whole)
    assert len(merged) == 30


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Outcomes.merge([])
    with pytest.raises(ValueError, match="share classes and conditions"):
        Outcomes.merge([make_outcomes(5, seed=0), make_outcomes(5, seed=0, fractions=(0.7,))])


def take(outcomes, chosen):
    def rows(value):
        if isinstance(value, Mapping):
            return {name: rows(each) for name, each in value.items()}
        return value[chosen] if isinstance(value, np.ndarray) else value

    return Outcomes(**{name: rows(value) for name, value in vars(outcomes).items()})


def assert_equal(one, other):
    for name, values in vars(other).items():
        found = getattr(one, name)
        if not isinstance(values, Mapping):
            assert all(map(np.array_equal, found, values)) if name == "scenes" else np.array_equal(found, values)
            continue
        assert list(found) == list(values)
        for condition, each in values.items():
            assert np.array_equal(found[condition], each)
            assert found[condition].dtype == each.dtype
