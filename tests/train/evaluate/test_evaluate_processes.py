"""`maskrobust evaluate` on several processes: the same rows to the last digit.

All have one thread, as torch's sums on a CPU can depend on their number.
"""

import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train import cli
from maskrobust.train.cli import main
from maskrobust.train.evaluate.kept import KEPT
from tests.processes import started
from tests.train.networks import MeanColour
from tests.train.test_cli import sentence_of
from tests.train.test_stopping import wait_for
from tests.train.tiny import TINY_DATA

BATCHES = 6
DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in (TINY_DATA | {"batch_size": 4}).items())]
QUICK = [
    *("--methods=[random_colour, layer_masking]", "--plan.patch_size=8", "--device=cpu"),
    *("--plan.curve_families=[patches]", "--plan.curve_orders=[random]", "--plan.curve_fractions=[0, 0.5]"),
    *("--plan.scenes=2", "--plan.scene_objects=20", "--plan.transfer_families=[rectangles]"),
]
"""Every kind of question, a few of each."""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(MeanColour().state_dict(), folder / f"{seed}.pt")
        networks.append(f"tests.train.networks.MeanColour:{folder / f'{seed}.pt'}")
    return ["evaluate", f"--network={json.dumps(networks)}", "--predictions=true", *DATA, *QUICK]


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    assert run_all(command, out, 1) == [0]
    return out


def rows_in(out):
    rows: list[dict[str, Any]] = json.loads((out / "reliance.json").read_text())["rows"]
    return rows


def run_rank(arguments, rank, ranks, port, asked, signalled):
    """A process as torchrun starts it, which may get a signal when it asks, or keeps what it asked, so often."""
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{ranks}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    cli._SECONDS_FOR_THE_FIRST = 0.0
    torch.set_num_threads(1)
    ask, save, asks = Measurement.ask, Outcomes.save, 0
    due, sent, where = (*(signalled or (0, 0)), "asking")[:3]

    def counted(self, batch):
        nonlocal asks
        with asked.open("a") as file:
            file.write(f"{rank} {sorted(batch.ids.tolist())}\n")
        asks += 1
        if (asks, where) == (due, "asking"):
            os.kill(os.getpid(), sent)
        return ask(self, batch)

    def torn(self, path):
        save(self, path)
        if (asks, where) == (due, "keeping"):
            os.truncate(path, 100)
            os.kill(os.getpid(), sent)

    def waits(**options):
        with (asked.parent / f"waits-{rank}").open("a") as file:
            file.write(f"after {asks}\n")
        return wait(**options)

    wait = torch.distributed.barrier
    torch.distributed.barrier = waits
    Measurement.ask, Outcomes.save = counted, torn  # type: ignore[method-assign]
    main(arguments)


def start_all(stack, command, out, ranks, signals=None):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    given = [*command, f"--out={out}"]
    return [
        stack.enter_context(
            started(
                *(run_rank, given, rank, ranks, port, out.parent / "asked", (signals or {}).get(rank)),
                output=out.parent / f"said-{rank}",
                errors=out.parent / f"errors-{rank}",
            )
        )
        for rank in range(ranks)
    ]


def run_all(command, out, ranks, **options):
    with ExitStack() as stack:
        return [process.wait() for process in start_all(stack, command, out, ranks, **options)]


def asked_in(folder):
    return (folder / "asked").read_text().splitlines()


def test_three_processes_ask_about_each_batch_once_and_give_the_rows_of_one(command, alone, tmp_path):
    """With loader processes, whose number answers do not follow from."""
    statuses = run_all([*command, "--data.num_workers=1"], tmp_path / "out", 3)
    assert statuses == [0, 0, 0], "".join((tmp_path / f"errors-{rank}").read_text() for rank in range(3))
    asked = asked_in(tmp_path)
    assert len(asked) == len({line[2:] for line in asked}) == BATCHES and {line[0] for line in asked} == {*"012"}
    assert rows_in(tmp_path / "out") == rows_in(alone)
    assert [bool((tmp_path / f"said-{rank}").read_text()) for rank in range(3)] == [True, False, False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.csv",
        "reliance.csv",
        "reliance.json",
        "report.html",
    ]


@pytest.mark.parametrize(("number", "where"), [(3, "asking"), (4, "keeping")], ids=str)
def test_an_evaluation_that_is_killed_goes_on_and_writes_the_same(command, alone, tmp_path, number, where):
    """Then as two processes, of which one is killed at once, and then as one again."""
    out, theirs = tmp_path / "out", tmp_path / "out" / "answers" / "of a claim"
    theirs.mkdir(parents=True)
    assert run_all(command, out, 1, signals={0: (number, signal.SIGKILL, where)}) == [-signal.SIGKILL]
    run_all(command, out, 2, signals={1: (1, signal.SIGKILL)})
    assert run_all(command, out, 1) == [0]
    asked = [line[2:] for line in asked_in(tmp_path)]
    assert len(asked[:number]) == len({*asked[:number]}) and {*asked[:number]} & {*asked[number:]} == {
        asked[number - 1]
    }
    assert rows_in(out) == rows_in(alone) and len({*asked}) == BATCHES
    for name in ("reliance.csv", "predictions.csv"):
        assert (out / name).read_bytes() == (alone / name).read_bytes()
    assert not (out / KEPT).exists() and theirs.exists()


@pytest.mark.parametrize(
    "other", [None, "--seed=1", "--data.texture_informativeness=0", "--plan.patch_size=4", "weights", "code"]
)
def test_only_answers_to_the_same_question_are_taken_from_an_evaluation_that_was_stopped(tmp_path, monkeypatch, other):
    asked, ask, weights, code = [], Measurement.ask, tmp_path / "weights.pt", tmp_path / "own_colour.py"
    code.write_text("from tests.train.networks import MeanColour\n\n\nclass Own(MeanColour):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_colour", raising=False)

    class Stop(BaseException):
        pass

    def counted(self, batch):
        asked.append(batch.ids)
        if len(asked) == 3:
            raise Stop
        return ask(self, batch)

    monkeypatch.setattr(Measurement, "ask", counted)
    given = ["evaluate", f"--network=own_colour.Own:{weights}", *DATA, *QUICK, "--plan.scenes=0"]
    torch.save(MeanColour().state_dict(), weights)
    with pytest.raises(Stop):
        main([*given, f"--out={tmp_path / 'out'}"])
    if other == "weights":
        torch.save(MeanColour().state_dict(), weights)
    if other == "code":
        code.write_text(f"{code.read_text()}    threshold = 0.2\n")
    main([*given, f"--out={tmp_path / 'out'}", *[other] * (other not in (None, "weights", "code"))])
    assert len(asked) - 3 == (BATCHES if other else BATCHES - 2)


def test_one_of_two_processes_is_killed_and_the_other_ends_in_one_sentence(command, tmp_path):
    assert run_all(command, tmp_path / "out", 2, signals={1: (2, signal.SIGKILL)}) == [2, -signal.SIGKILL]
    *assumed, sentence = (tmp_path / "errors-0").read_text().splitlines()
    assert all("--preprocess" in line for line in assumed)
    assert "another process of this command has ended" in sentence


def test_a_process_that_waits_for_another_can_be_stopped(command, tmp_path):
    with ExitStack() as stack:
        first, _ = start_all(stack, command, tmp_path / "out", 2, signals={1: (1, signal.SIGSTOP)})
        waits = tmp_path / "waits-0"
        wait_for(lambda: waits.exists() and f"after {BATCHES // 2}\n" in waits.read_text())
        first.send_signal(signal.SIGINT)
        assert first.wait() == 128 + signal.SIGINT
    assert (tmp_path / "errors-0").read_text().splitlines()[-1] == "maskrobust: stopped."


def test_processes_with_networks_of_other_weights_are_refused(tmp_path):
    network = ["evaluate", "--network=tests.train.networks.unseeded", *DATA, *QUICK]
    assert run_all(network, tmp_path / "out", 2) == [2, 2]
    said = (tmp_path / "errors-1").read_text()
    assert "must have the same networks and images" in said and "in a file" in said


def test_of_several_processes_the_first_tells_what_all_find_wrong(monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr("maskrobust.train.cli.time.sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    assert "claims" in sentence_of(["claims"], capsys) and len(waited) == 1  # in which torchrun would have ended it
    monkeypatch.setenv("RANK", "0")
    assert "claims" in sentence_of(["claims"], capsys) and len(waited) == 1
