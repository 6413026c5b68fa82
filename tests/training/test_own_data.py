"""A user's own studies: a table of reports beside a folder of images, what is refused, and what is dropped and why."""

import csv
import json
from pathlib import Path

import pytest

from tests.helpers.fake_trees import (
    FINDINGS,
    IMPRESSION,
    clinic_tree,
    iu_tree,
    mimic_tree,
    nih_tree,
    picture,
    r2gen_annotation,
)
from tests.helpers.fake_trees import table as write_table
from tests.helpers.training_helpers import records
from training.builders import clinic, iu, mimic, nih

ROWS = [
    {"patient": "a", "study": "1", "file": "a1.png", "view": "PA", "date": "2026-01-05", "split": "train",
     "report": f"INDICATION: cough\n\nFINDINGS: {FINDINGS}\n\nIMPRESSION: {IMPRESSION}\nSigned by: J. Roe, MD"},
    {"patient": "a", "study": "1", "file": "a2.png", "view": "lateral", "date": "2026-01-05", "split": "train",
     "report": ""},
    {"patient": "a", "study": "2", "file": "more", "view": "", "date": "2026-02-01 10:30", "split": "train",
     "report": "COMPARISON: ___\n\nLungs clear.\n\nIMPRESSION: Normal."},
    {"patient": "b", "study": "1", "file": "b1.png", "view": "oblique", "date": "2026-01-05", "split": "val",
     "report": "Findings: Clear."},
]  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a1.png", "a2.png", "more/0.png", "more/1.png", "b1.png")):
        picture(tmp_path / "images" / name, seed)
    return tmp_path / "images"


def build_table(run, tmp_path: Path, images: Path, rows, *more):
    write_table(tmp_path / "reports.csv", rows)
    return run(clinic, "--table", tmp_path / "reports.csv", "--images", images, "--out", tmp_path / "out", *more)


def test_a_table_of_reports_and_a_folder_of_images(tmp_path, images, command):
    build_table(command, tmp_path, images, ROWS)
    first, second = records(tmp_path / "out", "train").values()
    assert (first["study_id"], first["patient_id"], first["indication"]) == ("a/1", "a", "cough")
    assert (first["findings"], first["impression"]) == (FINDINGS, IMPRESSION)
    assert first["images"] == [{"path": "a1.png", "view": "frontal"}, {"path": "a2.png", "view": "lateral"}]
    assert [image["path"] for image in second["images"]] == ["more/0.png", "more/1.png"]
    assert (second["comparison"], second["findings"]) == (None, "Lungs clear.")
    assert second["prior_report"] == f"Findings: {FINDINGS} Impression: {IMPRESSION}"
    (other,) = records(tmp_path / "out", "validation").values()
    assert (other["images"][0]["view"], other["labels"]["Cardiomegaly"]) == (None, None)


def test_the_columns_may_have_other_names_and_a_file_may_be_a_study(tmp_path, images, command):
    rows = [
        {"Subject": row["patient"], "DICOM": row["file"], "Text": FINDINGS, "Conclusion": IMPRESSION} for row in ROWS
    ]
    with (tmp_path / "reports.csv").open("w", encoding="utf-8-sig", newline="") as text:  # as a spreadsheet saves it
        writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    manifest = command(
        clinic, "--table", tmp_path / "reports.csv", "--images", images, "--out", tmp_path / "out",
        "--columns", "patient=Subject", "file=DICOM", "findings=Text", "impression=Conclusion",
    )  # fmt: skip
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    assert set(built) == {"a/a1", "a/a2", "a/more", "b/b1"}
    assert {(study["findings"], study["impression"]) for study in built.values()} == {(FINDINGS, IMPRESSION)}


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"patient": ""}, (), "a row has patient '' and file 'b1.png'"),
        ({"report": "Impression: Clear.", "patient": "a"}, (), "'a/1': its 3 rows have 2 different values of 'report'"),
        ({"split": "holdout"}, (), "split is 'holdout', expected train, validation or test"),
        ({"split": ""}, (), "study 'b/1' has no split, others have"),
        ({"date": "5.1.26"}, (), "date is '5.1.26', expected one like 2026-11-05"),
        ({"date": ""}, (), "study 'b/1' has no date, others have"),
        ({"file": "gone.png"}, (), "gone.png: not there or empty; 1 of 5 images are missing"),
        ({"file": "../b1.png"}, (), "'../b1.png' leads out of the set"),
        ({"file": "a1.png"}, (), "'a1.png' stands there twice, as an image of 'a/1' and of 'b/1'"),
        ({"patient": "a", "study": "9"}, (), "patient 'a' lies in the splits train and validation"),
        ({}, ("--columns", "patient=Subject"), "no column 'Subject'"),
        ({}, ("--columns", "person=Subject"), "--columns person=Subject: expected NAME=COLUMN"),
        ({}, ("--columns", "report=text"), "no column 'text'"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_in_one_line(tmp_path, images, refused, changes, more, message):
    assert message in build_table(refused, tmp_path, images, [*ROWS[:3], ROWS[3] | changes], *more)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,file,report\na,b1.png,caf\u00e9\n".encode("cp1252"), "reports.csv: not UTF-8; save it as CSV UTF-8"),
        ("patient,file,report\na,b1.png,Clear\n".encode("utf-16"), "reports.csv: not UTF-8; save it as CSV UTF-8"),
        ("patient,file,report\na,b1.png,Clear\n".encode("utf-16-le"), "reports.csv: not UTF-8; save it as CSV UTF-8"),
        (b"patient,file,report,report\na,b1.png,Clear,Normal\n", "column 'report' stands there twice"),
        (b"patient,file,report\na,b1.png,Clear\na,a1.png,Large, calm\n", "reports.csv:3: the row has more cells"),
        (b"", "reports.csv: the table is empty"),
        (b"\n", "reports.csv: the table is empty"),
        (b"patient,file,report\n", "reports.csv: the table is empty, it has a header and no row"),
        (b"patient,file,report\na,b1.png," + b"x" * 1_000_001, "field larger than field limit"),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path, images, refused, content, message):
    (tmp_path / "reports.csv").write_bytes(content)
    assert message in refused(
        clinic, "--table", tmp_path / "reports.csv", "--images", images, "--out", tmp_path / "out"
    )


def test_a_cell_may_be_longer_than_csv_takes_by_itself(tmp_path, images, command):
    rows = [{"patient": "b", "file": "b1.png", "report": "Findings: Clear.", "notes": "x" * 140_000}]
    build_table(command, tmp_path, images, rows)


def test_reports_without_headings_are_dropped_with_the_reason_or_taken_as_findings(tmp_path, images, command, refused):
    rows = [
        {"patient": row["patient"], "file": row["file"], "report": "Small left effusion.\nSigned by J. Roe"}
        for row in ROWS
    ]
    rows[0]["report"], rows[1]["report"] = " ", "Indication: cough"
    message = build_table(refused, tmp_path, images, rows)
    for reason in ("1: no report", "1: neither findings nor impression", "2: its report has no heading (--whole-text"):
        assert reason in message
    dropped = (tmp_path / "out" / "dropped.csv").read_text().splitlines()
    assert "a/a1,no report" in dropped and len(dropped) == 5
    manifest = build_table(command, tmp_path, images, rows, "--whole-text")
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    assert {study["findings"] for study in built.values()} == {"Small left effusion."}
    assert sum(manifest["dropped"].values()) == 2


def test_a_report_may_start_with_a_byte_order_mark(tmp_path, command):
    tree = clinic_tree(tmp_path / "clinic")
    for report in tree.rglob("report.txt"):
        report.write_bytes(b"\xef\xbb\xbf" + f"FINDINGS: {FINDINGS}\r\nIMPRESSION: {IMPRESSION}\r\n".encode())
    manifest = command(clinic, "--root", tree, "--out", tmp_path / "out")
    for split in manifest["splits"]:
        assert {study["findings"] for study in records(tmp_path / "out", split).values()} == {FINDINGS}


@pytest.mark.parametrize(
    "ids", [("CXR1_IM-1", "CXR1_IM-1"), (17, "CXR2_IM-1"), (None, "CXR2_IM-1"), ("CXR3_IM-1", "CXR3_IM-2")]
)
def test_an_annotation_with_one_study_in_two_splits_or_numbers_for_ids_is_refused(tmp_path, refused, ids):
    annotation = r2gen_annotation(tmp_path / "annotation.json", list(zip(ids, ("train", "test"), strict=True)))
    xml, images = iu_tree(tmp_path)
    for more in ((), ("--xml", xml)):
        if more and ids[0] == "CXR3_IM-1":
            continue  # two patients there, by the reports' own ids
        message = refused(iu, "--annotation", annotation, "--images", images, "--out", tmp_path / "out", *more)
        assert ("train" in message and "test" in message) or "expected id and report as texts" in message


def test_a_skip_file_may_name_what_was_never_downloaded(tmp_path, command):
    jpg, reports = mimic_tree(tmp_path)
    gone = "files/p11/p11000001/s50000004/ba-1.jpg"
    (jpg / gone).unlink()
    (tmp_path / "skip.txt").write_text(f"\ufeff{gone}\n", encoding="utf-8")
    arguments = ("--jpg", jpg, "--reports", reports, "--out", tmp_path / "mimic", "--skip-file", tmp_path / "skip.txt")
    manifest = command(mimic, *arguments)
    assert manifest["skipped_images"] == [gone] and "validate" not in manifest["splits"]
    root = nih_tree(tmp_path / "nih")
    (root / "images_002" / "images" / "00000001_000.png").unlink()
    (tmp_path / "skip.txt").write_text("images/00000001_000.png\n")
    manifest = command(nih, "--root", root, "--out", tmp_path / "out", "--skip-file", tmp_path / "skip.txt")
    assert sum(split["studies"] for split in manifest["splits"].values()) == 6


def test_the_real_notes_become_studies_with_one_command(data_dir, tmp_path, command):
    """217 X-rays with the sentences of their notes, written as the table that a user has."""
    rows = [json.loads(line) for line in (data_dir / "covid_notes" / "studies.jsonl").read_text().splitlines()]
    columns = {"patient_id": "patient", "image": "file", "text": "report", "view_position": "view"}
    write_table(tmp_path / "reports.csv", [{new: row[old] for old, new in columns.items()} for row in rows])
    arguments = ("--table", tmp_path / "reports.csv", "--images", data_dir / "covid_notes", "--out", tmp_path / "out")
    manifest = command(clinic, *arguments, "--size", 64, "--whole-text")
    counts = {name: split["studies"] for name, split in manifest["splits"].items()}
    assert sum(counts.values()) == len(rows) and set(counts) == {"train", "validation", "test"}
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    laterals = sum(row["view_position"] == "L" for row in rows)
    assert [study["images"][0]["view"] for study in built.values()].count("lateral") == laterals
    assert all(study["findings"] and study["images"][0]["view"] for study in built.values())
