"""The labeler and the language metrics, beside the packages that are installed."""

import importlib.util
import io
import random
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from evaluation.bench.turns import Row
from evaluation.benchmark import made_up_prediction, real_texts
from evaluation.benchmark_labeler import DATA
from evaluation.metrics.language import language_rows, scores_of_sums
from evaluation.metrics.text_normalisation import TREATMENTS
from evaluation.reading.labeler import forget_sentences, label_reports

MADE_UP = "The heart is mildly enlarged. Small left pleural effusion in study {0}. No focal consolidation of lobe {0}."


def rows(quick: bool, data: Path = DATA) -> Iterator[Row]:
    """On real reports where they are, else on made-up ones."""
    count, seconds = (20, 0) if quick else (1000, 3)
    real = not quick and data.is_dir()
    texts = real_texts(data)[:count] if real else [MADE_UP.format(number) for number in range(count)]

    def label(some: list[str]) -> None:
        forget_sentences()
        list(label_reports(some))

    row = Row("scorers", f"labeler, a report of {len(texts)}, cold", "ten reports in one text", "< 0.1 ms; 0.1",
              "its time is linear in the words, so ten reports in one text cost ten times one")  # fmt: skip
    long = [" ".join(texts[at : at + 10]) for at in range(0, len(texts), 10)]
    row.by_turns(lambda: label(texts), lambda: label(long), seconds)
    assert row.ours is not None and row.theirs is not None
    row.ours, row.theirs = row.ours / len(texts), row.theirs / len(long)
    row.ratio, row.spread = row.ours / row.theirs, None
    yield row
    generator = random.Random(0)
    written = [made_up_prediction(texts, number, generator) for number in range(len(texts))]
    refs, hyps = (list(map(TREATMENTS["ptb"], side)) for side in (texts, written))

    def ours() -> None:
        scores_of_sums(language_rows(hyps, refs).columns().sum(axis=0))

    row = Row("scorers", "BLEU-1 to 4, ROUGE-L, CIDEr-D", "pycocoevalcap", "<= 0.083 (12 times faster)",
              "words become numbers once, and n-grams are counted in arrays for all reports together")  # fmt: skip
    if importlib.util.find_spec("pycocoevalcap") is None:
        row.why = "pycocoevalcap is not installed"
    else:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        gts, res = ({number: [text] for number, text in enumerate(side)} for side in (refs, hyps))

        def theirs() -> None:
            with redirect_stdout(io.StringIO()):  # its BLEU prints
                for scorer in (Bleu(4), Rouge(), Cider()):
                    scorer.compute_score(gts, res)

        row.by_turns(ours, theirs, seconds)
    yield row
    row = Row("scorers", "the same six", "RadEval, bleu and rouge", "<= 0.083 (12 times faster)",
              "RadEval counts report by report")  # fmt: skip
    if importlib.util.find_spec("radeval") is None:
        row.why = "RadEval is not installed"
    else:
        from radeval import RadEval

        peer = RadEval(["bleu", "rouge"], show_progress=False)
        row.by_turns(ours, lambda: peer(refs=texts, hyps=written), seconds)
    yield row
