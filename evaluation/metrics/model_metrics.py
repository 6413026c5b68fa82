"""Metrics that need a model, through the packages that keep them. Install the extra: pip install trrg[model-metrics].

    python -m evaluation.metrics.model_metrics predictions.jsonl --metrics radgraph bertscore --out scores
    python -m evaluation.metrics.model_metrics predictions.jsonl --metrics radcliq --chexbert chexbert.pth --out scores

Each metric has a package and weights of its own; what is missing stops with a message that names both. Weights are
downloaded by those packages under their own licences, never by us. Writes `model_metrics.json`: means with 95 %
bootstrap intervals, signatures, and the score of each study. Never for clinical use.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from huggingface_hub import hf_hub_download

from evaluation.metrics.chexbert import CheXbertLabeler
from evaluation.metrics.language import bleu, language_rows
from evaluation.metrics.radgraph_reward import radcliq, radgraph_f1
from evaluation.metrics.resampling import bootstrap, interval_text, number_text, with_interval
from evaluation.metrics.signature import signature
from evaluation.predictions.records import SECTIONS, open_studies, read_pairs

EXTRA = "pip install 'trrg[model-metrics]'"
METRICS = ("radgraph", "bertscore", "radcliq", "green", "ratescore")
# name: (module, distribution, weights, their terms)
SOURCES = {
    "radgraph": ("radgraph", "radgraph", "StanfordAIMI/RRG_scorers (0.4 GB)", "RadGraph data: PhysioNet credentialed"),
    "bertscore": ("bert_score", "bert-score", "distilroberta-base (0.3 GB)", "Apache-2.0"),
    "green": ("radeval", "radeval", "StanfordAIMI/GREEN-radllama2-7b (14 GB)", "Llama 2 and MIMIC-CXR terms"),
    "ratescore": ("radeval", "radeval", "Angelakeke/RaTE-NER-Deberta, FremyCompany/BioLORD-2023-C (1 GB)", "see cards"),
}
Scores = dict[str, Sequence[float]]


def require(metric: str) -> ModuleType:
    """The package of a metric.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    module, distribution, _, _ = SOURCES[metric]
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"{metric} needs the package {distribution}: {EXTRA}")
    return importlib.import_module(module)


def with_weights(metric: str, make: Callable[[], Any]) -> Any:
    """What `make` builds from downloaded weights.

    Raises:
        FileNotFoundError: the weights are neither here nor to be had (offline, gated).
        ImportError: the package does not fit this environment.
    """
    _, distribution, weights, terms = SOURCES[metric]
    try:
        return make()
    except (ImportError, ValueError) as error:  # ValueError: compiled for another numpy
        raise ImportError(f"{metric}: the package {distribution} cannot be loaded here: {error}") from error
    except OSError as error:  # what transformers and huggingface_hub raise, offline and for gated repositories
        raise FileNotFoundError(
            f"{metric}: weights {weights} are not in the Hub cache and could not be fetched; download them once on a "
            f"machine with a network (terms: {terms}). Cause: {str(error).splitlines()[0]}"
        ) from error


def fetch_radgraph(model: str) -> None:
    """Fetch the weights where the package looks for them; it would answer any failure with a bare Exception."""
    source = importlib.import_module("radgraph.radgraph")
    if not any(Path(source.CACHE_DIR, model).glob("*")):
        hf_hub_download("StanfordAIMI/RRG_scorers", source.MODEL_MAPPING[model], cache_dir=source.CACHE_DIR)


def radgraph_scores(predictions: list[str], references: list[str], model: str = "radgraph-xl") -> Scores:
    """RadGraph F1 of each report: simple, partial, complete, and RadCliQ's combination. Empty reports score 0.

    The package reads one report at a time; each different text is annotated once.
    """
    package = require("radgraph")
    with_weights("radgraph", lambda: fetch_radgraph(model))
    annotate = with_weights("radgraph", lambda: package.RadGraph(model_type=model))
    texts = list(dict.fromkeys(text for text in (*predictions, *references) if text.strip()))
    annotations: dict[str, dict] = {"": {"entities": {}}}
    found = annotate(texts) if texts else {}
    annotations.update({text: found[str(row)] for row, text in enumerate(texts)})
    pairs = zip(predictions, references, strict=True)
    rows = [radgraph_f1(*(annotations[text if text.strip() else ""] for text in pair)) for pair in pairs]
    return {f"radgraph_{name}": [row[name] for row in rows] for name in ("simple", "partial", "complete", "combined")}


def bertscore_scores(predictions: list[str], references: list[str]) -> Scores:
    """BERTScore F1 (distilroberta-base, layer 5, rescaled with the English baseline, IDF off), RadCliQ's ingredient.

    IDF stays off: over one reference every IDF is 0 and the score is a constant (-5.55).
    """
    package = require("bertscore")
    scorer = with_weights(
        "bertscore",
        lambda: package.BERTScorer(
            model_type="distilroberta-base", num_layers=5, lang="en", idf=False, rescale_with_baseline=True
        ),
    )
    return {"bertscore": scorer.score(predictions, references)[2].tolist()}


def chexbert_similarity(predictions: list[str], references: list[str], labeler: CheXbertLabeler) -> Scores:
    """Cosine of the CheXbert vectors of prediction and reference."""
    one, two = (
        vectors / vectors.norm(dim=1, keepdim=True) for vectors in map(labeler.embed, (predictions, references))
    )
    return {"chexbert_similarity": (one * two).sum(dim=1).tolist()}


def bleu_2_scores(predictions: list[str], references: list[str]) -> Scores:
    """Sentence BLEU-2 as RadCliQ splits it: lower case, periods set apart."""
    hyps, refs = ([text.lower().replace(".", " .") for text in side] for side in (predictions, references))
    return {"bleu_2": bleu(language_rows(hyps, refs).bleu_counts)[:, 1].tolist()}


def radcliq_scores(predictions: list[str], references: list[str], labeler: CheXbertLabeler) -> Scores:
    """RadCliQ v0 and v1, raw, with their four ingredients (RadGraph v1 model, as published)."""
    radgraph = radgraph_scores(predictions, references, model="radgraph")
    parts = {
        "radgraph_combined": radgraph["radgraph_combined"],
        **bertscore_scores(predictions, references),
        **chexbert_similarity(predictions, references, labeler),
        **bleu_2_scores(predictions, references),
    }
    return {**{f"radcliq_{version}": radcliq(parts, version).tolist() for version in ("v0", "v1")}, **parts}


def radeval_scores(metric: str, predictions: list[str], references: list[str]) -> Scores:
    """GREEN or RaTEScore of each report, through RadEval."""
    package = require(metric)
    scorer = with_weights(metric, lambda: package.RadEval([metric], per_sample=True, show_progress=False))
    return {metric: list(map(float, scorer(refs=references, hyps=predictions)[metric]))}


def score_with_models(
    predictions: list[str], references: list[str], metrics: Sequence[str], labeler: CheXbertLabeler | None
) -> Scores:
    """Scores of each report by name.

    Raises:
        ValueError: RadCliQ is asked for without CheXbert.
    """
    scores: Scores = {}
    for metric in metrics:
        if metric == "radcliq":
            if labeler is None:
                raise ValueError(
                    "radcliq needs CheXbert vectors: give --chexbert CHECKPOINT (Stanford academic licence)"
                )
            scores.update(radcliq_scores(predictions, references, labeler))
        elif metric == "radgraph":
            scores.update(radgraph_scores(predictions, references))
        elif metric == "bertscore":
            scores.update(bertscore_scores(predictions, references))
        else:
            scores.update(radeval_scores(metric, predictions, references))
    return scores


def summarise(scores: Scores, metrics: Sequence[str], resamples: int, seed: int) -> dict[str, dict]:
    """Mean of each score with its interval and a signature that names the packages' versions."""
    needed = {part for name in metrics for part in (("radgraph", "bertscore") if name == "radcliq" else (name,))}
    packages = sorted({SOURCES[name][1] for name in needed})
    versions = "+".join(f"{name}-{importlib.metadata.version(name)}" for name in packages)
    summary = {}
    for name, values in scores.items():
        column = np.array(values)
        once = np.ones(len(column), dtype=np.int64)
        draws = bootstrap(once, column.__rmatmul__, resamples, seed)
        summary[name] = {
            **with_interval(np.array(math.fsum(values) / len(values)), draws / len(values)),
            "signature": signature(name, packages=versions, idf="off", n=len(values), bootstrap=resamples, seed=seed),
        }
    return summary


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="JSON lines: study_id, prediction, reference")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--references", type=Path, help="study records (studies.jsonl); must hold the same studies")
    parser.add_argument("--split", help="only the references of this split")
    parser.add_argument("--section", choices=SECTIONS, default="report")
    parser.add_argument("--chexbert", type=Path, help="CheXbert checkpoint, for radcliq")
    parser.add_argument("--chexbert-tokenizer", default="bert-base-uncased")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    _, references = open_studies(options.predictions, options.references, options.split)
    labeler = None if options.chexbert is None else CheXbertLabeler(options.chexbert, options.chexbert_tokenizer)
    pairs = list(read_pairs(options.predictions, references, options.section, given_labels=False))
    scores = score_with_models([p.prediction for p in pairs], [p.reference for p in pairs], options.metrics, labeler)
    summary = summarise(scores, options.metrics, options.resamples, options.seed)
    studies = [{"study_id": p.study_id, **{n: v[row] for n, v in scores.items()}} for row, p in enumerate(pairs)]
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"n": len(pairs), "scores": summary, "studies": studies}
    (options.out / "model_metrics.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, score in summary.items():
        print(f"{name:24} {number_text(score['value']):>8}  {interval_text(score)}")


if __name__ == "__main__":
    main()
