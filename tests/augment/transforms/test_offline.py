"""albumentations stays out of the way: it is loaded only where it is used, and asks nothing over the network."""

import importlib
import os
import subprocess
import sys

import pytest

from maskrobust.augment import transforms

REFUSE_NETWORK = """
import socket, warnings
warnings.simplefilter("error")
def refuse(*arguments, **options):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def test_the_transforms_alone_load_it_without_a_request_or_a_warning():
    alone = "import sys, maskrobust.augment; assert 'albumentations' not in sys.modules\n"
    command = [sys.executable, "-c", REFUSE_NETWORK + alone + "import maskrobust.augment.transforms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_who_wants_the_version_check_keeps_it(given, kept, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", given or "")
    if given is None:
        monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE")
    importlib.reload(transforms)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == kept
