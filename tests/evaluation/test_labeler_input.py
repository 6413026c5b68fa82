"""The report labeler on bad input, in streams, chunks and processes, and on texts made to take long."""

import itertools
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from evaluation.reading.labeler import (
    CHEXPERT_14,
    explain_report,
    forget_sentences,
    label_report,
    label_reports,
    mentions,
)
from tests.helpers.labeler_cases import DOUBT, HEART, NEGATION, expect, said


@pytest.mark.parametrize(
    "text",
    [
        None, "", " \n\t ", "XXXX XXXX.", "😀😀", "...", "!!! ??? ...", "Kein Erguss.", "?", ":", "<p></p>", "\x00",
        "INDICATION: Pneumonia.", "History: rule out edema. Comparison: chest film with effusion.",
    ],
)  # fmt: skip
def test_nothing_said_is_nothing_labelled(text):
    assert label_report(text) == dict.fromkeys(CHEXPERT_14)
    assert mentions(text) == []


def test_other_languages_are_read_as_english():
    assert said("Kein Pneumothorax.") == expect(ptx=1)  # "kein" is no English negation


def test_broken_unicode_is_read():
    assert said("\ud800 small effusion \x00") == expect(eff=1)


def test_html_is_read_without_its_tags():
    assert said('<p class="edema">No effusion.</p><p>Small <b>nodule</b></p>') == expect(eff=0, lesion=1)
    assert said("Cardiothoracic ratio < 0.5. No effusion > 1 cm.") == expect(none=1, heart=0, eff=0)


@pytest.mark.parametrize("value", [float("nan"), 3, b"effusion", ["effusion"]])
def test_what_is_not_text_is_refused(value):
    for function in (label_report, mentions, explain_report):
        with pytest.raises(TypeError, match=type(value).__name__):
            function(value)
    with pytest.raises(TypeError, match=type(value).__name__):
        list(label_reports(["No effusion.", value]))


def test_unknown_number_of_processes_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        next(label_reports(["No effusion."], processes=0))


def test_order_chunks_cache_and_processes_change_nothing():
    texts = [f"{a} {b}" for a, b in itertools.product([t for t, _ in NEGATION + HEART], [t for t, _ in DOUBT])]
    one = list(label_reports(texts))
    forget_sentences()
    assert list(label_reports(reversed(texts))) == one[::-1]
    forget_sentences()
    assert [label_report(text) for text in texts] == one
    assert list(label_reports(iter(texts), processes=2)) == one


def test_streams_are_read_as_they_are_needed():
    for processes in (1, 2):
        taken = 0

        def reports():
            nonlocal taken
            while True:
                taken += 1
                yield "No effusion."

        stream = label_reports(reports(), processes=processes)
        assert len(list(itertools.islice(stream, 600))) == 600
        assert taken < 10_000
        stream.close()


def test_the_labeler_is_a_plain_function():
    with ProcessPoolExecutor(1) as pool:  # as datasets.map, Spark and Ray do: the function is pickled by its name
        assert pool.submit(label_report, "No effusion.").result() == label_report("No effusion.")


def test_datasets_map_takes_the_labeler(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the metrics extra")
    texts = [text for text, _ in NEGATION + DOUBT]
    reports = datasets.Dataset.from_dict({"report": texts})
    for processes in (None, 2):
        labelled = reports.map(label_report, input_columns="report", num_proc=processes, load_from_cache_file=False)
        rows = labelled.select_columns(list(CHEXPERT_14)).to_list()
        assert rows == [label_report(text) for text in texts]


WORDS = [
    "no ", "effusion or ", "effusion ", "heart ", "no evidence of ", "enlarged ", "is not seen ", "no large ", "\n",
    "\n \n", " ", "<", "<a ", "findings:", "INDICATION: ", "impression (", ":", "?", ". ", "1.", "vs.", "- \n", "a",
    "İ", "collapse of ", "no significant ", "is now completely ", "old a ", "pneumothorax or ", "pleural a ", "XXXX ",
    "\u2028",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_time_grows_with_length_not_its_square(word):
    """Four times the text may take about four times as long; a square would take sixteen."""
    seconds = []
    for size in (25_000, 100_000):
        text = (word * (size // len(word) + 1))[:size]
        runs = []
        for _ in range(3):
            forget_sentences()
            start = time.process_time()
            label_report(text)
            runs.append(time.process_time() - start)
        seconds.append(min(runs))
    assert seconds[1] < 8 * seconds[0] + 0.02


def test_a_megabyte_without_an_end_is_labelled():
    assert said("word " * 200_000 + "small effusion") == expect(eff=1)
