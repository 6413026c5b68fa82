"""The Space with the small checkpoint, and that of the metric, in a real browser: Debian's chromium, by playwright."""

import io
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

from evaluation import publish_metric
from hub_cards.publish import assemble, assemble_space
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.paths import ROOT
from training.phantoms.generate import generate_phantom
from training.phantoms.scoring import report_sides

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the Space's extra is not installed: pip install '.[space]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
WAIT = 120_000  # milliseconds; a report takes seconds, a busy machine longer
playwright.expect.set_options(timeout=WAIT)
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on PATH: apt-get install chromium", allow_module_level=True)
TECHNIQUE = "Synthetic phantom, single frontal view."
FILES = ("report.txt", "report.json", "report.png", "form.json", "fhir.json", "report-sr.dcm", "view-1.dcm")
CONTRASTS = """selector => {
  const read = colour => { const [r, g, b, a = 1] = colour.match(/[0-9.]+/g).map(Number); return [[r, g, b], a] };
  const over = ([colour, a], ground) => colour.map((value, i) => a * value + (1 - a) * ground[i]);
  const ground = node => node
    ? over(read(getComputedStyle(node).backgroundColor), ground(node.parentElement)) : [255, 255, 255];
  const light = colour => { const [r, g, b] = colour.map(value => value / 255 <= 0.04045 ? value / 255 / 12.92
    : ((value / 255 + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 };
  return Object.fromEntries([...document.querySelectorAll(selector)].map((node, i) => {
    const behind = ground(node), both = [light(over(read(getComputedStyle(node).color), behind)), light(behind)];
    return [`${i} ${node.innerText || node.value}`, Math.max(...both) / Math.min(...both)] })) }"""
"""What a selector finds, and how its words stand out from what is behind them (WCAG 2.2, "contrast ratio")."""
BROKEN = """selector => [...document.querySelectorAll(selector)].flatMap(node => {
  const found = [], texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), place = document.createRange();
  while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\\S+/g)) {
    place.setStart(texts.currentNode, word.index);
    place.setEnd(texts.currentNode, word.index + word[0].length);
    if (place.getClientRects().length > 1) found.push(word[0]) }
  return found })"""
"""The words that go on in another line, in what a selector finds."""
HIDDEN = """selector => [...document.querySelectorAll(selector)]
  .filter(node => node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1)
  .map(node => node.innerText)"""
"""What is seen only by scrolling inside of what a selector finds."""
PICTURES = os.environ.get("SPACE_PICTURES")  # folder for the screenshots of the documentation


class Server:
    """A Space in a process of its own, whose path leads to no checkout: it has what its folder carries.

    Args:
        folder: that it runs in.
        app: its script, from there.
        environment: variables beside those of every Space.
    """

    def __init__(self, folder: Path, app: str, **environment: str) -> None:
        self.folder, self.app, self.environment, self.log = folder, app, environment, folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        given |= {"HF_HUB_OFFLINE": "1", "GRADIO_SERVER_PORT": str(self.port), **self.environment}
        given |= {"GRADIO_TEMP_DIR": str(self.folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, self.app], env=given, cwd=self.folder, stdout=log, stderr=log
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url, timeout=5)
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(1)
        raise AssertionError(f"no page after 600 s\n{self.log.read_text()}")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Space of the small checkpoint, with two phantoms as its examples."""
    folder = tmp_path_factory.mktemp("space")
    assemble(ROOT / "hub_cards" / "trrg-small", folder / "trrg-small")
    assemble_space(folder / "space")
    examples = []
    for number, kind in enumerate(("first", "second")):
        phantom = generate_phantom(7, number, 256)
        Image.fromarray(phantom.image).save(folder / "space" / f"{kind}.png")
        told = {"label": f"Example, {kind}: a SYNTHETIC phantom", "indication": "", "technique": TECHNIQUE}
        planted = ", ".join(finding.words for finding in phantom.findings)
        examples.append({"file": f"{kind}.png", "note": f"{kind.title()}: planted were {planted}.", **told})
    (folder / "space" / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
    server = Server(folder, "space/app.py", TRRG_CHECKPOINT="trrg-small")
    try:
        server.start()
        yield server
        assert not list((folder / "uploads").rglob("*DOE*")), "an upload stays on the server"
        assert "DOE" not in server.log.read_text()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return server.url


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
    page.get_by_role("button", name="Example, first").wait_for()
    yield page
    context.close()


def box(page: Any, label: str) -> Any:
    return page.get_by_label(label, exact=True)


def wait_for(page: Any, label: str, words: str) -> str:
    playwright.expect(box(page, label)).to_have_value(re.compile(words))
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


def picture(page: Any, file: Path) -> None:
    """The whole page, in few bytes with its colours as they are."""
    page.wait_for_timeout(1_000)  # its pictures fade in
    Image.open(io.BytesIO(page.screenshot(full_page=True))).save(file, quality=85)


def first_sentence(page: Any) -> str:
    options = box(page, "Point at a sentence or a clue (the same, by keyboard)")
    options.click()
    words = page.get_by_role("option").first.inner_text()
    page.keyboard.press("Escape")
    return words.strip().removeprefix("Sentence: ").removeprefix("✓").strip()


def test_a_study_from_upload_to_take_home(page: Any, server: Server, tmp_path: Path) -> None:
    assert "never for clinical use" in page.content() and "244 images of unseen NIH patients" in page.content()
    start, before = time.monotonic(), server.cpu_seconds()
    upload(page, phantom(tmp_path))  # bare: no technique is told
    page.wait_for_function(
        """() => { const said = document.querySelector("#report").innerText;
                   return /[a-z][.]/.test(said) && !said.includes(" ...") }"""
    )
    spent = server.cpu_seconds() - before
    print(
        f"first sentence: {time.monotonic() - start:.1f} s, {spent:.1f} s of the server's CPU, load {os.getloadavg()}"
    )
    assert spent < 5
    assert wait_for(page, "Where report and clues differ", "sentences: ")
    planted = {finding.pair for finding in generate_phantom(7, 0, 256).findings}
    assert report_sides(page.locator("#report").inner_text().partition("Not in the report")[0]) == planted
    assert "JANE" not in page.content()
    sentence = first_sentence(page)
    assert "The image: " in choose(page, sentence)
    page.get_by_role("gridcell").filter(has_text="Pneumothorax").first.click()
    wait_for(page, "What is pointed at", "^Pneumothorax: ")
    page.get_by_role("radio", name="present", exact=True).check()
    playwright.expect(page.get_by_text("Pneumothorax: present, by hand")).to_be_visible()
    wait_for(page, "What is pointed at", r"^Pneumothorax: .*score 1\.00, over")
    line = box(page, "Ask about the study, or correct its report")
    line.fill("Is there <b>a</b> <script>document.title='gone'</script> pneumothorax?")
    page.get_by_role("button", name="Ask", exact=True).click()
    playwright.expect(page.get_by_text("Is there <b>a</b>")).to_be_visible()
    line.fill("There is no pneumothorax.")
    page.get_by_role("button", name="Correct the report").click()
    playwright.expect(page.get_by_text("Correct the report: There is no")).to_be_visible()
    assert page.title() == "TRRG"
    for name in FILES:
        with page.expect_download() as wanted:
            page.locator(f"a[href$='{name}']").first.click()
        assert Path(wanted.value.path()).stat().st_size > 100, name
        told = Path(wanted.value.path()).read_bytes().lower()
        assert b"pneumothorax" in told or name in ("report.png", "view-1.dcm"), name
    page.get_by_role("radio", name="sensitive").check()
    playwright.expect(page.get_by_text("Correct the report: There is no")).to_have_count(0)
    wait_for(page, "Where report and clues differ", "sentences: ")


def test_the_next_study_takes_the_place_of_the_last_one_and_a_broken_one_leaves_nothing(
    page: Any, tmp_path: Path
) -> None:
    box(page, "Indication").fill("<script>document.title='gone'</script>Cough.")
    upload(page, phantom(tmp_path, 0))
    wait_for(page, "Where report and clues differ", "sentences: ")
    first = page.get_by_role("button", name="Findings: ").locator("xpath=ancestor::div[1]").inner_text()
    upload(page, phantom(tmp_path, 1))  # the model takes one view: added to the first, it would be refused
    playwright.expect(box(page, "Indication")).to_have_value("")
    wait_for(page, "Where report and clues differ", "sentences: ")
    assert first and page.title() == "TRRG"
    broken = tmp_path / "DOE.png"
    broken.write_text("no picture", encoding="utf-8")
    upload(page, str(broken))
    playwright.expect(page.get_by_text("This study cannot be read: view 0").first).to_be_visible()
    assert box(page, "Where report and clues differ").input_value() == "" and "/tmp" not in page.content()
    assert page.get_by_role("button", name="Findings: ").count() == 0 and "DOE" not in page.content()
    large = tmp_path / "large.png"
    large.write_bytes(bytes(33 * 1024 * 1024))
    upload(page, str(large))
    playwright.expect(page.get_by_text(re.compile("maximum allowed size|exceeds|too large"))).to_be_visible()


def test_how_it_looks_in_light_and_dark_and_on_a_phone(browser: Any, address: str, tmp_path: Path) -> None:
    """With SPACE_PICTURES=FOLDER it writes there the screenshots that the documentation shows."""
    folder = Path(PICTURES or tmp_path)
    wide, phone = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
    for name, scheme, size in (("light", "light", wide), ("dark", "dark", wide), ("phone", "light", phone)):
        context = browser.new_context(color_scheme=scheme, viewport=size)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.get_by_role("button", name="Example, first").click()
        wait_for(page, "Where report and clues differ", "sentences: ")
        choose(page, first_sentence(page))
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
        assert ("dark" in (page.locator("body").get_attribute("class") or "")) == (scheme == "dark"), name
        marks = page.evaluate(CONTRASTS, "#report .highlighted, #report .legend-item, textarea")
        assert len(marks) > 10 and min(marks.values()) >= 4.5, (name, marks)
        print(f"{name}: contrasts from {min(marks.values()):.1f} to {max(marks.values()):.1f} to 1")
        assert page.evaluate(BROKEN, "#report, #clues [role=grid]") == [], name
        assert page.evaluate(HIDDEN, "#clues .virtual-table-viewport") == [], name
        picture(page, folder / f"{name}.webp")
        context.close()


def test_a_browser_that_is_closed_in_mid_answer_holds_nobody_up(page: Any, browser: Any, address: str) -> None:
    gone = browser.new_context()
    other = gone.new_page()
    other.set_default_timeout(WAIT)
    other.goto(address)
    other.get_by_role("button", name="Example, second").click()
    playwright.expect(other.locator("#report")).to_contain_text(re.compile("The radiograph is read|Findings"))
    gone.close()
    page.get_by_role("button", name="Example, first").click()
    wait_for(page, "Where report and clues differ", "sentences: ")


def test_several_views_and_a_server_that_is_killed_and_started_again(browser: Any, tmp_path: Path) -> None:
    """A model of two views that never learned anything."""
    save_checkpoint(tmp_path / "random", "trrg", max_views=2)
    assemble(tmp_path / "random", tmp_path / "published")
    assemble_space(tmp_path / "space")
    server = Server(tmp_path, "space/app.py", TRRG_CHECKPOINT="published")
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    try:
        server.start()
        page.goto(server.url)
        upload(page, phantom(tmp_path, 0), phantom(tmp_path, 1))
        wait_for(page, "Where report and clues differ", "sentences: |No report")
        for number in (1, 2):
            playwright.expect(page.get_by_text(f"View {number} of 2.")).to_be_visible()
        upload(page, *(phantom(tmp_path, number) for number in range(3)))
        playwright.expect(page.get_by_text("3 files; this model reads studies of 1 to 2 views").first).to_be_visible()
        upload(page, phantom(tmp_path, 0), phantom(tmp_path, 1))
        wait_for(page, "Where report and clues differ", "sentences: |No report")
        server.stop()
        server.start()
        line = box(page, "Ask about the study, or correct its report")
        line.fill("Is there an effusion?")
        line.press("Enter")
        playwright.expect(page.get_by_text("not any more: upload one").first).to_be_visible()
        upload(page, phantom(tmp_path, 0))
        playwright.expect(page.get_by_text("View 1 of 1.")).to_be_visible()
    finally:
        server.stop()
        page.close()


def test_two_visitors_do_not_see_each_others_study(page: Any, browser: Any, address: str) -> None:
    other = browser.new_page()
    other.set_default_timeout(WAIT)
    other.goto(address)
    page.get_by_role("button", name="Example, first").click()
    other.get_by_role("button", name="Example, second").click()
    wait_for(page, "Where report and clues differ", "sentences: ")
    wait_for(other, "Where report and clues differ", "sentences: ")
    reports = [visited.locator("#report").inner_text() for visited in (page, other)]
    assert reports[0] != reports[1]
    line = box(other, "Ask about the study, or correct its report")
    line.fill("Is there an effusion?")
    line.press("Enter")
    playwright.expect(other.get_by_text("Is there an effusion?")).to_be_visible()
    assert page.get_by_text("Is there an effusion?").count() == 0
    other.close()


def test_the_metrics_space(browser: Any, tmp_path: Path) -> None:
    """Two reports with the words that decided, a file of pairs, and a file that is none."""
    publish_metric.assemble(tmp_path)
    home = {"HF_HOME": str(tmp_path / "home"), "HF_EVALUATE_OFFLINE": "1"}
    server = Server(tmp_path, "trrg/radiology-ce/app.py", **home)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(WAIT)
    try:
        server.start()
        page.goto(server.url)
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("gridcell", name="Pleural Effusion", exact=True).first.wait_for()
        page.get_by_text("decides").first.wait_for()
        assert page.evaluate(HIDDEN, "[role=gridcell]") == []
        picture(page, Path(PICTURES or tmp_path) / "metric.webp")
        box(page, "Generated report").fill("<script>document.title='gone'</script>No edema.")
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("gridcell", name="Edema", exact=True).first.wait_for()
        assert page.title() == "radiology-ce"
        page.get_by_role("tab", name="A file").click()
        for name, text, told in (
            ("bad.csv", "a,b\n1,2\n", "with the columns prediction and reference."),
            ("good.csv", "prediction,reference\nNo edema.,Edema.\n", "r2gen/"),
        ):
            (tmp_path / name).write_text(text, encoding="utf-8")
            with page.expect_file_chooser() as chosen:
                page.get_by_text("Drop File Here").locator("visible=true").click()
            chosen.value.set_files(tmp_path / name)
            page.get_by_label("Clear").first.wait_for()
            page.get_by_role("button", name="Score the file").click()
            page.get_by_text(told).locator("visible=true").first.wait_for()
            page.get_by_label("Clear").first.click()  # the next one takes away an error
    finally:
        server.stop()
        page.close()
