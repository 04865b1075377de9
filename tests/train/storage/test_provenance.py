"""Where results come from."""

import pytest

from maskrobust.train.storage import provenance as provenance_module
from maskrobust.train.storage.provenance import provenance


def test_the_commit_of_another_project_around_the_package_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provenance_module, "__file__", __file__)  # in a checkout, but not at its top
    assert provenance(1.0, "maskrobust claim")["commit"] is None
