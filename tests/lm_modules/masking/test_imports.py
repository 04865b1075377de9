"""What layer masking needs to be imported."""

import subprocess
import sys

ALLOWED = {"maskrobust", "numpy", "torch", "torchvision"}


def test_layer_masking_imports_torch_torchvision_and_numpy_alone() -> None:
    code = (
        "import sys, torch, torchvision, numpy; before = set(sys.modules); import maskrobust.lm_modules.masking; "
        "print(*{name.split('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(imported.split()) <= ALLOWED
