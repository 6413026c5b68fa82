"""What every data builder shares: tables and files, splits and priors, and the checks that refuse a wrong tree.

A builder (`iu.py`, `mimic.py`, `chexpert_plus.py`, `nih.py`, `clinic.py`) turns a data set as its owner ships it
into a `StudySet`; `shards.py` decodes the images and writes the set. Everything is read and checked before
the first image is decoded, so a wrong tree is refused in seconds. Never for clinical use.
"""

import csv
import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.reading.comparison_rewriting import without_comparisons
from evaluation.reading.observations import Label, check_label
from evaluation.reading.prior_comparisons import comparison_sentences
from evaluation.reading.targets import target_of
from processing_trrg import report_text
from training.data.study import Study, View

MAX_REPORT_BYTES = 100_000
MAX_CELL = 1_000_000
"""Characters of one cell of a table; csv's own limit of 131,072 is less than some reports."""
NOT_UTF8 = "not UTF-8; save it as CSV UTF-8"
NO_SECTION = "neither findings nor impression in its report"
NOTHING_LEFT = "nothing left of its report without blanks, dates, names, messages and comparisons"


class TreeError(ValueError):
    """A data set that is not what its owner ships; the message names the file and what was expected."""


@dataclass
class StudySet:
    """A data set before its images are decoded.

    Attributes:
        root: folder that every image path is relative to.
        studies: in their final order; the first view of a study is its best one.
        dropped: (study id, reason) of every study left out.
        inputs: tables that were read, for the manifest's hashes.
        choices: what the user chose, for the manifest.
        targets: how many sentences were taken out of the reports, by reason, and how many reports were rewritten.
    """

    name: str
    root: Path
    studies: list[Study]
    dropped: list[tuple[str, str]] = field(default_factory=list)
    inputs: list[Path] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)
    targets: Counter[str] = field(default_factory=Counter)


def sorted_views(images: list[View], frontal_only: bool) -> list[View]:
    """Images of a study as runs take them: frontal before lateral before unnamed views, then by path."""
    order = {"frontal": 0, "lateral": 1, None: 2}
    kept = [image for image in images if image["view"] == "frontal" or not frontal_only]
    return sorted(kept, key=lambda image: (order[image["view"]], image["path"]))


def why_dropped(study: Study, findings_only: bool) -> str | None:
    """Why a study cannot be learned from as image and report, or None. With findings_only its impression is removed."""
    if findings_only:
        study.impression = None
    if not study.images:
        return "no image of the wanted views"
    if not study.findings and not study.impression:
        return "no findings in its report" if findings_only else NO_SECTION
    return None


def clean_targets(found: StudySet, compare: bool) -> None:
    """Take out of every training report what is no target (`reading/targets.py`); studies of which nothing is left are
    dropped. Reports of the other splits are references and stay as they were written.

    Args:
        compare: False: reports of studies without a prior are rewritten without comparisons with one. Labels stay those
            of the report as it was written: they are true of the picture.
    """
    kept = []
    for study in found.studies:
        if study.split != "train":
            kept.append(study)
            continue
        had_report = bool(study.findings or study.impression)
        study.findings, study.impression = (
            target_of(text, found.targets) for text in (study.findings, study.impression)
        )
        if not compare and not study.prior_report:  # no model is shown a prior image
            before = (study.findings, study.impression)
            study.findings, study.impression = without_comparisons(*before)
            found.targets["reports rewritten without comparisons"] += before != (study.findings, study.impression)
            still = any(map(comparison_sentences, (study.findings, study.impression)))
            found.targets["reports that still compare"] += still
        if had_report and not (study.findings or study.impression):
            found.dropped.append((study.study_id, NOTHING_LEFT))
        else:
            kept.append(study)
    found.studies = kept


def set_priors(studies: list[Study], times: dict[str, tuple[float, ...]]) -> None:
    """Give each study the images and the report of its patient's latest study before it. Studies of the same time are
    no prior of each other."""
    by_patient: dict[str, list[Study]] = {}
    for study in studies:
        by_patient.setdefault(study.patient_id, []).append(study)
    for visits in by_patient.values():
        visits.sort(key=lambda study: (times[study.study_id], study.study_id))
        for position, study in enumerate(visits):
            before = [visit for visit in visits[:position] if times[visit.study_id] < times[study.study_id]]
            if before:
                study.prior_images = [image.copy() for image in before[-1].images]
                study.prior_report = report_text(before[-1].findings, before[-1].impression)


def share_of(key: str) -> float:
    """A number in [0, 1) that depends on nothing but `key`, for splits that never change."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def is_measured(patient: str | None) -> bool:
    """Whether validation studies of a patient, one half of them, are measured on and no threshold is set by them."""
    return share_of(f"readable/{patient}") < 0.5


def hashed_split(key: str, validation: float, test: float) -> str:
    """ "train", "validation" or "test" by a hash of `key`, a patient."""
    share = share_of(key)
    return "validation" if share < validation else "test" if share < validation + test else "train"


def need(path: Path) -> Path:
    """`path`, which must exist.

    Raises:
        TreeError: it does not.
    """
    if not path.exists():
        raise TreeError(f"{path}: not there")
    return path


def check_set(found: StudySet) -> None:
    """Check that no study stands there twice, no image in two studies, and no patient in two splits.

    Raises:
        TreeError: names the first one, and where it stands.
    """
    splits: dict[str, str] = {}
    studies: dict[str, str] = {}
    images: dict[str, str] = {}
    for study in found.studies:
        split = str(study.split)
        if study.study_id in studies:
            both = dict.fromkeys((studies[study.study_id], split))
            raise TreeError(f"{found.root}: study {study.study_id!r} stands there twice, in {' and '.join(both)}")
        studies[study.study_id] = split
        if (first := splits.setdefault(study.patient_id, split)) != split:
            raise TreeError(f"{found.root}: patient {study.patient_id!r} lies in the splits {first} and {split}")
        for image in study.images:
            if image["path"] in images:
                whose = f"of {images[image['path']]!r} and of {study.study_id!r}"
                raise TreeError(f"{found.root}: {image['path']!r} stands there twice, as an image {whose}")
            images[image["path"]] = study.study_id
            if Path(image["path"]).is_absolute() or ".." in Path(image["path"]).parts:
                raise TreeError(f"{found.root}: {image['path']!r} leads out of the set")


def read_skips(skip_file: Path | None, found: StudySet) -> set[str]:
    """Images to leave out, as the records name them: a line a path, from the set's root or whole.

    Raises:
        TreeError: the file is not there, or a line is no image of the set.
    """
    if skip_file is None:
        return set()
    known = {image["path"] for study in found.studies for image in study.images}
    skipped = set()
    for line in filter(None, map(str.strip, need(skip_file).read_text(encoding="utf-8-sig").splitlines())):
        path = Path(line)
        name = path.relative_to(found.root).as_posix() if path.is_relative_to(found.root) else path.as_posix()
        if name not in known:
            raise TreeError(f"{skip_file}: {line} is no image of this set")
        skipped.add(name)
    return skipped


def need_images(found: StudySet, skipped: Set[str]) -> None:
    """Check that every image of the set that is not skipped is a file below its root, and not empty.

    Raises:
        TreeError: names the first one missing and counts all.
    """
    names = [image["path"] for study in found.studies for image in study.images if image["path"] not in skipped]
    paths = [found.root / name for name in names]
    missing = [
        path
        for path in tqdm(paths, desc="look for images", unit="image")
        if not path.is_file() or not path.stat().st_size
    ]
    if missing:
        raise TreeError(
            f"{missing[0]}: not there or empty; {len(missing):,} of {len(paths):,} images are missing (--skip-file "
            "takes a list of images to do without)"
        )


def read_table(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, plain or gzipped, parted by commas, semicolons or tabs.

    Raises:
        TreeError: the file or one of `columns` is not there, a name of a column stands there twice, a row has too few
            or too many cells, the table has no row, it is not UTF-8, or the file is damaged.
    """
    open_file = gzip.open if need(path).suffix == ".gz" else open
    try:
        with open_file(path, "rt", encoding="utf-8-sig", newline="") as text:
            header = text.readline()
            if "\0" in header:  # UTF-16 without its mark
                raise TreeError(f"{path}: {NOT_UTF8}")
            if not header.strip():
                raise TreeError(f"{path}: the table is empty")
            text.seek(0)
            csv.field_size_limit(MAX_CELL)
            rows = csv.DictReader(text, strict=True, delimiter=max(",;\t", key=header.count))
            names = rows.fieldnames or ()
            if twice := [name for name in names if name and names.count(name) > 1]:
                raise TreeError(f"{path}: column {twice[0]!r} stands there twice")
            lacking = [name for name in columns if name not in names]
            if lacking:
                raise TreeError(f"{path}: no column {', '.join(map(repr, lacking))} among {names}")
            empty = True
            for row in rows:
                empty = False
                if any(row.get(None, ())):
                    raise TreeError(f"{path}:{rows.line_num}: the row has more cells than the header, {len(names)}")
                if any(row[name] is None for name in columns):
                    raise TreeError(f"{path}:{rows.line_num}: the row is cut short")
                yield row
            if empty:
                raise TreeError(f"{path}: the table is empty, it has a header and no row")
    except UnicodeDecodeError:
        raise TreeError(f"{path}: {NOT_UTF8}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise TreeError(f"{path}: damaged or cut short ({type(error).__name__}: {error})") from None


def only_one(folder: Path, *names: str) -> Path:
    """The one file of `folder` with one of these names.

    Raises:
        TreeError: none or several are there.
    """
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) != 1:
        state = "not there" if not found else f"beside {found[1]}, one is expected"
        raise TreeError(f"{(found or [folder / names[0]])[0]}: {state} (names: {', '.join(names)})")
    return found[0]


def read_report(path: Path) -> str:
    """The text of one report.

    Raises:
        TreeError: the file is not there, too large for a report, or no UTF-8 text.
    """
    if need(path).stat().st_size > MAX_REPORT_BYTES:
        raise TreeError(f"{path}: more than {MAX_REPORT_BYTES:,} bytes is no report")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TreeError(f"{path}: no UTF-8 text (byte {error.start})") from None


def label_value(value: str | float | None, where: str) -> Label:
    """A label of a CheXpert table: 1.0 present, 0.0 absent, -1.0 uncertain, blank not mentioned.

    Raises:
        TreeError: another value; names `where`.
    """
    if value is None or value == "":
        return None
    number = number_of(value, where)
    try:
        return check_label(number, where)
    except ValueError:
        raise TreeError(f"{where}: expected 1, 0, -1 or blank, got {value!r}") from None


def number_of(value: str | float, where: str) -> float:
    """`value` as a number.

    Raises:
        TreeError: it is none; names `where`.
    """
    try:
        return float(value)
    except ValueError:
        raise TreeError(f"{where}: expected a number, got {value!r}") from None
