"""Language metrics: expected values, treatments, chunks and order, METEOR without Java, limits on bad texts."""

import time
from pathlib import Path

import numpy as np
import pytest

from evaluation.benchmark import count_equal, golden_language, golden_meteor, golden_radcliq, worst
from evaluation.metrics.count_table import CountTable
from evaluation.metrics.language import (
    DocumentFrequencies,
    LanguageSums,
    count_ngrams,
    language_rows,
    language_scores,
    longest_common_subsequence,
    rouge_l,
    scores_of_sums,
    sum_rows,
    text_table,
    variety_scores,
)
from evaluation.metrics.meteor import MeteorTables, find_meteor, meteor_counts, meteor_score, read_paraphrases
from evaluation.metrics.meteor_text import meteor_words
from evaluation.metrics.model_metrics import require, score_with_models, with_weights
from evaluation.metrics.radgraph_reward import radcliq, radgraph_f1
from evaluation.metrics.text_normalisation import TREATMENTS

TEXTS = [
    "the heart is normal in size and the lungs are clear",
    "no pleural effusion or pneumothorax is seen today",
    "there is a small left pleural effusion",
    "stable cardiomegaly with mild pulmonary edema again noted",
]
GUESSES = [
    "the heart is normal and the lungs are clear",
    "no effusion or pneumothorax",
    "there is a small right pleural effusion or mass",
    "",
]


def keys_of(n: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2**64, n, dtype=np.uint64)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_expected_scores(data_dir: Path, treatment: str) -> None:
    assert worst(golden_language(data_dir / "metrics_golden", treatment)) < 1e-6


def test_expected_tokens(data_dir: Path) -> None:
    assert count_equal(data_dir / "metrics_golden") == "100 of 100 texts equal"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith (read at 10:30 p.m.)", "dr. smith -lrb- read at 10:30 p.m. -rrb-"),
        ("2.3 cm nodule; T4-T5, 4-5mm.", "2.3 cm nodule t4-t5 4-5mm"),
        ("Patient's film can't show it", "patient 's film ca n't show it"),
        ("and/or No. 5 of 1/2. cannot", "and/or no. 5 of 1/2 can not"),
        ("clear.No effusion...", "clear.no effusion"),
    ],
)
def test_ptb_tokens_as_corenlp_makes_them(text: str, expected: str) -> None:
    assert TREATMENTS["ptb"](text) == expected


def test_lcs_by_hand_and_by_table() -> None:
    assert longest_common_subsequence(list("abcbdab"), list("bdcaba")) == 4
    generator = np.random.default_rng(0)
    for _ in range(50):
        first, second = (generator.integers(0, 4, generator.integers(0, 90)).tolist() for _ in range(2))
        table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
        assert longest_common_subsequence(first, second) == table[-1, -1]


def test_rouge_by_hand() -> None:
    precision, recall = 3 / 4, 3 / 5
    assert rouge_l("a b c x", "a b y c z") == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))


def test_chunks_and_order_change_no_digit() -> None:
    hyps, refs = GUESSES * 5, TEXTS * 5
    whole = language_rows(hyps, refs)
    frequencies = DocumentFrequencies.merge(
        DocumentFrequencies.from_ngrams(count_ngrams(refs[start : start + 3])) for start in range(0, 20, 3)
    )
    keys = keys_of(20)
    expected = language_scores(sum_rows(whole, keys), "raw", 0)
    order = np.random.default_rng(0).permutation(20)
    total = LanguageSums(np.zeros(13, dtype=np.int64), np.zeros((1000, 13), dtype=np.int64))
    for part in np.array_split(order, 4):
        rows = language_rows([hyps[row] for row in part], [refs[row] for row in part], frequencies)
        assert (rows.cider_d == whole.cider_d[part]).all() and (rows.rouge_l == whole.rouge_l[part]).all()
        total = total + sum_rows(rows, keys[part])
    assert language_scores(total, "raw", 0) == expected


def test_defined_values_of_empty_texts() -> None:
    rows = language_rows(["", "", "a b"], ["a b c", "", ""])
    scores = scores_of_sums(rows.columns().sum(axis=0))
    assert rows.rouge_l.tolist() == [0.0, 1.0, 0.0]  # COCO: two empty texts share one empty word
    assert rows.cider_d.tolist() == [0.0, 0.0, 0.0]
    assert all(np.isfinite(value) for value in scores.values())


def test_one_pair_alone_has_no_cider_and_few_words_no_bleu_4_and_a_note_says_so() -> None:
    alone = language_rows(["a b c d"], ["a b c d"])
    assert alone.cider_d.tolist() == [0.0]  # log 1 = 0
    notes = {name: score.get("note") for name, score in language_scores(sum_rows(alone, keys_of(1)), "raw", 0).items()}
    assert "0 by definition" in notes.pop("raw/cider_d") and not any(notes.values())
    short = language_scores(sum_rows(language_rows(["a b"] * 2, ["a b c"] * 2), keys_of(2)), "raw", 0)
    assert [name for name, score in short.items() if "note" in score] == ["raw/bleu_3", "raw/bleu_4"]


def test_lengths_and_how_many_different_texts() -> None:
    predictions, references = ["a b", "a b", "c", "a b"], ["a b c d", "b", "c", "d e"]
    scores = language_scores(sum_rows(language_rows(predictions, references), keys_of(4), resamples=50), "raw", 0)
    assert scores["raw/words"]["value"] == 7 / 4 and scores["raw/reference_words"]["value"] == 2
    assert scores["raw/words"]["low"] < 7 / 4 < scores["raw/words"]["high"]
    whole = variety_scores(text_table(predictions), "", "raw")
    parts = [text_table(predictions[:1]), text_table(predictions[1:])]
    assert whole == variety_scores(CountTable.merge(parts), "", "raw")
    assert {name: (score["value"], score["count"], score["of"]) for name, score in whole.items()} == {
        "raw/distinct": (0.5, 2, 4), "raw/commonest": (0.75, 3, 4)
    }  # fmt: skip
    assert variety_scores(text_table(references), "reference_", "raw")["raw/reference_distinct"]["value"] == 1


BLEUS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")


def test_intervals_and_signature() -> None:
    rows = language_rows(GUESSES * 10, TEXTS * 10)
    scores = language_scores(sum_rows(rows, keys_of(40), resamples=100, seed=3), "ptb", seed=3)
    assert set(scores) == {f"ptb/{name}" for name in (*BLEUS, "rouge_l", "cider_d", "words", "reference_words")}
    bleu = scores["ptb/bleu_2"]
    assert bleu["low"] < bleu["value"] < bleu["high"]
    assert scores["ptb/cider_d"]["signature"].startswith(
        "cider_d|treatment:ptb|idf:references|n:40|bootstrap:poisson-100|seed:3|version:"
    )


def test_bad_input_stops() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 references"):
        language_rows(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="study 'x' has 30000 tokens; at most 20000 are scored"):
        language_rows(["a " * 30_000], ["a"], names=["study 'x'"])


ADVERSARIAL = {
    "one word": "a" * 1_000_000,
    "spaces": " " * 1_000_000,
    "dots": "." * 1_000_000,
    "hyphens": "a-" * 500_000,
    "slashes": "a/" * 500_000,
    "initials": "a." * 500_000,
    "digits": "1," * 500_000,
    "apostrophes": "a'" * 500_000,
    "angles": "<a" * 500_000,
    "underscores": "_ " * 500_000,
    "numbers": " 2. " * 250_000,
    "emoji": "🩻" * 500_000,
    "nots": "an" * 500_000,
}


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_no_treatment_is_quadratic(treatment: str) -> None:
    """A megabyte of anything takes seconds at most; a quadratic rule would take hours."""
    for text in ADVERSARIAL.values():
        start = time.perf_counter()
        TREATMENTS[treatment](text)
        assert time.perf_counter() - start < 10


def test_longest_allowed_texts_are_scored_quickly() -> None:
    start = time.perf_counter()
    rows = language_rows(["a " * 19_999 + "b", "a b " * 10_000], ["a " * 19_999 + "a", "b a " * 10_000])
    assert rows.rouge_l[0] == pytest.approx(19_999 / 20_000)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("text", ["", "XXXX XXXX", "<b>clear</b>", "Herz normal groß", "🫁 clear", "\ud800 lone"])
def test_odd_texts_have_scores(text: str) -> None:
    for treat in TREATMENTS.values():
        rows = language_rows([treat(text), treat("clear")], [treat("lungs clear"), treat("clear")])
        assert np.isfinite(list(scores_of_sums(rows.columns().sum(axis=0)).values())).all()


# --- METEOR ---------------------------------------------------------------------------------------------------------

TABLES = MeteorTables(
    prefixes={"Dr": False, "No": True},
    function_words=frozenset(["the", "is", "."]),
    bases={"hearts": ["heart"]},
    synsets={"heart": frozenset([1]), "ticker": frozenset([1, 2])},
    paraphrases={("within", "normal", "limits"): [("unremarkable",)]},
)


def meteor(hypothesis: str, reference: str) -> float:
    return float(meteor_score(meteor_counts(hypothesis, reference, TABLES)))


def test_expected_meteor(data_dir: Path) -> None:
    """The jar's values, from its own data files, without Java."""
    try:
        folder = find_meteor()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert worst(golden_meteor(data_dir / "metrics_golden", folder)) < 1e-6


def test_meteor_by_hand() -> None:
    assert meteor("the heart is big", "the heart is big") == 1
    assert meteor("lungs", "pneumothorax") == 0 and meteor("", "clear") == 0 and meteor("", "") == 0
    # one synonym of two content words: P = R = .8 / 2, one chunk of one match
    assert meteor("ticker enlarged", "heart small") == pytest.approx(0.4 * (1 - 0.6))
    # a paraphrase of three words for one, all matched at weight .6 in one chunk
    assert meteor("unremarkable", "within normal limits") == pytest.approx(0.6)
    assert meteor("opacities", "opacity") == pytest.approx(0.6)  # stem


def test_meteor_prefers_fewer_chunks() -> None:
    counts = meteor_counts("a b a c", "a c", TABLES)
    assert counts[-1] == 1  # the second "a", beside "c"


def test_meteor_words_keep_the_published_traps() -> None:
    prefixes = TABLES.prefixes
    assert meteor_words("Clear. Normal.", prefixes) == ["clear", ".", "normal", "."]
    assert meteor_words("clear. normal.", prefixes) == ["clear.", "normal", "."]  # a period before lower case stays
    assert meteor_words("No. 5, Dr. Who", prefixes) == ["no.", "5", ",", "dr.", "who"]
    assert meteor_words("x-ray... it's 2,300 p.m.", prefixes) == ["x", "ray", "...", "it", "'s", "2,300", "pm"]


def test_meteor_limits() -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match="METEOR of study 'x': over 200000 candidate matches"):
        language_rows(["a b " * 9_000], ["a c " * 9_000], meteor=TABLES, names=["study 'x'"])
    meteor("a b " * 150, "a " * 300)
    assert time.perf_counter() - start < 20
    with pytest.raises(FileNotFoundError):
        next(read_paraphrases(Path("nowhere.gz")))


# --- metrics that need a model --------------------------------------------------------------------------------------


def entity(tokens: str, label: str, *relations: tuple[str, str]) -> dict:
    return {"tokens": tokens, "label": label, "relations": [list(relation) for relation in relations]}


def test_radgraph_f1_by_hand() -> None:
    reference = {"entities": {"1": entity("Small", "P", ("modify", "2")), "2": entity("effusion", "P")}}
    hypothesis = {"entities": {"1": entity("small", "P"), "2": entity("effusion", "P")}}
    scores = radgraph_f1(hypothesis, reference)
    assert scores == {"simple": 1.0, "partial": 0.5, "complete": 0.5, "combined": 0.5}
    assert set(radgraph_f1(reference, reference).values()) == {1.0}
    assert set(radgraph_f1({"entities": {}}, reference).values()) == {0.0}


def test_radcliq_coefficients(data_dir: Path) -> None:
    assert worst(golden_radcliq(data_dir / "metrics_golden")) < 1e-6


def test_radcliq_bad_input() -> None:
    with pytest.raises(ValueError, match="unknown RadCliQ version 'v2'"):
        radcliq({}, "v2")
    with pytest.raises(ValueError, match="missing bertscore"):
        radcliq({"radgraph_combined": [1], "chexbert_similarity": [1], "bleu_2": [1]}, "v1")


def test_missing_packages_and_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"green needs the package radeval: pip install 'trrg\[model-metrics\]'"
    ):
        require("green")

    def offline() -> None:
        raise OSError("no network\nand a page more")

    with pytest.raises(FileNotFoundError, match=r"ratescore: weights Angelakeke.*Cause: no network$"):
        with_weights("ratescore", offline)

    def compiled_for_another_numpy() -> None:
        raise ValueError("numpy.dtype size changed")

    with pytest.raises(ImportError, match=r"ratescore: the package radeval cannot be loaded here: numpy\.dtype size"):
        with_weights("ratescore", compiled_for_another_numpy)
    with pytest.raises(ValueError, match="radcliq needs CheXbert vectors"):
        score_with_models(["a"], ["a"], ["radcliq"], None)
