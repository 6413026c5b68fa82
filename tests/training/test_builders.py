"""Data builders: fabricated trees of the real shape in, the one study record out; kills, missing files, bad images."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from processing_trrg import TRRGImageProcessor, read_radiograph
from tests.helpers.fake_trees import (
    FINDINGS,
    IMPRESSION,
    chexpert_plus_tree,
    clinic_tree,
    iu_tree,
    iu_xml,
    mimic_tree,
    nih_tree,
    picture,
    r2gen_annotation,
)
from tests.helpers.paths import ROOT
from tests.helpers.training_helpers import environment, records
from training.builders import builder, chexpert_plus, clinic, iu, mimic, nih, shards
from training.data.images import ImageBank
from training.data.study import Studies


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_mimic_becomes_study_records_with_priors_by_date(tmp_path, command):
    jpg, reports = mimic_tree(tmp_path)
    manifest = command(mimic, "--jpg", jpg, "--reports", reports, "--out", tmp_path / "out")

    train = records(tmp_path / "out", "train")
    first, second, third = (train[f"s5000000{i}"] for i in (1, 2, 3))
    folder = "files/p10/p10000001"
    assert first["images"] == [
        {"path": f"{folder}/s50000001/aa-1.jpg", "view": "frontal"},
        {"path": f"{folder}/s50000001/aa-2.jpg", "view": "lateral"},
    ]
    assert (first["findings"], first["impression"]) == (FINDINGS, IMPRESSION)
    assert (first["indication"], first["comparison"]) == ("___F with cough // pneumonia?", "None.")
    assert first["technique"] == "Chest PA and lateral"
    assert first["patient_id"] == "p10000001"
    assert (first["prior_report"], first["prior_images"]) == (None, [])
    for study in (second, third):  # of the same minute: neither is the other's prior
        assert study["prior_report"] == f"Findings: {FINDINGS} Impression: {IMPRESSION}"
        assert study["prior_images"] == first["images"]
    assert second["findings"] is None
    assert third["images"][0]["view"] is None
    labels = {name: value for name, value in first["labels"].items() if value is not None}
    assert labels == {"Cardiomegaly": 1, "Pleural Effusion": 0, "Pneumothorax": 0, "Edema": -1}

    assert set(records(tmp_path / "out", "validate")) == {"s50000004"}
    assert set(records(tmp_path / "out", "test")) == {"s50000006"}  # whose table has no labels
    assert manifest["splits"]["test"] | {"labelled": 0, "prior_report": 0} == manifest["splits"]["test"]
    assert manifest["splits"]["train"] | {"studies": 3, "patients": 1, "images": 4} == manifest["splits"]["train"]
    assert manifest["dropped"] == {"neither findings nor impression in its report": 1}
    assert (tmp_path / "out" / "dropped.csv").read_text().splitlines()[1].startswith("s50000005,neither")


def test_findings_only_and_frontal_only(tmp_path, command):
    jpg, reports = mimic_tree(tmp_path)
    options = ("--findings-only", "--frontal-only")
    manifest = command(mimic, "--jpg", jpg, "--reports", reports, "--out", tmp_path / "out", *options)

    first = records(tmp_path / "out", "train")["s50000001"]
    assert (first["findings"], first["impression"], len(first["images"])) == (FINDINGS, None, 1)
    assert manifest["dropped"] == {"no findings in its report": 2, "no image of the wanted views": 2}
    assert "validate" not in manifest["splits"]


def test_chexpert_plus_groups_views_and_takes_published_or_own_labels(tmp_path, command):
    table, images, labels = chexpert_plus_tree(tmp_path)
    arguments = ("--table", table, "--images", images)
    manifest = command(chexpert_plus, *arguments, "--labels", labels, "--out", tmp_path / "out")
    command(chexpert_plus, *arguments, "--out", tmp_path / "own")

    (study,) = records(tmp_path / "out", "train").values()
    assert [image["view"] for image in study["images"]] == ["frontal", "lateral"]
    assert study["images"][0]["path"] == "train/patient1/study1/view1_frontal.png"
    assert (study["study_id"], study["patient_id"]) == ("patient1_study1", "patient1")
    assert (study["indication"], study["impression"]) == ("Fever.", "1. CARDIOMEGALY. 2. NO EFFUSION.")
    assert (study["labels"]["Cardiomegaly"], study["labels"]["Edema"]) == (1, -1)
    (own,) = records(tmp_path / "own", "train").values()
    assert (own["labels"]["Cardiomegaly"], own["labels"]["Pleural Effusion"], own["labels"]["Edema"]) == (1, 0, None)
    assert manifest["dropped"] == {"neither findings nor impression in its report": 1}
    assert list(records(tmp_path / "out", "valid")) == ["patient3_study1"]


def test_nih_takes_the_official_test_list_and_scales_boxes(tmp_path, command):
    root = nih_tree(tmp_path / "nih")
    manifest = command(nih, "--root", root, "--out", tmp_path / "out", "--size", 48)

    (test,) = records(tmp_path / "out", "test").values()
    assert test["study_id"] == "00000006_000"
    assert test["boxes"] == [
        {"label": "Lung Opacity", "source": "NIH", "x": 12.0, "y": 6.25, "w": 24.0, "h": 15.0}
    ]  # half the size
    assert read_radiograph(Studies(tmp_path / "out", "test").open_image(0, 0)).values.shape == (48, 48)
    rest = {**records(tmp_path / "out", "train"), **records(tmp_path / "out", "validation")}
    assert sum(split["studies"] for split in manifest["splits"].values()) == 7 == len(rest) + 1
    assert {record["split"] for record in rest.values() if record["patient_id"] == "nih-1"} in (
        {"train"},
        {"validation"},
    )
    labels = rest["00000001_001"]["labels"]
    assert (labels["Cardiomegaly"], labels["Edema"], labels["Fracture"], rest["00000001_001"]["findings"]) == (
        1,
        0,
        None,
        None,
    )


def test_iu_from_the_official_reports(tmp_path, command):
    xml, images = iu_tree(tmp_path)
    projections = tmp_path / "indiana_projections.csv"
    projections.write_text(
        "uid,filename,projection\n1,1_1_IM-0001-3001.dcm.png,Lateral\n1,1_1_IM-0001-4001.dcm.png,Frontal\n"
    )
    arguments = ("--xml", xml, "--images", images, "--projections", projections)
    manifest = command(iu, *arguments, "--out", tmp_path / "hashed")
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "hashed", split).items()}
    assert set(built) == {"CXR1", "CXR2"}
    assert [image["view"] for image in built["CXR1"]["images"]] == ["frontal", "lateral"]
    assert built["CXR2"]["images"] == [{"path": "CXR2_IM-0652-1001.png", "view": None}]
    assert (built["CXR1"]["indication"], built["CXR1"]["comparison"]) == ("Cough & XXXX", "None.")
    assert (built["CXR1"]["labels"]["Cardiomegaly"], built["CXR1"]["labels"]["Pneumothorax"]) == (1, 0)
    assert sum(manifest["dropped"].values()) == 2

    annotation = r2gen_annotation(tmp_path / "annotation.json", [("CXR1_1_IM-0001", "val"), ("CXR9_IM-1", "train")])
    manifest = command(iu, *arguments, "--annotation", annotation, "--out", tmp_path / "r2gen")
    assert list(records(tmp_path / "r2gen", "validation")) == ["CXR1"]
    assert manifest["dropped"] == {"not in R2Gen's annotation": 3}


def test_targets_hold_no_blanks_names_or_comparisons_unless_wanted_as_written(tmp_path, command):
    xml, images = iu_tree(tmp_path)
    findings = "Stable cardiomegaly. Clear XXXX. Discussed with Dr. Roe at 5 pm. No effusion."
    for number, text in ((1, findings), (2, "XXXX XXXX. Unchanged.")):
        name = "CXR1_1_IM-0001-4001" if number == 1 else "CXR2_IM-0652-1001"
        (xml / f"{number}.xml").write_text(iu_xml(f"CXR{number}", [name], findings=text), encoding="utf-8")
    annotation = r2gen_annotation(tmp_path / "a.json", [("CXR1_1_IM-0001", "train"), ("CXR2_IM-0652", "train")])
    arguments = ("--xml", xml, "--images", images, "--annotation", annotation)
    manifest = command(iu, *arguments, "--out", tmp_path / "clean")
    (study,) = (study for split in manifest["splits"] for study in records(tmp_path / "clean", split).values())
    assert study["findings"] == "Cardiomegaly. No effusion."
    assert manifest["targets"] == {
        "blank of de-identification": 2, "message": 1, "reports rewritten without comparisons": 2,
        "reports that still compare": 0,
    }  # fmt: skip
    assert manifest["dropped"][builder.NOTHING_LEFT] == 1
    assert builder.NOTHING_LEFT in (tmp_path / "clean" / "dropped.csv").read_text()

    manifest = command(iu, "--xml", xml, "--images", images, "--as-written", "--out", tmp_path / "written")
    written = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "written", split).items()}
    assert (written["CXR1"]["findings"], manifest["targets"]) == (findings, {})


def test_only_studies_without_a_prior_are_rewritten(tmp_path, command):
    jpg, reports = mimic_tree(tmp_path)
    for file in reports.glob("files/*/*/*.txt"):
        file.write_text("FINDINGS: Stable cardiomegaly. Effusion seen by Dr. Roe.\n", encoding="utf-8")
    arguments = ("--jpg", jpg, "--reports", reports)
    command(mimic, *arguments, "--no-comparisons", "--out", tmp_path / "out")
    found = {name: study["findings"] for name, study in records(tmp_path / "out", "train").items()}
    stable = "Stable cardiomegaly."
    assert found == {"s50000001": "Cardiomegaly.", "s50000002": stable, "s50000003": stable}
    command(mimic, *arguments, "--out", tmp_path / "kept")
    assert records(tmp_path / "kept", "train")["s50000001"]["findings"] == stable


def test_iu_from_r2gens_own_folder(tmp_path, command):
    annotation = r2gen_annotation(tmp_path / "annotation.json", [("CXR5_IM-1", "train"), ("CXR6_IM-2", "test")])
    for name in ("CXR5_IM-1", "CXR6_IM-2"):
        for view in (0, 1):
            picture(tmp_path / "images" / name / f"{view}.png", view)
    command(iu, "--annotation", annotation, "--images", tmp_path / "images", "--out", tmp_path / "out")
    study = records(tmp_path / "out", "train")["CXR5_IM-1"]
    assert (study["findings"], study["impression"], study["patient_id"]) == (FINDINGS, None, "iu-CXR5")
    assert [image["path"] for image in study["images"]] == ["CXR5_IM-1/0.png", "CXR5_IM-1/1.png"]


def test_a_clinics_folder_and_no_word_of_its_headers(tmp_path, command):
    manifest = command(clinic, "--root", clinic_tree(tmp_path / "clinic"), "--out", tmp_path / "out")
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    assert set(built) == {"patient-0/2024-01-01", "patient-1/2024-01-01"}
    assert [study["images"][0]["view"] for study in built.values()] == ["frontal", "lateral"]
    assert built["patient-0/2024-01-01"]["impression"] == IMPRESSION
    assert built["patient-0/2024-01-01"]["indication"] == "cough"
    assert manifest["dropped"] == {"its report has no heading (--whole-text: all of it is the findings)": 1}
    assert not any(b"SECRET" in data for data in contents(tmp_path / "out").values())


def test_shards_hold_what_training_would_have_read_from_the_files(tmp_path, command):
    """Decoded to the model's own size or larger, images differ from the files' by a rounding or a second resizing."""
    root = nih_tree(tmp_path / "nih")
    command(nih, "--root", root, "--out", tmp_path / "out")
    studies = Studies(tmp_path / "out", "train")
    processor = TRRGImageProcessor(size=64)
    bank = ImageBank(studies, processor, views=1, cache=str(tmp_path / "cache"))
    bank.prepare()
    for index, record in enumerate(studies.records):
        direct = ImageBank._decode(_FromFiles(studies, root, processor), index, 0)
        assert np.abs(bank.get(index)[0].astype(int) - direct.astype(int)).max() <= 1, record["study_id"]


class _FromFiles:
    """What `ImageBank._decode` needs, reading the tree instead of the shards."""

    def __init__(self, studies: Studies, root: Path, image_processor: TRRGImageProcessor):
        self.studies, self.root, self.image_processor = self, root, image_processor
        self.records, self.path = studies.records, root

    def open_image(self, index: int, view: int) -> Path:
        return self.root / self.records[index]["images"][view]["path"]


KILLED = """
import os, signal, sys
from training.builders import nih, shards
shards.STUDIES_A_SHARD, shards.STUDIES_A_BATCH = 2, 1
encode, calls = shards.encode_view, []
def count(*arguments):
    calls.append(1)
    if len(calls) == 4:  # begins the third shard, after the test image and two training images
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*arguments)
shards.encode_view = count
nih.main()
"""


def test_a_killed_build_goes_on_and_ends_the_same(tmp_path, command, monkeypatch):
    root, straight, cut = nih_tree(tmp_path / "nih", patients=9), tmp_path / "straight", tmp_path / "cut"
    monkeypatch.setattr(shards, "STUDIES_A_SHARD", 2)
    monkeypatch.setattr(shards, "STUDIES_A_BATCH", 1)
    manifest = command(nih, "--root", root, "--out", straight)

    arguments = [sys.executable, "-c", KILLED, "--root", str(root), "--out", str(cut)]
    killed = subprocess.run(arguments, env=environment(), cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = {path: path.stat().st_mtime_ns for path in cut.glob("*/*.arrow")}
    assert len(whole) == 2
    assert not (cut / "dataset_dict.json").exists()
    with pytest.raises(FileNotFoundError, match="nor datasets shards"):
        Studies(cut, "train")

    assert command(nih, "--root", root, "--out", cut) == manifest
    assert contents(cut) == contents(straight)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole  # not decoded again


def test_an_unreadable_image_stops_with_its_path_and_a_skip_file_goes_on(tmp_path, command, refused, monkeypatch):
    monkeypatch.setattr(shards, "STUDIES_A_SHARD", 2)
    jpg, reports = mimic_tree(tmp_path)
    bad = jpg / "files/p10/p10000001/s50000001/aa-2.jpg"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    arguments = ("--jpg", jpg, "--reports", reports, "--out", tmp_path / "out")
    assert str(bad) in refused(mimic, *arguments)

    skips = tmp_path / "skip.txt"
    skips.write_text(f"{bad}\nfiles/p11/p11000001/s50000004/ba-1.jpg\n")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*.arrow")}
    manifest = command(mimic, *arguments, "--skip-file", skips)
    assert len(manifest["skipped_images"]) == 2
    assert manifest["dropped"]["every image is in the skip file"] == 1
    first = records(tmp_path / "out", "train")["s50000001"]
    assert [image["view"] for image in first["images"]] == ["frontal"]
    assert records(tmp_path / "out", "train")["s50000003"]["prior_images"] == first["images"]
    for path in (tmp_path / "out").glob("test/*.arrow"):
        assert before.get(path.name) == path.stat().st_mtime_ns

    skips.write_text("files/nothing.jpg\n")
    assert "files/nothing.jpg is no image of this set" in refused(mimic, *arguments, "--skip-file", skips)


def test_processes_write_the_same_shards(tmp_path, command, monkeypatch):
    root = nih_tree(tmp_path / "nih")
    command(nih, "--root", root, "--out", tmp_path / "one")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command(nih, "--root", root, "--out", tmp_path / "two", "--workers", 2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    "missing",
    [
        "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz",
        "mimic-cxr-jpg/files/p11/p11000001/s50000004/ba-1.jpg",
        "mimic-cxr-reports/files/p12/p12000001/s50000006.txt",
    ],
)
def test_a_half_downloaded_tree_is_refused_with_the_missing_path(tmp_path, refused, missing):
    jpg, reports = mimic_tree(tmp_path)
    (tmp_path / missing).unlink()
    message = refused(mimic, "--jpg", jpg, "--reports", reports, "--out", tmp_path / "out")
    assert message.startswith(f"error: {tmp_path / missing}: not there")
    assert not (tmp_path / "out").exists()


def test_wrong_trees_are_refused_by_name(tmp_path, refused, command):
    jpg, reports = mimic_tree(tmp_path)
    wrong = ("--jpg", jpg, "--reports", reports, "--out")
    damaged = jpg / "mimic-cxr-2.0.0-metadata.csv.gz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-20])
    assert "damaged or cut short" in refused(mimic, *wrong, tmp_path / "out")
    damaged.write_bytes(whole)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "not empty" in refused(mimic, *wrong, tmp_path / "full")
    command(mimic, *wrong, tmp_path / "out")
    root = nih_tree(tmp_path / "nih")
    assert "holds a build of 'mimic-cxr'" in refused(nih, "--root", root, "--out", tmp_path / "out")
    (root / "images_002" / "images" / "00000001_000.png").unlink()
    assert "images/00000001_000.png: not there" in refused(nih, "--root", root, "--out", tmp_path / "new")
    xml, images = iu_tree(tmp_path / "iu")
    (xml / "4.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><eCitation/>')
    assert "4.xml: no report of this set" in refused(iu, "--xml", xml, "--images", images, "--out", tmp_path / "x")
    escape = r2gen_annotation(tmp_path / "annotation.json", [("../../secret", "train")])
    assert "leads out of the set" in refused(iu, "--annotation", escape, "--images", images, "--out", tmp_path / "x")
    labels = jpg / "mimic-cxr-2.0.0-chexpert.csv.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()).replace(b"-1.0", b"2.0")))
    assert "study 50000001, Edema: expected 1, 0, -1 or blank, got '2.0'" in refused(mimic, *wrong, tmp_path / "x")
    tree = clinic_tree(tmp_path / "clinic")
    (tree / "notes.txt").touch()
    assert "notes.txt: a file where a folder is expected" in refused(clinic, "--root", tree, "--out", tmp_path / "x")


def test_the_real_nih_sample(data_dir, tmp_path, command):
    """20 real X-rays under the official names and tables, their boxes as the official list writes them."""
    rows = [json.loads(line) for line in (data_dir / "nih" / "studies.jsonl").read_text().splitlines()]
    rows = [row for row in rows if not any(box["source"] == "RSNA" for box in row["boxes"])]
    rows = rows[:16] + [row for row in rows if row["boxes"]][:4]
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    entries = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"]
    boxes = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    for row in rows:
        (root / "images" / row["nih_image"]).symlink_to(data_dir / "nih" / row["image"])
        entries.append(f"{row['nih_image']},{'|'.join(row['nih_labels'])},0,{row['patient_id']},60,M,PA,")
        boxes += [f"{row['nih_image']},{b['label']},{b['x']},{b['y']},{b['w']},{b['h']},,," for b in row["boxes"]]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(entries))
    (root / "BBox_List_2017.csv").write_text("\n".join(boxes))
    (root / "train_val_list.txt").write_text("\n".join(row["nih_image"] for row in rows))
    (root / "test_list.txt").write_text("")
    manifest = command(nih, "--root", root, "--out", tmp_path / "out", "--size", 256)
    assert sum(split["studies"] for split in manifest["splits"].values()) == 20
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    for row in rows:
        halved = [(box["x"] / 2, box["w"] / 2) for box in row["boxes"]]
        assert [(b["x"], b["w"]) for b in built[Path(row["nih_image"]).stem]["boxes"]] == [
            pytest.approx(side, abs=0.01) for side in halved
        ]


def test_the_real_iu_sample(data_dir, tmp_path, command):
    """The real reports whose images are there, written as the official XML."""
    images = json.loads((data_dir / "iu_xray" / "images.json").read_text())
    reports = {}
    for line in (data_dir / "iu_xray" / "reports.jsonl").read_text().splitlines():
        row = json.loads(line)
        reports[row["uid"]] = row
    xml = tmp_path / "ecgen-radiology"
    xml.mkdir()
    views = ["uid,filename,projection"]
    for uid in sorted({image["uid"] for image in images}):
        names = [Path(image["image"]).stem for image in images if image["uid"] == uid]
        sections = {part: reports[uid][part] for part in ("comparison", "indication", "findings", "impression")}
        escaped = {part: (text or "").replace("&", "&amp;").replace("<", "&lt;") for part, text in sections.items()}
        (xml / f"{uid.removeprefix('CXR')}.xml").write_text(iu_xml(uid, names, **escaped), encoding="utf-8")
        views += [f"1,{Path(i['image']).stem[3:]}.dcm.png,{i['projection']}" for i in images if i["uid"] == uid]
    (tmp_path / "views.csv").write_text("\n".join(views))
    arguments = ("--xml", xml, "--images", data_dir / "iu_xray" / "images", "--projections", tmp_path / "views.csv")
    manifest = command(iu, *arguments, "--as-written", "--out", tmp_path / "out", "--size", 224)
    built = {k: v for split in manifest["splits"] for k, v in records(tmp_path / "out", split).items()}
    assert len(built) + sum(manifest["dropped"].values()) == len({image["uid"] for image in images})
    assert all(study["images"][0]["view"] == "frontal" for study in built.values())
    for uid, study in built.items():
        assert study["findings"] == (" ".join((reports[uid]["findings"] or "").split()) or None)
