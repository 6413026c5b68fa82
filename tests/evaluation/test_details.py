"""Words of change, sides, severities and sizes: read in texts, compared between two reports, summed over a corpus."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.metrics.count_table import CountTable
from evaluation.metrics.details import StudyDetails, detail_rows, detail_scores, study_details
from evaluation.reading.attributes import change_words, finding_attributes


@pytest.mark.parametrize(
    ("text", "finding", "side", "severity", "size"),
    [
        ("Small left and large right pleural effusion.", "Pleural Effusion", "left right", "mild severe", ()),
        ("Mild to moderate cardiomegaly with small left effusion.", "Cardiomegaly", "", "mild moderate", ()),
        ("Mild to moderate cardiomegaly with small left effusion.", "Pleural Effusion", "left", "mild", ()),
        ("Right effusion, which is large, and edema.", "Pleural Effusion", "right", "severe", ()),
        ("Right effusion, which is large, and edema.", "Edema", "right", "", ()),
        ("The heart is markedly enlarged.", "Cardiomegaly", "", "severe", ()),
        ("Large heart.", "Cardiomegaly", "", "", ()),  # its name, not its degree
        ("A big left effusion.", "Pleural Effusion", "left", "severe", ()),
        ("An effusion tracks into the minor fissure.", "Pleural Effusion", "", "", ()),
        ("Small-bore catheter on the left.", "Support Devices", "left", "", ()),
        ("Mildly improved edema.", "Edema", "", "", ()),  # the degree of the change
        ("Minimal edema. No large effusion. Severe edema is seen.", "Edema", "", "mild severe", ()),
        ("1.2 x 0.8 cm nodule.", "Lung Lesion", "", "", (12.0,)),
        ("Nodule of 9 mm x 1.1 cm, compared to 7 mm.", "Lung Lesion", "", "", (11.0,)),
        ("An 8-mm nodule, previously 6 mm, on the right.", "Lung Lesion", "right", "", (8.0,)),
        ("The mass went from 12 to 8 mm.", "Lung Lesion", "", "", (8.0,)),
        ("Masses of 5-6 mm and 2.3 centimeters.", "Lung Lesion", "", "", (6.0, 23.0)),
        ("Mass of 0.5 cm in 2019, 300 cc of fluid, T5.", "Lung Lesion", "", "", (5.0,)),
        ("Tip of the catheter 4 cm above the carina.", "Support Devices", "", "", (40.0,)),
    ],
)
def test_attributes(text: str, finding: str, side: str, severity: str, size: tuple) -> None:
    said = finding_attributes(text)[finding]
    assert said == (frozenset(side.split()), frozenset(severity.split()), frozenset(size))


def test_what_is_denied_or_doubted_has_no_attributes() -> None:
    assert finding_attributes("No small left effusion. Possible mild edema. 4 mm of nothing.") == {}


def test_words_of_change() -> None:
    assert change_words("Stable/unchanged; NEW_ re-expanded, newly worsen.") == {
        "stable", "unchanged", "new", "expanded", "worsen"
    }  # fmt: skip


def measured(*pairs: tuple[str, str]) -> dict[str, dict]:
    rows = detail_rows([study_details(*pair) for pair in pairs])
    return detail_scores(CountTable.from_rows(rows), resamples=20)


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("The heart is large.", "No effusion.", 1),  # nothing to say, nothing said
        ("Stable heart.", "No effusion.", 0),
        ("No effusion.", "Stable heart.", 0),
        ("Stable heart, new edema.", "Stable heart. Stable hila.", 2 / 3),
        ("Worse edema.", "Stable edema.", 0),
        ("New, larger and increasing.", "Increasing larger new.", 1),
    ],
)
def test_temporal_f1(prediction: str, reference: str, f1: float) -> None:
    assert measured((prediction, reference))["details/temporal_f1"]["value"] == pytest.approx(f1, abs=1e-12)


def test_temporal_f1_of_the_published_test(data_dir: Path) -> None:
    """RadEval's own test of "temporal", whose expected value carries its 1e-10."""
    golden = json.loads((data_dir / "metrics_golden" / "radeval_test_basics.json").read_text(encoding="utf-8"))
    scores = measured(*zip(golden["hyps"], golden["refs"], strict=True))
    assert scores["details/temporal_f1"]["value"] == pytest.approx(golden["expected"]["temporal_f1"]["value"], abs=1e-9)


def test_matching_counts() -> None:
    scores = measured(
        ("Small left effusion. 12 mm nodule.", "Moderate left effusion. 1.2 cm nodule."),
        ("Right effusion. Moderate edema.", "Small left effusion. Mild edema."),
        ("Bilateral effusions.", "Effusions."),
        ("No effusion. Left mass.", "Left effusion."),  # not claimed by both
    )
    counts = {name.split("/")[1]: (score.get("count"), score.get("of")) for name, score in scores.items()}
    assert counts["side_agreement"] == (1, 2)
    assert counts["side_precision"] == (1, 3) and counts["side_recall"] == (1, 2)
    assert counts["severity_agreement"] == (0, 2) and counts["severity_recall"] == (0, 3)
    assert counts["size_agreement"] == (1, 1) and scores["details/size_agreement"]["value"] == 1
    assert counts["temporal_precision"] == (0, 0) and scores["details/temporal_precision"]["value"] is None
    assert counts["temporal_f1"] == (None, None)
    assert scores["details/side_agreement"]["signature"].startswith("details/side_agreement|labeler:rules-")
    assert "labeler" not in scores["details/temporal_f1"]["signature"]


def test_order_and_parts_change_no_digit() -> None:
    texts = ["Small left effusion.", "Stable large effusion, new edema.", "No edema.", "Worsening mild edema."]
    studies = [study_details(one, two) for one in texts for two in texts]
    assert studies[1] == StudyDetails(**json.loads(json.dumps(studies[1].to_dict())))
    whole = CountTable.from_rows(detail_rows(studies))
    parts = [CountTable.from_rows(detail_rows(studies[start::5])) for start in range(5)]
    merged = CountTable.merge(reversed(parts))
    assert len(merged) == 16 and np.array_equal(whole.rows, merged.rows)
    assert detail_scores(whole) == detail_scores(merged)


@pytest.mark.parametrize("text", ["1" * 2000, "1.1 x " * 300, "small " * 300 + "effusion", "left, " * 300 + "effusion"])
def test_long_texts_are_read_in_time(text: str) -> None:
    assert len(finding_attributes((text + ". ") * 20)) <= 1
