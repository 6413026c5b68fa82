"""Trees of the shape that owners ship, with invented patients, invented reports and synthetic images."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers.tiny_dicom import dicom_bytes, dicom_dataset
from tests.helpers.tiny_processors import radiograph

FINDINGS = "The heart is enlarged. No pleural effusion or pneumothorax."
IMPRESSION = "Cardiomegaly."
CHEXPERT_TABLE = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip


def picture(path: Path, seed: int, height: int = 48, width: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(radiograph(height, width, seed=seed)).save(path)


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "wt", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def mimic_report(findings: str | None = FINDINGS, impression: str | None = IMPRESSION) -> str:
    parts = {"FINDINGS": findings, "IMPRESSION": impression}
    body = "\n".join(f" {name}: \n \n {text}\n" for name, text in parts.items() if text)
    return (
        " "
        * 33
        + "FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___F with cough  // pneumonia?\n \n"
        f" TECHNIQUE:  Chest PA and lateral\n \n COMPARISON:  None.\n \n{body} \n NOTIFICATION:  By phone to ___.\n"
    )


MIMIC = [
    # dicom, subject, study, view, date, time, split
    ("aa-1", "10000001", "50000001", "PA", "21500101", "101010.5", "train"),
    ("aa-2", "10000001", "50000001", "LATERAL", "21500101", "101010.5", "train"),
    ("ab-1", "10000001", "50000002", "AP", "21500301", "91010.0", "train"),
    ("ac-1", "10000001", "50000003", "", "21500301", "91010.0", "train"),
    ("ba-1", "11000001", "50000004", "LL", "21600101", "0", "validate"),
    ("ca-1", "12000001", "50000005", "AP", "21700101", "1", "test"),
    ("cb-1", "12000001", "50000006", "AP", "21700102", "1", "test"),
]


def mimic_tree(root: Path) -> tuple[Path, Path]:
    """Six studies; study 50000005 has a report without a section, 50000002 an impression only."""
    jpg, reports = root / "mimic-cxr-jpg", root / "mimic-cxr-reports"
    for seed, (dicom, subject, study, *_) in enumerate(MIMIC):
        folder = Path("files") / f"p{subject[:2]}" / f"p{subject}"
        picture(jpg / folder / f"s{study}" / f"{dicom}.jpg", seed)
        text = mimic_report(findings=None if study == "50000002" else FINDINGS)
        file = reports / folder / f"s{study}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("FINAL REPORT\n AP chest, no change.\n" if study == "50000005" else text, encoding="utf-8")
    table(
        jpg / "mimic-cxr-2.0.0-metadata.csv.gz",
        [
            {
                "dicom_id": d, "subject_id": p, "study_id": s, "PerformedProcedureStepDescription": "CHEST",
                "ViewPosition": v, "Rows": 48, "Columns": 40, "StudyDate": date, "StudyTime": time,
            }
            for d, p, s, v, date, time, _ in MIMIC
        ],
    )  # fmt: skip
    table(
        jpg / "mimic-cxr-2.0.0-split.csv.gz",
        [{"dicom_id": d, "study_id": s, "subject_id": p, "split": split} for d, p, s, *_, split in MIMIC],
    )
    labelled = {row[2]: row[1] for row in MIMIC if row[2] != "50000006"}
    labels = {"Cardiomegaly": "1.0", "Pleural Effusion": "0.0", "Pneumothorax": "0.0", "Edema": "-1.0"}
    table(
        jpg / "mimic-cxr-2.0.0-chexpert.csv.gz",
        [
            {"subject_id": p, "study_id": s, **{name: labels.get(name, "") for name in CHEXPERT_TABLE}}
            for s, p in labelled.items()
        ],
    )
    return jpg, reports


def chexpert_plus_tree(root: Path) -> tuple[Path, Path, Path]:
    """(table, images, labels): three studies, one of four images a lateral, one study without a report."""
    rows, labels = [], []
    for seed, (path, view, findings, impression) in enumerate(
        [
            ("train/patient1/study1/view2_lateral", "Lateral", "", "1.  CARDIOMEGALY.\n2.  NO EFFUSION."),
            ("train/patient1/study1/view1_frontal", "Frontal", "", "1.  CARDIOMEGALY.\n2.  NO EFFUSION."),
            ("train/patient2/study4/view1_frontal", "Frontal", "", ""),
            ("valid/patient3/study1/view1_frontal", "Frontal", FINDINGS, IMPRESSION),
        ]
    ):
        picture(root / "PNG" / f"{path}.png", seed)
        rows.append(
            {
                "path_to_image": f"{path}.jpg", "path_to_dcm": f"{path}.dcm", "frontal_lateral": view, "ap_pa": "AP",
                "deid_patient_id": path.split("/")[1], "patient_report_date_order": 1, "report": "whole, many lines",
                "section_narrative": "", "section_clinical_history": "Fever.", "section_history": "",
                "section_comparison": "None", "section_technique": "", "section_findings": findings,
                "section_impression": impression, "split": path.split("/")[0],
            }
        )  # fmt: skip
        values = dict.fromkeys(CHEXPERT_TABLE) | {"Cardiomegaly": 1.0, "Edema": -1.0}
        labels.append({"path_to_image": f"{path}.jpg", **values})
    table(root / "df_chexpert_plus_240401.csv", rows)
    (root / "impression_fixed.json").write_text("\n".join(map(json.dumps, labels)) + "\n", encoding="utf-8")
    return root / "df_chexpert_plus_240401.csv", root / "PNG", root / "impression_fixed.json"


def nih_tree(root: Path, patients: int = 6) -> Path:
    """One image a patient and two of the first; the last patient is the test set and has a box, 96 x 96 pixels."""
    entries = [("00000001_001.png", "1", "Cardiomegaly|Emphysema")]
    entries += [(f"{p:08d}_000.png", str(p), "No Finding" if p % 2 else "Effusion|Infiltration") for p in
                range(1, patients + 1)]  # fmt: skip
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
             "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"]  # fmt: skip
    for seed, (name, patient, labels) in enumerate(entries):
        picture(root / f"images_{1 + seed % 2:03d}" / "images" / name, seed, 96, 96)
        lines.append(f"{name},{labels},0,{patient},58,M,PA,2682,2749,0.143,0.143,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    last = entries[-1][0]
    (root / "BBox_List_2017.csv").write_text(
        f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{last},Infiltrate,24.0,12.5,48.0,30.0,,,\n", encoding="utf-8"
    )
    (root / "train_val_list.txt").write_text("\n".join(name for name, *_ in entries[:-1]), encoding="utf-8")
    (root / "test_list.txt").write_text(f"{last}\n", encoding="utf-8")
    return root


def iu_xml(uid: str, images: list[str], **sections: str | None) -> str:
    texts = "".join(
        f'<AbstractText Label="{name.upper()}">{text or ""}</AbstractText>' for name, text in sections.items()
    )
    parents = "".join(f'<parentImage id="{name}"><caption>x</caption></parentImage>' for name in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="{uid}"/><MedlineCitation><Article><Abstract>'
        f"{texts}</Abstract></Article></MedlineCitation><MeSH><major>normal</major></MeSH>{parents}</eCitation>\n"
    )


def iu_tree(root: Path) -> tuple[Path, Path]:
    """(xml, images): four reports; the third has no image, the fourth no text."""
    xml, images = root / "ecgen-radiology", root / "NLMCXR_png"
    xml.mkdir(parents=True)
    names = {
        1: ["CXR1_1_IM-0001-4001", "CXR1_1_IM-0001-3001"],
        2: ["CXR2_IM-0652-1001"],
        3: [],
        10: ["CXR10_IM-0002-2001"],
    }
    for seed, (number, ids) in enumerate(names.items()):
        text = {} if number == 10 else {"findings": FINDINGS, "impression": IMPRESSION}
        sections = {
            "comparison": "None.",
            "indication": "Cough &amp; XXXX",
            "findings": None,
            "impression": None,
        } | text
        (xml / f"{number}.xml").write_text(iu_xml(f"CXR{number}", ids, **sections), encoding="utf-8")
        for name in ids:
            picture(images / f"{name}.png", seed)
    return xml, images


def r2gen_annotation(path: Path, rows: list[tuple[str, str]]) -> Path:
    """rows: (id, split), two images each."""
    content: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for name, split in rows:
        content[split].append(
            {"id": name, "report": FINDINGS, "image_path": [f"{name}/{i}.png" for i in (0, 1)], "split": split}
        )
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def clinic_tree(root: Path) -> Path:
    """Three patients with a study each: a DICOM of each polarity, and a picture with an empty report."""
    for number, options in enumerate(
        [{"ViewPosition": "PA"}, {"ViewPosition": "LL", "PhotometricInterpretation": "MONOCHROME1"}]
    ):
        folder = root / f"patient-{number}" / "2024-01-01"
        folder.mkdir(parents=True)
        (folder / "view.dcm").write_bytes(dicom_bytes(dicom_dataset(radiograph(48, 40, seed=number), **options)))
        (folder / "report.txt").write_text(f"History: cough\nFindings: {FINDINGS}\nConclusion: {IMPRESSION}\n")
    picture(root / "patient-9" / "a" / "0.png", 9)
    (root / "patient-9" / "a" / "report.txt").write_text("Seen with Dr. ___.\n", encoding="utf-8")
    return root
