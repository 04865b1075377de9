"""`maskrobust arches`."""

import pytest

from maskrobust.lm_modules.networks.tested_architectures import REFUSED, TIMM, TORCHVISION
from maskrobust.train.arches import try_to_wrap
from maskrobust.train.cli import main


def printed(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    main(arguments)
    return capsys.readouterr().out


def test_without_names_all_lists_are_printed(capsys, monkeypatch):
    words = {word.strip(",") for word in printed(["arches"], capsys, monkeypatch).split()}
    assert {*TORCHVISION, *TIMM, *REFUSED} <= words
    assert {f"timm/{name}" for names in TIMM.values() for name in names} <= words


def test_every_refusal_is_printed_with_its_reason(capsys, monkeypatch):
    lines = [line.strip() for line in printed(["arches"], capsys, monkeypatch).splitlines()]
    for name, refusal in REFUSED.items():
        assert any(line.startswith(f"{name} ") and line.endswith(refusal.reason) for line in lines), name


@pytest.mark.parametrize(
    ("name", "taken", "said"),
    [
        ("resnet18", True, "on rows"),
        ("small_resnet", True, "on rows"),
        ("mobilenet_v2", True, "dense only"),
        ("regnet_y_128gf", True, "dense only"),
        ("timm/test_convnext", True, "dense only"),
        ("vit_b_16", False, "encoder_layer_0"),
        ("timm/mixer_s32_224", False, "tokens"),
    ],
)
def test_a_named_architecture_is_tried(name, taken, said, capsys, monkeypatch):
    assert try_to_wrap(name)[0] is taken
    (line,) = [line for line in printed(["arches", name], capsys, monkeypatch).splitlines() if line.startswith(name)]
    assert line.split()[1] == ("yes" if taken else "no")
    assert said in line


def test_an_unknown_name_is_refused_with_the_nearest_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["arches", "resnet18", "resnet5O"])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert "'resnet5O'" in shown.err and "resnet50" in shown.err and shown.out == ""
