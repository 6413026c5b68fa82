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


BODIES = [
    "Left lower lobe opacity is new.", "Trace apical pneumothorax is again noted.", "Hyperinflated lungs. Old wires.",
    "NG tube in good position. Patchy opacities persist.", "Opacity at the left base, worrisome for aspiration.",
]  # fmt: skip
SHORT = ["Cardiomegaly. Sternal wires.", "Dobbhoff tube ends in the stomach.",
         "1. Nasogastric tube ends below the carina.",
         "Hyperinflation. Kyphosis.", "Normal study.", "No pneumoperitoneum."]  # fmt: skip


@pytest.mark.parametrize("gap", [" ", "\n"])
@pytest.mark.parametrize(
    ("asked", "body"),
    [(f"{heading}: {why}", body) for heading in ("INDICATION", "HISTORY") for why in ("Fever.", "R/o PTX.", "Fever")
     for body in BODIES] + [(f"COMPARISON: {when}", body) for when in ("___.", "None.", "None available.", "CT of ___.")
                            for body in BODIES + SHORT] + [("TECHNIQUE: AP portable.", body) for body in BODIES],
)  # fmt: skip
def test_the_body_is_cut_from_what_a_prompt_quotes(asked, body, gap):
    gap = gap if asked.endswith(".") else "\n"
    heading, _, text = asked.partition(": ")
    name = "indication" if heading == "HISTORY" else heading.lower()
    sections = found(f"{asked}{gap}{body}\nIMPRESSION: As above.")
    assert sections["findings"] == body and sections.get(name, "___.") == text
    if name != "indication":  # put before the findings under their own heading, if it says something
        with_findings = found(f"{asked}{gap}{body}\nFINDINGS: The heart is large.")
        assert with_findings["findings"].endswith("The heart is large.")
        assert (name in sections) <= (with_findings.get(name) == text)
        assert body not in BODIES or with_findings["findings"].startswith(body)


@pytest.mark.parametrize("text", [
    "History of pneumonia, effusion, now with fever.", "Cough. Please evaluate for pneumothorax.",
    "Known right effusion.",
    "Chest pain. History of lung cancer. Chest tube removed today.", "Fever. Possible pneumonia.",
    "Asthma. Decreased pulmonary function.",
    "Dyspnea\nand effusions",
    "___F with\n\ncough and fever.",
])  # fmt: skip
def test_what_is_asked_stays_in_the_indication(text):
    assert found(f"INDICATION: {text}\nIMPRESSION: None.") == {
        "indication": " ".join(text.split()), "impression": "None."}  # fmt: skip


@pytest.mark.parametrize("text", [
    "Chest 2 views. XXXX.", "CT chest, ___. Portable chest on ___.", "No comparison films.", "None. March 3, 2001.",
    "Radiographs of the knee. PA and lateral views of the chest from ___.", "12/3/2001 at 5:10. 1/2/2000.",
])  # fmt: skip
def test_a_list_of_studies_stays_in_the_comparison(text):
    assert found(f"COMPARISON: {text}\nIMPRESSION: None.") == {"comparison": text, "impression": "None."}


@pytest.mark.parametrize("frame", [
    "DICTATED AND SIGNED BY: A Doe", "DOE,ANN\nATTENDING RADIOLOGIST", "Sincerely,\nAnn Doe", "Kind regards,\nAnn Doe",
    "This study was reviewed by Ann Doe, MD", "I, Ann Doe MD, have reviewed the films.", "cc: Dr. Ann Doe",
    "DD: 2/3/2001 DT: 2/3/2001 / ad", "Discussed with Dr. Doe at 5:10 pm by phone.",
    "2. Results were telephoned to Dr. A. Doe by Dr. Ann Roe at 5pm.", "Dr. Doe was notified at 5.",
])  # fmt: skip
def test_names_and_messages_are_no_part_of_a_report(frame):
    assert found(f"FINDINGS: Clear.\nIMPRESSION: Normal.\n{frame}") == {"findings": "Clear.", "impression": "Normal."}


def test_what_follows_a_message_stays():
    report = "IMPRESSION: Clear.\nFindings were phoned to Dr. Doe at 5. Heart is large."
    assert found(report) == {"impression": "Clear. Heart is large."}


@pytest.mark.parametrize("report", [
    "FINDINGS; Clear.\nIMPRESSION; Normal.", "FINDINGS:Clear.IMPRESSION:Normal.",
    "\uff26\uff29\uff2e\uff24\uff29\uff2e\uff27\uff33\uff1a Clear.\nIMPRESSIO\uff2e\uff1a Normal.",
])  # fmt: skip
def test_headings_with_other_signs(report):
    assert found(report) == {"findings": "Clear.", "impression": "Normal."}


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


@pytest.mark.parametrize(
    ("report", "sections"),
    [
        ("HISTORY: Sepsis. Right PICC with its tip in the SVC.\nIMPRESSION: None.",
         {"indication": "Sepsis.", "findings": "Right PICC with its tip in the SVC."}),
        ("HISTORY: Empyema. Pigtail catheter removed; no pneumothorax.\nIMPRESSION: None.",
         {"indication": "Empyema.", "findings": "Pigtail catheter removed; no pneumothorax."}),
        ("REASON: Fever. As compared with the film of ___, the heart has grown.\nIMPRESSION: None.",
         {"indication": "Fever.", "findings": "As compared with the film of ___, the heart has grown."}),
        ("FINDINGS: Indication: dyspnea. The lungs are clear.\nIMPRESSION: None.",
         {"indication": "dyspnea.", "findings": "The lungs are clear."}),
        ("PORTABLE CHEST RADIOGRAPH\nThe lungs are clear.\nIMPRESSION: None.", {"findings": "The lungs are clear."}),
        ("PORTABLE CHEST RADIOGRAPH\nWard 5, bed 2\nIMPRESSION: None.", {}),
        ("HISTORY: Cough\nXR chest\nThe lungs are clear.\nIMPRESSION: None.",
         {"indication": "Cough", "findings": "The lungs are clear."}),
        ("<FINDINGS> The lungs are clear.\n[Impression]\nNone.", {"findings": "The lungs are clear."}),
        ("1. Findings: The lungs are clear.\n2. Impression: None.", {"findings": "The lungs are clear."}),
        ("FINDINGS. The lungs are clear.\nIMPRESSION. None.", {"findings": "The lungs are clear."}),
        ("IMPRESSION: None.\nTechnologist: Ada Moss", {}),
        ("IMPRESSION: None. I spoke with Dr. Moss at 4 pm.", {}),
        ("IMPRESSION: None.\nRequested by Dr Moss", {}),
        ("IMPRESSION: None. Nurse Moss was informed.", {}),
    ],
)  # fmt: skip
def test_the_body_of_a_report_and_the_people_around_it(report, sections):
    assert found(report) == {**sections, "impression": "None."}
