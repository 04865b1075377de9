"""The service of docs/use.md, asked as over HTTP."""

import io

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient

from maskrobust import load_network
from tests.pages.commands import blocks
from tests.test_house import ROOT
from tests.train.tiny import write_checkpoint


def test_the_service_answers_of_what_may_be_seen_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs/first/version_0/checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    network = load_network(write_checkpoint(path, masking="layer_masking"))
    (code,) = (each.text for each in blocks(ROOT / "docs/use.md") if "FastAPI" in each.text)
    exec(compile(code, "service.py", "exec"), service := {})
    rng, answers = np.random.default_rng(0), []
    pixels = rng.integers(0, 256, (60, 50, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[20:40, 10:30, 3] = 0
    for hidden in (0, 255):
        pixels[20:40, 10:30, :3] = hidden
        Image.fromarray(pixels).save(file := io.BytesIO(), "png")
        with TestClient(service["app"]) as client:
            answers.append(client.post("/", content=file.getvalue()).raise_for_status().json())
    assert answers[0] == answers[1]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = network(image[:, :3], image[:, 3:] > 0).softmax(dim=1)[0].tolist()
    assert answers[0] == dict(zip(network.class_names, expected, strict=True))
