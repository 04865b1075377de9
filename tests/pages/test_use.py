"""The service of docs/use.md and docs/browser.html, asked as over HTTP and in a real browser."""

import io
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

from maskrobust import load_network
from maskrobust.lm_modules import loading
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.commands.export import export_onnx
from tests.conftest import require_component
from tests.lm_modules.masking.networks import randomise, seeded
from tests.pages.commands import blocks
from tests.test_house import ROOT
from tests.train.tiny import write_checkpoint

USE = ROOT / "docs/use.md"
SIZE = (20, 24)
LAYERS = (nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))


def test_the_service_answers_of_what_may_be_seen_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs/first/version_0/checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    network = load_network(write_checkpoint(path, masking="layer_masking"))
    (code,) = (each.text for each in blocks(USE) if "FastAPI" in each.text)
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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def tab(tmp_path, monkeypatch, browser):
    """The page, as its reader puts it beside a file of `maskrobust export` and onnxruntime-web."""
    packages = Path(sys.prefix) / "onnxruntime-web"
    get = f"npm install --ignore-scripts --prefix {packages} onnxruntime-web"
    require_component(packages / "node_modules/onnxruntime-web", get)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    shutil.copy(ROOT / "docs/browser.html", tmp_path / "index.html")
    shown, names = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), SIZE, crop=0.5), ["<b>&amp;", *"bcdef"]
    network = TrainedNetwork("net", seeded(lambda: randomise(nn.Sequential(*LAYERS))), shown, 6, class_names=names)
    monkeypatch.setattr(loading, "load_network", lambda _: network)
    export_onnx("net", tmp_path / "first.onnx")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever).start()
        found = browser.new_page()
        found.goto(f"http://127.0.0.1:{server.server_port}/")
        yield found
        found.close()
        server.shutdown()


def test_the_page_answers_of_what_may_be_seen_alone_as_onnx_runtime_does_in_python(tab, tmp_path):
    rng, answers = np.random.default_rng(0), []
    pixels = rng.integers(0, 256, (60, 48, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "first.onnx")
    for paint in (None, 0, 255):
        if paint is not None:  # what lies below the box that is drawn, of a picture of which half is shown
            pixels[20 + 3 : 20 + 12, 12 + 5 : 12 + 15] = paint
        Image.fromarray(pixels).save(picture := tmp_path / f"{paint}.png")
        tab.evaluate("document.getElementById('answer').textContent = ''")
        tab.set_input_files("#file", picture)
        tab.wait_for_function("document.getElementById('answer').textContent")
        canvas = tab.locator("canvas").bounding_box()
        tab.mouse.move(canvas["x"] + 15, canvas["y"] + 3)
        tab.mouse.down()
        tab.mouse.move(canvas["x"] + 20, canvas["y"] + 15)  # drawn too far at first
        tab.mouse.move(canvas["x"] + 5, canvas["y"] + 12)
        tab.mouse.up()
        seen = np.reshape(tab.evaluate("[...pixels.getImageData(0, 0, canvas.width, canvas.height).data]"), (*SIZE, 4))
        assert np.array_equal(seen[..., 3] == 0, np.pad(np.ones((9, 10), dtype=bool), ((3, 8), (5, 9))))
        assert np.array_equal(seen[..., :3][seen[..., 3] > 0], pixels[20:40, 12:36][seen[..., 3] > 0])
        answers.append(tab.evaluate("predict().then(found => [...found])"))
        images = np.float32(seen[..., :3]).transpose(2, 0, 1)[None] / 255
        (expected,) = session.run(["logits"], {"images": images, "visible": seen[None, None, ..., 3] > 0})
        np.testing.assert_allclose(answers[-1], expected[0], rtol=0, atol=1e-5 * np.abs(expected).max())
    tab.evaluate("""() => {
      const run = session.run.bind(session), {length} = pixels.getImageData(0, 0, canvas.width, canvas.height).data;
      session.run = inputs => run(inputs, inputs.images.data.forEach((_, i, all) => {
        if (!inputs.visible.data[i % (length / 4)]) all[i] = NaN; // where a canvas has 0
      }));
    }""")
    answers.append(tab.evaluate("predict().then(found => [...found])"))
    assert answers[0] == answers[1] == answers[2] == answers[3]
    said = tab.inner_text("#answer").splitlines()
    likeliest = np.argsort(-expected[0])[:5]
    assert [line.partition(" % ")[2] for line in said] == [["<b>&amp;", *"bcdef"][place] for place in likeliest]
    fractions = np.exp(expected[0]) / np.exp(expected[0]).sum()
    assert [line.partition(" ")[0] for line in said] == [f"{100 * each:.1f}" for each in fractions[likeliest]]
