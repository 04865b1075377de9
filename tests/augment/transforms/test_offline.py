"""albumentations stays out of the way: it is loaded only where it is used, and asks nothing over the network."""

import subprocess
import sys

REFUSE_NETWORK = """
import socket, warnings
warnings.simplefilter("error")
def refuse(*arguments, **options):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def run(program, **environment):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def test_the_transforms_alone_load_it_without_a_request_or_a_warning():
    alone = "import sys, maskrobust.augment; assert 'albumentations' not in sys.modules\n"
    done = run(REFUSE_NETWORK + alone + "import maskrobust.augment.transforms")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_wants_the_version_check_keeps_it():
    done = run(REFUSE_NETWORK + "import maskrobust.augment.transforms", NO_ALBUMENTATIONS_UPDATE="0")
    assert done.stderr == "the network was asked\n"
