"""The Space in a real browser, with the small checkpoint: Debian's chromium, driven by playwright."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hub_cards.publish import assemble, assemble_space
from tests.helpers.paths import ROOT
from training.phantoms.generate import generate_phantom

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the Space's extra is not installed: pip install '.[space]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)
TECHNIQUE = "Synthetic phantom, single frontal view."
WAIT = 180_000  # milliseconds; a report takes seconds, a busy machine longer


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Space that runs, with two phantoms as its examples."""
    folder = tmp_path_factory.mktemp("space")
    assemble(ROOT / "hub_cards" / "trrg-small", folder / "trrg-small")
    assemble_space(folder / "space")
    examples = []
    for number, kind in enumerate(("right", "wrong")):
        Image.fromarray(generate_phantom(7, number, 256).image).save(folder / "space" / f"{kind}.png")
        examples.append(
            {"file": f"{kind}.png", "label": f"Example, {kind}", "note": "", "indication": "", "technique": TECHNIQUE}
        )
    (folder / "space" / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"HF_HUB_OFFLINE": "1", "TRRG_CHECKPOINT": str(folder / "trrg-small"), "GRADIO_SERVER_PORT": str(port)}
    given |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
    with (folder / "log").open("w") as log:
        command = [sys.executable, str(folder / "space" / "app.py")]
        server = subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(url, timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(1)
        yield url
        assert not list((folder / "uploads").rglob("*DOE*")), "an upload stays on the server"
        assert "DOE" not in (folder / "log").read_text()
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page as a visitor of his own opens it."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.get_by_role("button", name="Example, right").wait_for()
    yield page
    context.close()


def box(page: Any, label: str) -> Any:
    return page.get_by_label(label, exact=True)


def wait_for(page: Any, label: str, words: str) -> str:
    playwright.expect(box(page, label)).to_have_value(re.compile(words), timeout=WAIT)
    return box(page, label).input_value()


def upload(page: Any, *files: Any) -> None:
    page.locator("input[type=file]").first.set_input_files(list(files))


def phantom(tmp_path: Path, index: int = 0) -> str:
    file = tmp_path / f"JANE-DOE-{index}.png"
    Image.fromarray(generate_phantom(7, index, 256).image).save(file)
    return str(file)


def choose(page: Any, words: str) -> str:
    """What stands beside the report when one of its sentences is chosen."""
    page.get_by_role("button", name=words).first.click()
    return wait_for(page, "What is pointed at", re.escape(words))


def first_sentence(page: Any) -> str:
    options = box(page, "Point at a sentence or a clue (the same, by keyboard)")
    options.click()
    words = page.get_by_role("option").first.inner_text()
    page.keyboard.press("Escape")
    return words.strip().removeprefix("Sentence: ").removeprefix("✓").strip()


def test_a_study_from_upload_to_take_home(page: Any, tmp_path: Path) -> None:
    assert "never for clinical use" in page.content() and "244 images of unseen NIH patients" in page.content()
    box(page, "Technique").fill(TECHNIQUE)
    upload(page, phantom(tmp_path))
    assert wait_for(page, "Where report and clues differ", "sentences: ")
    assert "JANE" not in page.content()
    sentence = first_sentence(page)
    assert "The image: " in choose(page, sentence)
    page.get_by_role("gridcell").filter(has_text="Pneumothorax").first.click()
    wait_for(page, "What is pointed at", "^Pneumothorax: ")
    page.get_by_role("radio", name="present", exact=True).check()
    playwright.expect(page.get_by_text("Pneumothorax: present, by hand")).to_be_visible(timeout=WAIT)
    wait_for(page, "What is pointed at", r"^Pneumothorax: .*score 1\.00, over")
    line = box(page, "Ask about the study, or correct its report")
    line.fill("Is there <b>a</b> <script>document.title='gone'</script> pneumothorax?")
    page.get_by_role("button", name="Ask", exact=True).click()
    playwright.expect(page.get_by_text("Is there <b>a</b>")).to_be_visible(timeout=WAIT)
    line.fill("There is no pneumothorax.")
    page.get_by_role("button", name="Correct the report").click()
    playwright.expect(page.get_by_text("Correct the report: There is no")).to_be_visible(timeout=WAIT)
    assert page.title() == "TRRG"
    for name in ("report.txt", "report.json", "report.png"):
        with page.expect_download() as wanted:
            page.locator(f"a[href$='{name}']").first.click()
        assert Path(wanted.value.path()).stat().st_size > 100, name
    page.get_by_role("radio", name="sensitive").check()
    playwright.expect(page.get_by_text("Correct the report: There is no")).to_have_count(0, timeout=WAIT)
    wait_for(page, "Where report and clues differ", "sentences: ")


def test_the_next_study_takes_the_place_of_the_last_one_and_a_broken_one_leaves_nothing(
    page: Any, tmp_path: Path
) -> None:
    box(page, "Indication").fill("<script>document.title='gone'</script>Cough.")
    upload(page, phantom(tmp_path, 0))
    wait_for(page, "Where report and clues differ", "sentences: ")
    first = page.get_by_role("button", name="Findings: ").locator("xpath=ancestor::div[1]").inner_text()
    upload(page, phantom(tmp_path, 1))  # the model takes one view: added to the first, it would be refused
    playwright.expect(box(page, "Indication")).to_have_value("", timeout=WAIT)
    wait_for(page, "Where report and clues differ", "sentences: ")
    assert first and page.title() == "TRRG"
    broken = tmp_path / "DOE.png"
    broken.write_text("no picture", encoding="utf-8")
    upload(page, str(broken))
    playwright.expect(page.get_by_text("This study cannot be read: view 0").first).to_be_visible(timeout=WAIT)
    assert box(page, "Where report and clues differ").input_value() == "" and "/tmp" not in page.content()
    assert page.get_by_role("button", name="Findings: ").count() == 0 and "DOE" not in page.content()
    large = tmp_path / "large.png"
    large.write_bytes(bytes(33 * 1024 * 1024))
    upload(page, str(large))
    playwright.expect(page.get_by_text(re.compile("maximum allowed size|exceeds|too large"))).to_be_visible(
        timeout=WAIT
    )


def test_two_visitors_do_not_see_each_others_study(page: Any, browser: Any, address: str) -> None:
    other = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
    other.set_default_timeout(WAIT)
    other.goto(address)
    page.get_by_role("button", name="Example, right").click()
    other.get_by_role("button", name="Example, wrong").click()
    wait_for(page, "Where report and clues differ", "sentences: ")
    wait_for(other, "Where report and clues differ", "sentences: ")
    assert first_sentence(page) != first_sentence(other)
    line = box(other, "Ask about the study, or correct its report")
    line.fill("Is there an effusion?")
    line.press("Enter")
    playwright.expect(other.get_by_text("Is there an effusion?")).to_be_visible(timeout=WAIT)
    assert page.get_by_text("Is there an effusion?").count() == 0
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    other.close()
