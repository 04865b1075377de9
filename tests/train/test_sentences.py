"""What is told of an error."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from maskrobust.configs import find_config
from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.loading import Loader
from maskrobust.train.sentences import one_sentence


class Nothing(Dataset[int]):
    """Data whose samples cannot be had, for one kind of reason."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.kind("sample 0 must be there,\nbut is not; look for it.")


def error_of(samples):
    with pytest.raises(Exception, match="sample 0") as raised:
        list(samples)
    return raised.value


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [InputError, MissingFileError])
def test_what_a_loader_finds_wrong_with_its_input_is_told_on_one_line(kind, workers):
    error = error_of(Loader(Nothing(kind), num_workers=workers))
    sentence = one_sentence(error, "fit")
    assert sentence is not None and sentence.endswith("sample 0 must be there, but is not; look for it.")
    assert "Traceback" not in sentence


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_program_in_a_loader_is_none_of_the_users(workers):
    assert one_sentence(error_of(Loader(Nothing(RuntimeError), num_workers=workers)), "fit") is None


def test_what_a_process_of_a_pool_finds_wrong_with_its_input_is_told_in_one_sentence(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        unreadable = pool.submit(Path.read_bytes, tmp_path).exception(timeout=60)
        missing = pool.submit(find_config, "nowhere").exception(timeout=60)
    assert isinstance(unreadable, IsADirectoryError)
    sentence = one_sentence(unreadable, "fit")
    assert sentence is not None and sentence.startswith(f"'{tmp_path}' cannot be used (Is a directory)")
    assert isinstance(missing, MissingFileError) and one_sentence(missing, "fit") == str(missing)


@pytest.mark.parametrize("kind", [TypeError, RuntimeError, ValueError])
def test_a_fault_of_the_program_is_none_of_the_users_whatever_it_came_from(kind):
    error = kind("a fault")
    error.__cause__ = ValueError("never raised")
    assert one_sentence(error, "fit") is None


def test_a_library_that_is_missing_or_broken_is_named_with_what_to_do():
    with pytest.raises(ImportError) as missing:
        import no_such_library.within  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ImportError) as broken:
        from torch import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    for raised, name in ((missing, "no_such_library"), (broken, "torch")):
        sentence = one_sentence(raised.value, "fit")
        assert sentence is not None and "\n" not in sentence
        assert sentence.startswith(f"{name} is needed here, but cannot be imported (")
        assert sentence.endswith("; install it, best with pip install maskrobust.")


def test_a_name_that_the_package_itself_lacks_is_a_fault_of_the_program():
    with pytest.raises(ImportError) as raised:
        from maskrobust.train.sentences import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    assert one_sentence(raised.value, "fit") is None


def test_a_refusal_without_a_path_is_not_told_as_one_of_a_path():
    assert one_sentence(PermissionError(1, "Operation not permitted"), "fit") is None


def test_an_input_error_that_was_dealt_with_does_not_hide_a_later_fault():
    fault = RuntimeError("a fault")
    fault.__context__ = InputError("dealt with.")
    fault.__suppress_context__ = True  # as `raise ... from None` does
    assert one_sentence(fault, "fit") is None
