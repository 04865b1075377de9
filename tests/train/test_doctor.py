"""`maskrobust doctor`."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from maskrobust.train import doctor
from maskrobust.train.cli import main
from maskrobust.train.doctor import data_packages, devices, installed


def test_every_dependency_is_listed_with_its_version(capsys):
    main(["doctor"])
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line.split()[1:]}
    for name in ("maskrobust", "torch", "timm", "webdataset", "pytorch-lightning"):
        assert lines[name] == version(name)


def test_a_missing_and_an_old_dependency_are_named_with_the_command(capsys, monkeypatch):
    def version_of(name):
        if name == "timm":
            raise PackageNotFoundError(name)
        return "0.0.1" if name == "torch" else version(name)

    monkeypatch.setattr(doctor, "version", version_of)
    found = {finding.what: finding for finding in installed()}
    assert found["timm"].found == "missing" and found["timm"].remedy.startswith("pip install 'timm")
    assert found["torch"].found == "0.0.1" and "pip install 'torch" in found["torch"].remedy
    assert found["webdataset"].remedy == ""
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert "pip install 'timm" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "said"), [(1, "1 core, 1 thread for"), (2, "2 cores, 2 threads for")])
def test_cores_and_threads_are_counted(count, said, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: count)
    monkeypatch.setattr("torch.get_num_threads", lambda: count)
    assert next(iter(devices())).found.startswith(said)


def test_data_that_are_not_there_come_with_the_package_to_install(monkeypatch):
    monkeypatch.setattr(doctor.Path, "exists", lambda _path: False)
    for finding in data_packages():
        assert f"apt install {finding.what}" in finding.remedy


@pytest.mark.parametrize(
    ("distribution", "extra"),
    [
        ("pycocotools", "coco"),
        ("segmentation-models-pytorch", "dense"),
        ("grad-cam", "grad_cam"),
        ("onnxruntime", "onnx"),
        ("gradio", "play"),
    ],
)
def test_what_an_extra_is_missing_comes_with_its_name(distribution, extra, monkeypatch):
    def version_of(name):
        if name == distribution:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", version_of)
    (found,) = (finding for finding in installed() if finding.what == distribution)
    assert found.remedy.endswith(f"for {extra}") and not found.needed
