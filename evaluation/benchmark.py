"""The labeler's table, golden values, speed beside the peers that are installed. Prints only.

    python evaluation/benchmark.py                      # speed on 3,858 pairs of real reports

Peers (pycocoevalcap, rouge-score, sacrebleu, RadEval) are timed in the same run where they are installed; the METEOR
jar and CoreNLP's tokenizer where Java is too. Data: $TRRG_DATA, or ../shared/data beside the checkout.
"""

import argparse
import importlib.util
import io
import json
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.benchmark_labeler import DATA, print_label_table
from evaluation.benchmark_truthfulness import print_detectors, print_real_reports
from evaluation.metrics.clinical import (
    CHEXPERT_14,
    CONVENTIONS,
    VALUES,
    ClinicalScore,
    LabelPatterns,
    clinical_scores,
    encode_labels,
    label_scores_of_sums,
    score_of_sums,
)
from evaluation.metrics.language import bleu, language_rows, scores_of_sums
from evaluation.metrics.meteor import find_meteor, load_tables, meteor_counts, meteor_score, pairwise_counts
from evaluation.metrics.radgraph_reward import COMPONENTS, radcliq
from evaluation.metrics.text_normalisation import TREATMENTS
from evaluation.reading.labeler import forget_sentences, label_reports

PAIRS = 3858  # reports in the test split of MIMIC-CXR
GOLDEN_TREATMENTS = {
    "raw": "raw_whitespace",
    "lower": "lower_whitespace",
    "ptb": "ptb_lower",
    "r2gen_iu": "r2gen_iu_clean",
    "r2gen_mimic": "r2gen_mimic_clean",
}
GOLDEN_NAMES = {**{f"bleu_{n}": f"BLEU_{n}" for n in range(1, 5)}, "rouge_l": "ROUGE_L", "cider_d": "CIDER"}


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def worst(pairs: Iterator[tuple[Any, Any]]) -> float:
    """Largest absolute difference of (ours, expected) numbers or arrays."""
    return max(float(np.abs(np.asarray(ours) - np.asarray(expected)).max()) for ours, expected in pairs)


# --- golden values --------------------------------------------------------------------------------------------------


def golden_clinical(folder: Path) -> Iterator[tuple[Any, Any]]:
    """Pairs (ours, expected) of every average and label F1."""
    golden = read_json(folder / "ce_aggregation_goldens.json")
    codes = [
        encode_labels([dict(zip(golden["labels"], row, strict=True)) for row in golden[k]]) for k in ("refs", "hyps")
    ]
    patterns = LabelPatterns.from_codes(*codes)
    sums = patterns.counts @ patterns.columns()
    averages = {"micro": "micro", "macro": "macro", "weighted": "weighted", "example": "samples"}
    for uncertain in (0, 1):
        expected = golden["expected"][f"u{uncertain}"]
        for labels, key in (("14", "14"), ("13", "13_no_nf"), ("5", "5")):
            for average, name in averages.items():
                ours = [score_of_sums(sums, ClinicalScore(labels, uncertain, average, value)) for value in VALUES]
                yield ours, expected[f"{key}_{name}"]
            for average, name in (("exact_match", "exact_match"), ("accuracy", "label_accuracy")):
                yield score_of_sums(sums, ClinicalScore(labels, uncertain, average)), expected[f"{key}_{name}"]
            f1 = label_scores_of_sums(sums, uncertain)["f1"]
            for label, value in expected[f"{key}_per_label_f1"].items():
                yield f1[CHEXPERT_14.index(label)], value


def golden_language(folder: Path, treatment: str) -> Iterator[tuple[Any, Any]]:
    """Pairs (ours, expected) of BLEU, ROUGE-L and CIDEr-D under one treatment of the text."""
    golden = read_json(folder / "coco_caption_goldens.json")
    treat, expected = TREATMENTS[treatment], golden[GOLDEN_TREATMENTS[treatment]]
    hyps, refs = ([treat(pair[side]) for pair in golden["pairs"]] for side in ("hyp", "ref"))
    rows = language_rows(hyps, refs)
    scores = scores_of_sums(rows.columns().sum(axis=0))
    for ours, theirs in GOLDEN_NAMES.items():
        yield scores[ours], expected[theirs]
    for order in range(1, 5):
        yield bleu(rows.bleu_counts)[:, order - 1], expected[f"BLEU_{order}_per"]
    yield rows.rouge_l, expected["ROUGE_L_per"]
    yield rows.cider_d, expected["CIDER_per"]


def golden_meteor(folder: Path, meteor: Path) -> Iterator[tuple[Any, Any]]:
    """Pairs (ours, expected) of METEOR 1.5."""
    golden, micro = read_json(folder / "coco_caption_goldens.json"), read_json(folder / "meteor15_micro.json")
    texts = [case[side] for case in (*golden["pairs"], *micro) for side in ("hyp", "ref")]
    tables = load_tables(meteor, (treat(text) for text in texts for treat in TREATMENTS.values()))
    for case in micro:
        yield meteor_score(meteor_counts(case["hyp"], case["ref"], tables)), case["meteor15"]
    for treatment, name in GOLDEN_TREATMENTS.items():
        hyps, refs = ([TREATMENTS[treatment](pair[side]) for pair in golden["pairs"]] for side in ("hyp", "ref"))
        counts = pairwise_counts(hyps, refs, tables)
        yield meteor_score(counts), golden[name]["METEOR_per"]
        yield meteor_score(counts.sum(axis=0)), golden[name]["METEOR"]


def golden_radcliq(folder: Path) -> Iterator[tuple[Any, Any]]:
    """Pairs (ours, expected) of RadCliQ from its published coefficients."""
    golden = read_json(folder / "radcliq_coefficients.json")
    for check in golden["checks"]:
        parts = {name: [value] for name, value in zip(COMPONENTS, check["x"], strict=True)}
        for version in check.keys() & {"v0", "v1"}:
            yield radcliq(parts, version), check[version]
    for version in ("v0", "v1"):  # the published form: coefficients on standardised inputs
        form, x = golden[version], np.array([0.3, 0.6, 0.2, 0.4])
        z = (x - form["scaler_mean"]) / np.array(form["scaler_scale"])
        yield (
            radcliq({n: [v] for n, v in zip(COMPONENTS, x, strict=True)}, version),
            z @ form["coef_on_standardised"] + form["intercept"],
        )


def count_equal(folder: Path) -> str:
    """How many texts our tokens and cleaners leave as the peers do."""
    golden = read_json(folder / "coco_caption_goldens.json")
    tokens = golden["ptb_tokens"]
    pairs = [
        (TREATMENTS["ptb"](p[s]), t)
        for s, k in (("ref", "refs"), ("hyp", "hyps"))
        for p, t in zip(golden["pairs"], tokens[k], strict=True)
    ]
    cases = read_json(folder / "r2gen_clean_report.json")["cases"]
    pairs += [
        (TREATMENTS[ours](c["input"]), c[theirs])
        for c in cases
        for ours, theirs in (("r2gen_iu", "iu_xray"), ("r2gen_mimic", "mimic_cxr"))
    ]
    return f"{sum(ours == theirs for ours, theirs in pairs)} of {len(pairs)} texts equal"


def print_golden(folder: Path, meteor: Path | None) -> None:
    """Print the largest difference from each set of expected values."""
    print("\nlargest difference from the expected values")
    print(f"  ce_aggregation_goldens (84 averages, 64 label F1s)   {worst(golden_clinical(folder)):.1e}")
    for treatment in TREATMENTS:
        print(
            f"  coco_caption_goldens, {treatment:12} BLEU ROUGE CIDEr {worst(golden_language(folder, treatment)):.1e}"
        )
    found = "pycocoevalcap is not installed" if meteor is None else f"{worst(golden_meteor(folder, meteor)):.1e}"
    print(f"  coco_caption_goldens + meteor15_micro, METEOR 1.5    {found}")
    print(f"  radcliq_coefficients                                 {worst(golden_radcliq(folder)):.1e}")
    print(f"  ptb tokens and R2Gen cleaners                        {count_equal(folder)}")


# --- speed ----------------------------------------------------------------------------------------------------------


def real_texts(data: Path) -> list[str]:
    """Findings and impressions of real reports, in the file's order."""
    texts = []
    with (data / "iu_xray" / "reports.jsonl").open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            parts = [record[name] for name in ("findings", "impression") if record[name]]
            if parts:
                texts.append(" ".join(parts).replace("\n", " "))
    return texts


def made_up_prediction(texts: Sequence[str], row: int, generator: random.Random) -> str:
    """Most sentences of a report and some of another one: neither a copy nor a stranger."""
    mine, other = (texts[at % len(texts)].split(". ") for at in (row, generator.randrange(len(texts))))
    return ". ".join([s for s in mine if generator.random() < 0.7] + [s for s in other if generator.random() < 0.3])


def timed(function: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[float, Any]:
    """Seconds and result. CPU time of this process, so that other work on the machine does not count."""
    start = clock()
    result = function()
    return clock() - start, result


def print_row(what: str, ours: float, theirs: float | None, n: int, note: str = "") -> None:
    """Print one line of the table of speeds."""
    peer = "" if theirs is None else f"{n / theirs:10,.0f}/s  {theirs / ours:6.1f} x"
    print(f"  {what:52} {n / ours:10,.0f}/s {peer:24} {note}")


def print_speed(data: Path, meteor: Path | None) -> None:
    """Print the speed on 3,858 pairs of real reports, beside the peers that are installed."""
    texts = real_texts(data)[:PAIRS]
    generator = random.Random(0)
    made_up = [made_up_prediction(texts, row, generator) for row in range(len(texts))]
    n = len(texts)
    print(
        f"\n{n} pairs on one core of {platform.processor() or platform.machine()}, CPU time (beside a jar: wall time): "
        "ours, the peer, ours over the peer"
    )
    forget_sentences()
    seconds, labels = timed(lambda: [encode_labels(list(label_reports(side))) for side in (texts, made_up)])
    print_row("rule labeler (2 reports a pair)", seconds, None, n)
    patterns = LabelPatterns.from_codes(*labels)
    seconds, _ = timed(lambda: clinical_scores(patterns, CONVENTIONS, "rules"))
    print_row("88 clinical scores, 1,000 resamples", seconds, None, n)
    refs, hyps = (list(map(TREATMENTS["ptb"], side)) for side in (texts, made_up))
    seconds, rows = timed(lambda: language_rows(hyps, refs))
    seconds += timed(lambda: scores_of_sums(rows.columns().sum(axis=0)))[0]
    if importlib.util.find_spec("pycocoevalcap") is None:
        print_row("all six: BLEU-1..4 ROUGE-L CIDEr-D", seconds, None, n, "pycocoevalcap is not installed")
    else:
        print_coco(texts, refs, hyps, rows, seconds, meteor)
    if importlib.util.find_spec("rouge_score") is not None:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"])
        theirs, _ = timed(lambda: [scorer.score(*pair) for pair in zip(texts, made_up, strict=True)])
        print_row("all six / rouge-score, ROUGE-L alone", seconds, theirs, n)
    if importlib.util.find_spec("sacrebleu") is not None:
        from sacrebleu import corpus_bleu

        theirs, _ = timed(lambda: corpus_bleu(hyps, [refs], tokenize="none"))
        print_row("all six / sacrebleu, corpus BLEU alone", seconds, theirs, n)
    if importlib.util.find_spec("medspacy") is not None:
        print_medspacy(texts)
    if importlib.util.find_spec("radeval") is not None:
        from radeval import RadEval

        peer = RadEval(["bleu", "rouge"], show_progress=False)
        theirs, _ = timed(lambda: peer(refs=texts, hyps=made_up))
        print_row("all six / RadEval, bleu and rouge", seconds, theirs, n)


def print_medspacy(texts: Sequence[str]) -> None:
    """medspaCy's ConText with ten findings beside our labeler, on 300 reports; ours before spaCy fills the heap."""
    forget_sentences()
    ours, _ = timed(lambda: list(label_reports(texts[:300])))
    try:
        import medspacy
    except ValueError as error:  # medspaCy 1.3 is built for numpy below 2
        print(f"  rule labeler / medspaCy ConText: {error}")
        return
    from loguru import logger
    from medspacy.ner import TargetRule

    logger.remove()  # its sentence splitter logs every token
    pipeline = medspacy.load(medspacy_enable=["medspacy_pyrush", "medspacy_target_matcher", "medspacy_context"])
    names = "effusion pneumothorax edema cardiomegaly atelectasis pneumonia consolidation opacity nodule fracture"
    pipeline.get_pipe("medspacy_target_matcher").add([TargetRule(name, name.upper()) for name in names.split()])
    theirs, _ = timed(lambda: [pipeline(text) for text in texts[:300]])
    print_row("rule labeler / medspaCy ConText (reports)", ours, theirs, 300)


def print_coco(
    texts: list[str],
    refs: list[str],
    hyps: list[str],
    rows: Any,
    seconds: float,
    meteor: Path | None,
) -> None:
    """Print the speed of pycocoevalcap, and the jars where Java is."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    gts, res = ({row: [text] for row, text in enumerate(side)} for side in (refs, hyps))
    with redirect_stdout(io.StringIO()):  # its BLEU prints
        times, found = zip(
            *(timed(partial(scorer.compute_score, gts, res)) for scorer in (Bleu(4), Rouge(), Cider())), strict=True
        )
    ours = scores_of_sums(rows.columns().sum(axis=0))
    expected = [*found[0][0], found[1][0], found[2][0]]
    differences = zip(ours.values(), expected, strict=False)  # ours end with the mean lengths
    note = f"largest difference {worst(iter(differences)):.1e}"
    print_row("all six: BLEU-1..4 ROUGE-L CIDEr-D / pycocoevalcap", seconds, sum(times), len(refs), note)
    if shutil.which("java") is None or meteor is None:
        print("  METEOR and PTB beside the jars: Java is not installed")
        return
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    wall = time.perf_counter  # a jar is another process
    captions = {row: [{"caption": text}] for row, text in enumerate(texts)}
    theirs, tokens = timed(lambda: PTBTokenizer().tokenize(captions), wall)
    seconds, _ = timed(lambda: list(map(TREATMENTS["ptb"], texts)), wall)
    same = sum(tokens[row][0] == text for row, text in enumerate(refs))
    print_row("PTB tokens / CoreNLP jar", seconds, theirs, len(refs), f"{same} of {len(refs)} texts equal")
    jar: Any = None

    def run_jar() -> Any:
        nonlocal jar
        jar = Meteor()
        return jar.compute_score(gts, res)

    theirs, (corpus, per_report) = timed(run_jar, wall)
    jar.meteor_p.kill()
    seconds, counts = timed(lambda: pairwise_counts(hyps, refs, load_tables(meteor, [*hyps, *refs])), wall)
    difference = worst(iter([(meteor_score(counts), per_report), (meteor_score(counts.sum(axis=0)), corpus)]))
    print_row("METEOR 1.5, loading included / jar", seconds, theirs, len(refs), f"largest difference {difference:.1e}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with iu_xray and metrics_golden")
    options = parser.parse_args(arguments)
    meteor = find_meteor() if importlib.util.find_spec("pycocoevalcap") is not None else None
    print_label_table(options.data)
    print_detectors()
    print_real_reports(options.data)
    print_golden(options.data / "metrics_golden", meteor)
    print_speed(options.data, meteor)


if __name__ == "__main__":
    main()
