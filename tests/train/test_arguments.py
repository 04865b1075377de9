"""What is told of an error."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from maskrobust.train.arguments import one_sentence


def test_what_a_process_of_a_pool_may_not_read_is_told_in_one_sentence(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(Path.read_bytes, tmp_path).exception(timeout=60)
    assert isinstance(error, IsADirectoryError)
    sentence = one_sentence(error)
    assert sentence is not None and sentence.startswith(f"'{tmp_path}' cannot be used (Is a directory)")


@pytest.mark.parametrize("kind", [TypeError, RuntimeError])
def test_a_fault_of_the_program_is_none_of_the_users_whatever_it_came_from(kind: type[Exception]) -> None:
    error = kind("a fault")
    error.__cause__ = ValueError("never raised")
    assert one_sentence(error) is None
