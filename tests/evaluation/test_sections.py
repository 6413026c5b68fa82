"""The section splitter of the data builders, on invented reports of the shapes that hospitals write."""

import gc
import time

import pytest

from evaluation.reading.sections import split_sections, walk_sections
from processing_trrg import split_report
from tests.helpers.fake_trees import FINDINGS, IMPRESSION, mimic_report
from tests.helpers.report_cases import CASES


def found(report):
    return {name: text for name, text in split_sections(report).items() if text}


@pytest.mark.parametrize(("kind", "report", "expected"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_sections(kind, report, expected):
    assert found(report) == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (mimic_report(), {"findings": FINDINGS, "impression": IMPRESSION, "comparison": "None.",
                          "indication": "___F with cough // pneumonia?", "technique": "Chest PA and lateral"}),
        ("FINDINGS: LUNGS: Clear.\n HEART: Normal.\n", {"findings": "LUNGS: Clear. HEART: Normal."}),
        (
            "HISTORY: Fever.\nPA AND LATERAL VIEWS OF THE CHEST: Clear.\nIMPRESSION: AP chest compared to ___:\n Same.",
            {"indication": "Fever.", "findings": "Clear.", "impression": "AP chest compared to ___: Same."},
        ),
        ("CHEST, TWO VIEWS: 2 images.\nFINDINGS: Clear.", {"findings": "Clear."}),
        ("INDICATION: cough. TECHNIQUE: PA. FINDINGS AND IMPRESSION: Clear.",
         {"indication": "cough.", "technique": "PA.", "findings": "Clear."}),
        ("WET READ: ___ 5 PM\n No PTX.\n FINAL REPORT\n REASON FOR EXAM: line\n IMPRESSION: Line in place.",
         {"indication": "line", "impression": "Line in place."}),
        ("IMPRESSION: One.\n RECOMMENDATION(S): CT.\n ADDENDUM: x\n IMPRESSION: Two.", {"impression": "One. Two."}),
        ("Findings: clear. No prior study: none.\nConclusion: normal", {"findings": "clear. No prior study: none.",
         "impression": "normal"}),
        ("FINDINGS: ___\nIMPRESSION:\n", {}),
    ],
)  # fmt: skip
def test_sections_of_several_kinds(report, expected):
    assert found(report) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x0b"])
@pytest.mark.parametrize("heading", ["COMPARISON", "TECHNIQUE", "INDICATION", "REASON FOR EXAMINATION", "HISTORY"])
def test_the_body_never_stands_in_what_a_prompt_quotes(heading, end):
    body = ["Hazy right base, likely atelectasis.", "Pacemaker leads as before."]
    for headline in (f" {heading}:  ___ at bedside.", f"{heading}: ___ at bedside."):
        sections = found(f"{end} {end}".join([headline, *body, "IMPRESSION: Atelectasis."]))
        assert sections["findings"] == " ".join(body)
        assert not any("base" in sections.get(part, "") for part in ("indication", "technique", "comparison"))


@pytest.mark.parametrize("read", [split_sections, split_report, lambda text: list(walk_sections(text))])
@pytest.mark.parametrize(
    "text", [" ", "\n", "\u00a0", "FINDINGS: ", "findings ", "a\n", ". ", "!", "(over) (cont", "\nfindings"]
)
def test_readers_of_sections_take_time_in_proportion_to_the_text(read, text):
    def seconds(size):
        start = time.process_time()  # of this process alone: the machine may be busy
        read(text * (size // len(text)))
        return time.process_time() - start

    gc.disable()  # a full collection looks at all that other tests imported
    try:
        small, large = (min(seconds(size) for _ in range(2)) for size in (8_000, 64_000))
    finally:
        gc.enable()
    assert large < max(24 * small, 1.0), "eight times the text takes some 64 times as long"
