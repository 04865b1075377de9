"""What every test may use."""

import gc
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import end_loaders_soon, fork_server

# The compiler keeps kernels, and would run those of another instruction set (ATEN_CPU_CAPABILITY) on the wrong width.
_KERNELS = f"maskrobust-kernels-{torch.backends.cpu.get_cpu_capability()}".replace(" ", "-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / _KERNELS)
os.environ |= {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",  # for one kernel
    "NUMBA_DISABLE_JIT": "1",  # it would compile SHAP's helpers, for 14 s
}

end_loaders_soon()
gc.disable()  # until everything is imported: it would look through all that stays again and again
_threads = torch.get_num_threads()
torch.set_num_threads(1)  # as threads that an import starts do not survive a fork


def pytest_collection_finish():
    gc.freeze()
    fork_server()
    gc.enable()
    torch.set_num_threads(_threads)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report):
    """What xdist can send of a failure: one that quotes half of a surrogate pair would end the whole run."""
    data = yield
    if not report.failed:
        return data
    return json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))


def pytest_unconfigure():
    gc.unfreeze()  # or extension modules are not freed as Python ends, of which Triton's nanobind reports leaks


@pytest.fixture
def fresh_compiler():
    """`torch.compile` without anything that it keeps of other tests."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def registries():
    """What a test registers is forgotten again."""
    from maskrobust.augment import FAMILIES, FILLS
    from maskrobust.lm_modules.masking.dispatch import enter_rules_for_timm
    from maskrobust.lm_modules.masking.table import RULES
    from maskrobust.lm_modules.reliance.catalogue import MEASURES, catalogue
    from maskrobust.lm_modules.training.objectives import OBJECTIVES

    enter_rules_for_timm(), catalogue()  # import what registers itself, once for a process
    named: tuple[dict[Any, Any], ...] = (FAMILIES, FILLS, RULES, MEASURES, OBJECTIVES)
    before = [dict(registry) for registry in named]
    yield
    for registry, kept in zip(named, before, strict=True):
        registry.clear()
        registry.update(kept)


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    require_component("chromium", "apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()


def require_component(path_or_command, how_to_get):
    """Skip the running test where an outside component is missing; fail it on CI, where none may be.

    Args:
        path_or_command: a `Path`, or a string with a slash, must exist; any other string must be a command on PATH.
        how_to_get: what a developer can do about it, as in "apt install chromium".
    """
    is_path = isinstance(path_or_command, Path) or "/" in path_or_command
    if Path(path_or_command).exists() if is_path else shutil.which(path_or_command):
        return
    reason = f"needs {path_or_command}, which is missing here; {how_to_get}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def refused(error, *named, match=None):
    """What is done within raises such an error, in one sentence that names all of `named`."""
    with pytest.raises(error, match=match) as refusal:
        yield
    assert_one_sentence(refusal, *named)


def assert_one_sentence(refusal, *named):
    """What is refused is told in one sentence that names all of `named`."""
    message = str(refusal.value)
    assert all(each in message for each in named), message
    assert message.endswith((".", "?")) and ". " not in message and "\n" not in message
