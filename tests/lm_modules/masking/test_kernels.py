"""The kernels of a GPU compute what the CPU computes, as Triton interprets them, and compile for a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


def test_kernels_compute_what_the_cpu_computes_as_triton_interprets_them():
    """In a process of its own, as Triton asks once, when it is imported, whether to interpret."""
    tests = Path(__file__).with_name("interpreted_kernels.py")
    done = run_pytest("--noconftest", tests, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_of_pytest_ends_without_reports_of_leaks():
    """By Triton's nanobind, of which conftest.py must give back what it has kept from the garbage collector."""
    done = run_pytest("--collect-only", Path(__file__))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "leaked" not in done.stderr


def run_pytest(option, tests, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", option, str(tests)]
    options = {"env": os.environ | environment, "cwd": Path(__file__).parents[3], "capture_output": True, "text": True}
    return subprocess.run(command, **options, check=False)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_kernels_compile_for_a_gpu(dtype, monkeypatch, tmp_path):
    """For an H100 (sm_90), which needs none."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # as releases before 3.10 do; 3.9 warns where it is not said
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from maskrobust.lm_modules.masking.kernels import batch_norm, padding

    tensors = dict.fromkeys(("features", "gradient", "normalised", "of_features", "weight", "bias"), f"*{dtype}")
    tensors |= dict.fromkeys(("partial", "moments", "sums", "running_mean", "running_var"), "*fp32")
    tensors |= dict.fromkeys(("shown", "distances", "nearest", "numbers"), "*u8")
    constants = {
        "tile_rows": 32,
        "tile_channels": 64,
        "block": 1024,
        "reach": 6,
        "eps": 1e-5,
        "splits": 256,
        "is_mask": True,
    }
    programs = [
        each
        for module in (padding, batch_norm)
        for name, each in vars(module).items()
        if isinstance(each, triton.JITFunction) and name not in ("_tile", "_channels", "launch")
    ]
    for program in programs:
        names = program.arg_names
        kinds = tensors | {"momentum": "fp32"} | dict.fromkeys(constants, "constexpr")
        signature = {name: kinds.get(name, "i32") for name in names}
        values = {name: constants[name] for name in names if name in constants}
        compiled = triton.compile(ASTSource(program, signature, values), target=GPUTarget("cuda", 90, 32))
        assert compiled.asm["cubin"]
    assert len(programs) == 8
