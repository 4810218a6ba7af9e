"""The page to try a model on, in a real browser."""

import shutil

import numpy as np
import pytest

import kzoo
from tests.serving.test_serve import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's test needs playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("the page's test needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Opens a server's page; what goes wrong in its script fails the test."""
    opened = []

    def open_(path):
        server, page, errors = Server(path), browser.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        opened.append((server, page, errors))
        return page

    yield open_
    for server, page, errors in opened:
        page.close()
        assert server.end()[0] == 0 and not errors, errors


def test_a_dropped_picture_is_classified(small_run, open_page, tmp_path):
    from PIL import Image

    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "text.png").write_text("no picture")
    page = open_page(small_run.path)
    page.set_input_files("#file", tmp_path / "grey.png")
    page.wait_for_selector(".bar")
    assert page.locator(".bar").count() == 5 and page.locator("canvas").is_visible()
    assert page.locator(".bar span").first.inner_text() in "0123456789"
    page.set_input_files("#file", tmp_path / "text.png")
    page.wait_for_selector(".error")
    assert "no JPEG" in page.locator(".error").inner_text()


def test_found_objects_are_drawn(small_detector, open_page, tmp_path):
    from PIL import Image

    Image.fromarray(np.full((64, 192, 3), 90, np.uint8)).save(tmp_path / "street.png")
    page = open_page(small_detector.path)
    page.set_input_files("#file", tmp_path / "street.png")
    page.wait_for_selector("#answer pre")
    assert page.locator("canvas").evaluate("c => [c.width, c.height]") == [192, 64]
    assert page.locator("#answer pre").inner_text()


def test_a_prompt_is_continued(open_page, tmp_path):
    (tmp_path / "words.txt").write_text("The cat sat. The dog ran. " * 200)
    small = {"arguments.units": 16, "arguments.num_layers": 1, "train.epochs": 1, "data.batch_size": 4}
    recipe = kzoo.load_recipe("lstm_textgen/pydoc", {**small, "data.source": f"file:{tmp_path / 'words.txt'}"})
    page = open_page(kzoo.train(recipe, out=tmp_path / "run").path)
    page.fill("#prompt", "The ")
    page.fill("#length", "12")
    page.click("text=Write")
    page.wait_for_selector("#text b")
    assert len(page.locator("#text").inner_text()) > len("The ")
