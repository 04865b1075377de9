"""`maskrobust play` in a real browser: what it answers, what it refuses, and that nothing leaves the machine."""

import http.client
import json
import os
import re
import runpy
import signal
import socket
import struct
import time
import zlib
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust.augment import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import decode_mask, size_of
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.pipelines import View
from maskrobust.train.data.transforms import Transform
from maskrobust.train.explain.pictures import read_picture
from maskrobust.train.networks import load_for
from maskrobust.train.play import PlayConfig, allowed_names, main
from tests.conftest import refused
from tests.pages.commands import blocks
from tests.processes import started

NETWORKS = ("small_resnet:random", "timm/test_resnet:random")
METHODS = ("black", "blur", "layer_masking")
SIZE = 64
HOSTILE = "<img src=x onerror=\"document.title='taken'\">${document.title='taken'}"
PATIENCE = 90_000
DOCS = Path(__file__).parents[2] / "docs/gallery.md"


def serve(folder):
    """Run app.py of a folder, as a shell that is set to serve everybody everything does."""
    os.environ |= {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/etc"}
    torch.set_num_threads(1)
    os.chdir(folder)
    runpy.run_path("app.py", run_name="__main__")


@contextmanager
def served(folder):
    """A process that serves the page: `address`, and `interrupt()`, which is Ctrl-C and returns what it has said."""
    said, errors = folder / "stdout", folder / "stderr"
    with started(serve, folder, output=said, errors=errors) as process:

        def interrupt():
            process.send_signal(signal.SIGINT)
            return process.wait(), errors.read_text()

        deadline = time.monotonic() + PATIENCE / 1000
        while not (found := re.search(r"play: (http://[\d.]+:\d+/)", said.read_text() if said.exists() else "")):
            assert process.poll() is None and time.monotonic() < deadline, errors.read_text()
            time.sleep(0.05)
        yield SimpleNamespace(address=found[1], interrupt=interrupt)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What docs/gallery.md gives as app.py of a Space, with other networks, pictures and port; it ends by Ctrl-C."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "pictures").mkdir()
    for name, seed in (("a photograph", 0), (HOSTILE.replace("/", ""), 1)):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((SIZE * 8 // 7, SIZE * 8 // 7)).save(folder / "pictures" / f"{name}.png")
    app, *_ = (block.text for block in blocks(DOCS) if block.file_name == "app.py")
    assert len([line for line in app.splitlines() if line and line[0] != "#"]) <= 3
    given = ["--images", "pictures", f"--image_size={SIZE}", f"--port={free_port()}", "--network", json.dumps(NETWORKS)]
    given += [f"--methods=[{', '.join(METHODS)}]"]
    changed = re.sub(r'"--network", "resnet50:\w+"', ", ".join(map(json.dumps, given)), app)
    (folder / "app.py").write_text(changed.replace("0.0.0.0", "127.0.0.1"))
    with served(folder) as found:
        yield found
        assert found.interrupt() == (130, "maskrobust: stopped.\n")


class Tab:
    """One tab with the page, which takes a quarter of the time to load again.

    Attributes:
        view: Playwright's.
        outside: addresses elsewhere that were asked for.
        errors: of its scripts.
        hole: (SIZE, SIZE) bool, the last one that it has sent.
    """

    def __init__(self, browser: Any, address: str) -> None:
        self.view = browser.new_context(viewport={"width": 1280, "height": 1200}).new_page()
        self.view.set_default_timeout(PATIENCE)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.hole = np.zeros((SIZE, SIZE), dtype=np.bool_)
        self.view.on("request", lambda request: self._note(request, address))
        self.view.on("pageerror", lambda error: self.errors.append(str(error)))
        self.view.goto(address)
        self.view.wait_for_selector(".answer")

    def load_again(self):
        self.view.reload()
        self.view.wait_for_selector(".answer")

    def _note(self, request, address):
        if not request.url.startswith((address, "data:", "blob:")):
            self.outside.append(request.url)
        sent = re.search(r'"hole":\s*"(data:[^"]+)"', request.post_data or "") if "join" in request.url else None
        if sent:
            from maskrobust.train.play.page import read_hole  # imports Gradio, for seconds

            self.hole = read_hole(sent[1], SIZE)

    def cut_rectangle(self, *, steps):
        """By the keyboard, from the middle to the right and down, 4 pixels a step."""
        self.view.get_by_label("Rectangle").check()
        self.view.locator("canvas").focus()
        for key in (" ", *["ArrowRight"] * steps, *["ArrowDown"] * steps, " "):
            self.view.keyboard.press(key)

    def answers(self):
        """By masking method, of each network its likeliest classes with their probabilities as they are written."""
        found = {}
        for section in self.view.query_selector_all(".answer"):
            lists = section.query_selector_all("ol")
            found[section.get_attribute("data-method")] = [
                [
                    (item.query_selector(".name").inner_text(), item.query_selector(".value").inner_text())
                    for item in each.query_selector_all("li")
                ]
                for each in lists
            ]
        return found

    def wait_for_answers(self):
        """Until the answers are those about the last hole: once no request is under way."""
        self.view.wait_for_function(f"document.querySelectorAll('.answer').length == {1 + len(METHODS)}")
        self.view.wait_for_function("!document.querySelector('.generating, .pending')")

    def wait_for_problem(self):
        return str(self.view.wait_for_selector("[role=alert].problem").inner_text())


def expected(picture, hole):
    """What the page must say, from networks that are asked in Python."""
    image = read_picture("it", picture, SIZE, Reading()).image[None]
    found = {method: [] for method in ("whole", *METHODS)}
    with torch.no_grad():
        for name in NETWORKS:
            network = load_for(name, None, "32")
            visible = torch.from_numpy(~hole)[None, None]
            logits = {"whole": network(image)}
            for method in METHODS:
                logits[method] = network.predictor(method)(image, visible, sample_keys(0, torch.tensor([0])))
            for method, each in logits.items():
                values, classes = each.softmax(dim=1)[0].topk(5)
                named = network.class_names
                found[method].append(
                    [
                        (f"class {place}" if named is None else named[place].split(",")[0], f"{100 * value:.1f}\u202f%")
                        for place, value in zip(classes.tolist(), values.tolist(), strict=True)
                    ]
                )
    return found


def same(shown, right):
    """The same answers, but for the last digit of a percentage: batches of another size round differently."""
    assert shown.keys() == right.keys()
    for method, networks in right.items():
        for one, other in zip(shown[method], networks, strict=True):
            values = [[float(value.removesuffix("\u202f%")) for _, value in each] for each in (one, other)]
            np.testing.assert_allclose(*values, atol=0.11, err_msg=method)
            clear = [place for place in range(4) if values[1][place] - values[1][place + 1] > 0.2]
            for place in clear:
                assert {name for name, _ in one[: place + 1]} == {name for name, _ in other[: place + 1]}, method


@pytest.fixture(scope="module")
def first_picture(page, tmp_path_factory):
    return next(tmp_path_factory.getbasetemp().glob("play*/pictures/a*.png"))


@pytest.fixture(scope="module")
def _tab(page, browser):
    return Tab(browser, page.address)


@pytest.fixture
def tab(_tab):
    _tab.load_again()
    return _tab


def test_the_page_answers_as_python_does_in_two_tabs_at_once_and_asks_nobody_else(tab, page, browser, first_picture):
    keys, mouse = tab, Tab(browser, page.address)
    for each in (keys, mouse):
        each.view.get_by_role("button", name="a photograph").click()
    keys.cut_rectangle(steps=6)
    keys.wait_for_answers()
    box = mouse.view.locator("canvas").bounding_box()
    mouse.view.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    mouse.view.mouse.down()
    mouse.view.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"], steps=5)
    mouse.view.mouse.up()
    mouse.wait_for_answers()
    cut = np.zeros((SIZE, SIZE), dtype=np.bool_)
    cut[SIZE // 2 : SIZE // 2 + 25, SIZE // 2 : SIZE // 2 + 25] = True
    np.testing.assert_array_equal(keys.hole, cut)
    assert 0.05 < mouse.hole.mean() < 0.4 and not mouse.hole[SIZE // 2 :].any()
    for each in (keys, mouse):
        same(each.answers(), expected(first_picture, each.hole))
        assert each.outside == [] and each.errors == []
    assert keys.answers() != mouse.answers()
    with keys.view.expect_download() as saved:
        keys.view.get_by_role("button", name="Save as an object mask").click()
    assert saved.value.suggested_filename == "a photograph.png"
    content = saved.value.path().read_bytes()
    assert size_of(content, "it") == size_of(first_picture.read_bytes(), "it")
    mask = decode_mask(content, "binary", "it")
    seen = Transform("none", SIZE)(View(mask.byte(), mask)).object_mask
    within, around = slice(SIZE // 2 + 1, SIZE // 2 + 24), slice(SIZE // 2 - 1, SIZE // 2 + 26)
    assert seen[0, within, within].all() and seen.sum() == seen[0, around, around].sum()  # right to a pixel at the edge


def test_what_is_wrong_is_one_sentence_and_the_page_lives_on(tab, tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bad = {"text.png": b"no image", "huge.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        tab.view.set_input_files("input[type=file]", tmp_path / name)
        assert "cannot be read as an image" in tab.wait_for_problem()
        tab.view.get_by_role("button", name="a photograph").click()
        tab.view.wait_for_selector(".problem", state="detached")
    tab.view.get_by_label("Rectangle").check()
    box = tab.view.locator("canvas").bounding_box()
    tab.view.mouse.move(box["x"] + 1, box["y"] + 1)
    tab.view.mouse.down()
    tab.view.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] - 1)
    tab.view.mouse.up()
    assert "hides the whole picture" in tab.wait_for_problem()
    tab.view.get_by_role("button", name="Clear").click()
    tab.view.wait_for_selector(".answer")
    tab.cut_rectangle(steps=3)
    tab.wait_for_answers()
    assert tab.errors == []


def test_explanations_come_when_they_are_asked_for(tab):
    tab.view.get_by_label("Occlusion").check()
    tab.view.get_by_role("button", name="Explain", exact=True).click()
    tab.view.wait_for_selector(".explanation img")
    assert tab.view.locator(".explanation").count() == len(NETWORKS)
    assert tab.view.locator(".explanation").first.locator("img").count() == len(METHODS)
    assert tab.outside == [] and tab.errors == []


def test_names_of_classes_are_escaped():
    from maskrobust.train.play.page import rendered
    from maskrobust.train.play.painted_hole import Answer, Shown

    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    answer = Answer(HOSTILE, [(HOSTILE, 0.5)], (HOSTILE, 0.5, 0.1), "")
    for each in (answer, Answer("a", refusal=HOSTILE)):
        html = rendered([Shown("black", picture, [each])], [(HOSTILE, HOSTILE, [("black", picture)])], HOSTILE)
        assert "<img src=x" not in html and html.count("&lt;img src=x") >= 3


def test_only_this_machine_is_listened_to_and_no_other_file_is_served(page, tmp_path):
    """Although the environment asks Gradio for both."""
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
    (tmp_path / "secret.txt").write_text("secret")
    for path in ("/etc/hostname", str(tmp_path / "secret.txt"), str(Path(__file__)), "../../../etc/hostname"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            request = f"GET /gradio_api/file={path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            status = connection.recv(4096).split()[1]
        assert status in (b"403", b"404"), path


def answer(page, **headers):
    """The status and the body of `/config`, which holds the user's pictures."""
    name, port = page.address.removeprefix("http://").strip("/").split(":")
    headers = {key: value.replace("PORT", port) for key, value in headers.items()}
    with closing(http.client.HTTPConnection(name, int(port), timeout=30)) as connection:
        connection.request("GET", "/config", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


FOREIGN = [
    "evil.example:PORT",
    "127.0.0.1.evil.example:PORT",
    "evil.example",
    "127.0.0.2:PORT",
    "",
    "[::1",
    "localhost@x",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_page_whose_name_was_turned_to_this_machine_reads_nothing(host, page):
    status, body = answer(page, Host=host)
    assert status in (400, 403) and "data:image" not in body and "painter" not in body


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT"])
def test_the_page_answers_under_this_machines_names(host, page):
    for origin in ({}, {"Origin": f"http://{host}"}):
        status, body = answer(page, Host=host, **origin)
        assert status == 200 and "painter" in body


def test_a_page_for_other_machines_takes_the_name_that_it_was_given_or_any_at_a_wildcard():
    assert allowed_names("0.0.0.0") == allowed_names("::") == ["*"]
    assert {"box.lan", "localhost", "127.0.0.1"} <= {*allowed_names("box.lan")}


def test_a_taken_port_is_refused_before_a_network_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with refused(InputError, match=rf"^play cannot listen at port {port} of '127\.0\.0\.1' \(.+\); choose another"):
            main(["play", "--network", "missing.ckpt", "--port", f"{port}"])


def test_the_small_network_is_trained_once_and_kept(tmp_path, monkeypatch):
    from rich.console import Console

    from maskrobust.train.data.sets.cues import Cues
    from maskrobust.train.play import offered

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(offered, "Cues", lambda: Cues(train_images=64, val_images=8))
    config = PlayConfig((), ())
    first, again = (offered.load_networks(config, Console(quiet=True))[0] for _ in range(2))
    (kept,) = (tmp_path / "maskrobust").iterdir()
    assert first.class_names == Cues().class_names and first.preprocessing.size == (48, 48)
    monkeypatch.setattr(offered, "train_small", None)
    offered.load_networks(config, Console(quiet=True))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert kept.suffix == ".ckpt"


@pytest.mark.parametrize("drawn", ["", "data:,", "data:image/png;base64,!", None, 3, "data:image/png;base64,aGVsbG8="])
def test_a_hole_that_is_none_is_refused(drawn):
    from maskrobust.train.play.page import Page

    page = Page(PlayConfig((), (), image_size=8), [], [], Reading())
    assert 'role="alert"' in page.paint(None, [], SimpleNamespace(hole=drawn))[1]  # type: ignore[arg-type]
