"""Phantoms followed over time: what became of each finding is in both reports, and a draw without its prior compares
with nothing."""

import json
from collections import Counter

import numpy as np
import pytest

from evaluation.reading.changes import CHANGES
from evaluation.reading.comparison_rewriting import without_comparisons
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING, SUPPORT_DEVICES
from evaluation.reading.prior_comparisons import comparison_sentences, has_prior
from processing_trrg import report_text
from training.builders.small_data import phantom_records, write_set
from training.data.context import without_context
from training.data.study import Studies, Study
from training.phantoms.change_report import write_changes, write_prior
from training.phantoms.drawing import Anatomy
from training.phantoms.findings import plan_findings
from training.phantoms.follow_up import follow, generate_followed
from training.phantoms.generate import generate_phantom
from training.phantoms.report import LABEL_OF, SIZES
from training.phantoms.scoring import report_changes, report_faults, report_sides, report_slips


def followed_reports(count):
    for index in range(count):
        anatomy = Anatomy.sample(np.random.default_rng((5, index, 0)))
        now = [plan.finding for plan in plan_findings(anatomy, np.random.default_rng((5, index, 1)))]
        followed = follow(now, np.random.default_rng((5, index, 4)))
        text = write_changes(followed, np.random.default_rng((5, index, 5)))
        yield now, followed, text, np.random.default_rng((5, index, 6))


def test_a_followed_phantom_depends_on_seed_and_index_alone():
    one, again = (generate_followed(3, 7, 64) for _ in range(2))
    assert np.array_equal(one.image, again.image) and one.record == again.record and one.followed == again.followed
    assert generate_followed(3, 7, 96).record["prior_report"] == one.record["prior_report"]
    assert generate_followed(3, 8, 64).record["findings"] != one.record["findings"]


def test_the_picture_of_today_is_the_phantom_of_that_anatomy():
    """Nothing but the report tells of what was there before."""
    for index in range(3):
        followed, plain = generate_followed(3, index, 64), generate_phantom(3, index, 64)
        assert np.array_equal(followed.image, plain.image) and followed.findings == plain.findings


def test_both_reports_read_back_as_planted():
    seen = Counter()
    for now, followed, text, rng in followed_reports(300):
        changes = {(finding.pair, finding.change) for finding in followed}
        seen.update(change for _, change in changes)
        before = [finding.before for finding in followed if finding.before]
        prior = write_prior(before, rng)
        assert report_sides(prior) == {finding.pair for finding in before}, prior
        assert not comparison_sentences(prior)
        for part in ("findings", "impression"):
            assert report_changes(text[part]) == changes, text
            assert report_sides(text[part]) == {finding.pair for finding in now}, text
        report = report_text(text["findings"], text["impression"])
        labels = label_report(report)
        present = {LABEL_OF[finding.name] for finding in now}
        assert {name for name, value in labels.items() if value == 1} == (
            present | ({NO_FINDING} if present <= {SUPPORT_DEVICES} else set())
        ), report
        assert not report_faults(now, report) + report_slips(now, report), report
        assert bool(comparison_sentences(report)) or not followed
    assert min(seen[change] for change in CHANGES) > 40, seen


def test_what_has_changed_is_of_another_size_in_the_prior_report():
    for _, followed, _, _ in followed_reports(200):
        for finding in followed:
            was, is_now = (part and part.size for part in (finding.before, finding.now))
            assert (was is None) == (finding.change == "new" or finding.shown.name == "device")
            assert (is_now is None) == (finding.change == "resolved" or finding.shown.name == "device")
            if was and is_now:
                step = SIZES.index(is_now) - SIZES.index(was)
                assert {"grown": 2, "smaller": -2, "unchanged": 0}[finding.change] == step


def test_without_the_prior_the_report_compares_with_nothing_and_says_the_same():
    for now, _, text, _ in followed_reports(150):
        plain = report_text(*without_comparisons(text["findings"], text["impression"]))
        assert not comparison_sentences(plain), plain
        assert not report_faults(now, plain) + report_slips(now, plain), plain


@pytest.mark.parametrize(
    "prior",
    [{"prior_report": "Small right effusion."}, {"comparison": "Radiograph of last week."}],
)
def test_a_draw_without_its_prior_is_not_told_to_compare(prior):
    record = Study("a", "p", "train", indication="Cough.", findings="The right effusion has grown. No nodule.", **prior)
    kept, dropped = (without_context(record, share, np.random.default_rng(0)) for share in (0.0, 1.0))
    assert kept == record
    assert not has_prior(dropped) and dropped.indication is None
    assert dropped.findings == "The right effusion is present. No nodule."


def test_a_report_of_nothing_but_comparison_keeps_its_prior():
    record = Study("a", "p", "train", indication="Cough.", findings="No interval change.", prior_report="Clear lungs.")
    left = without_context(record, 1.0, np.random.default_rng(0))
    assert (left.indication, left.prior_report, left.findings) == (None, "Clear lungs.", "No interval change.")


def test_a_set_is_the_same_drawn_by_one_process_or_by_two(tmp_path):
    counts = {"train": 65, "validation": 3}  # more than one chunk
    manifests = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        manifests.append(write_set(out, phantom_records(out, generate_followed, 4, counts, 64, processes)))
        files = sorted(path.name for path in (out / "images").iterdir())
        assert len(files) == 68
    assert manifests[0] == manifests[1] and manifests[0]["studies"] == counts
    [study, *_] = Studies(tmp_path / "2", "validation").records
    assert study["prior_report"] and has_prior(study) and json.loads(json.dumps(dict(study)))["synthetic"]
