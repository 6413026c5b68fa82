"""radiology-ce: clinical efficacy of chest X-ray reports, every named convention with a signature."""

import datasets
import evaluate

try:
    from evaluation.metrics.chexbert import CheXbertLabeler
    from evaluation.metrics.clinical import (
        CONVENTIONS,
        LabelPatterns,
        clinical_scores,
        decode_labels,
        encode_labels,
        example_f1,
    )
    from evaluation.metrics.signature import LABELER
    from evaluation.reading.labeler import label_report, label_reports
    from evaluation.reading.observations import CHEXPERT_14
except ImportError as error:
    raise ImportError(
        "This is the source of the metric trrg/radiology-ce, which needs the other modules of the TRRG repository. "
        "From a checkout, `python evaluation/publish_metric.py --out build` writes the complete metric, and "
        'evaluate.load("trrg/radiology-ce") finds it in the folder build.'
    ) from error

_DESCRIPTION = """\
Clinical efficacy of generated chest X-ray reports. Both reports are labelled with the 14 CheXpert observations and the
labels are compared under the named conventions of the field (r2gen, wcl, miura, nicolson, rgrg, radialog, f1chexbert,
maira), which disagree on uncertain labels, label sets and averages. Each score comes with a 95 % bootstrap interval
and a one-line signature. The built-in rule labeler needs no model, no network and no Java. Never for clinical use.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: generated reports (text; None or "" is an empty report), or dictionaries of the 14 labels.
    references: the radiologists' reports, or dictionaries of the 14 labels (1 present, 0 absent, -1 uncertain,
        None or NaN not mentioned).
    conventions: names of the conventions wanted; all of them by default.
    chexbert: path of a CheXbert checkpoint (bring your own: Stanford's academic licence). The rules by default.
    chexbert_tokenizer: name or folder of the tokenizer of the checkpoint.
    resamples: bootstrap resamples for the intervals; 0 for none.
    seed: of the bootstrap.
    per_report: whether to return the labels and the example F1 of each report.
    processes: worker processes of the rule labeler.
Returns:
    n: number of report pairs.
    scores: {"convention/score": {"value", "low", "high", "signature"}}.
    per_label: {label: {"uncertain_0" | "uncertain_1": {"precision", "recall", "f1", "support"}}}.
    per_report: only if asked: {"reference_labels", "prediction_labels", "example_f1"} of each report.
Examples:
    >>> import evaluate
    >>> metric = evaluate.load("trrg/radiology-ce")
    >>> result = metric.compute(
    ...     predictions=["Small left pleural effusion. No pneumothorax.", "The lungs are clear."],
    ...     references=["Left pleural effusion. No pneumothorax.", "Left lower lobe pneumonia."],
    ...     conventions=["r2gen", "miura"],
    ... )
    >>> round(result["scores"]["miura/micro_5_f1"]["value"], 4)
    1.0
    >>> print(result["scores"]["r2gen/micro_14_f1"]["signature"].split("|n:")[0])
    radiology-ce/f1|labeler:rules-0.3.0|convention:r2gen|uncertain:0|labels:14|average:micro
"""

_CITATION = """\
@software{trrg_radiology_ce,
  title = {radiology-ce: clinical efficacy of radiology reports, with named conventions},
  author = {{The TRRG package authors}}
}
"""

LABELS = {name: datasets.Value("float32") for name in CHEXPERT_14}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RadiologyCE(evaluate.Metric):
    """The metric that `evaluate.load` returns; see the description above."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=[
                datasets.Features({"predictions": text, "references": text}),
                datasets.Features({"predictions": LABELS, "references": LABELS}),
            ],
            reference_urls=["https://huggingface.co/spaces/trrg/radiology-ce"],
        )

    def explain(self, report):
        """Why the built-in rules label a report as they do.

        Args:
            report: its text.

        Returns:
            {observation: {"label", "rule", "mention", "cue", "scope", "sentence", "section"}}; `scope` is the stretch
            of words that decided, None where nothing is said.
        """
        return {name: reason._asdict() for name, reason in label_report(report, explain=True).items()}

    def compute(self, *, predictions=None, references=None, **options):
        """As `evaluate` does it, after a look at what it would only answer with a bare KeyError or IndexError."""
        for name, reports in (("predictions", predictions), ("references", references)):
            if reports is not None and len(reports) == 0:
                raise ValueError(f"{name} is empty: there is nothing to score")
            if reports is not None and isinstance(reports[0], dict):
                encode_labels(reports, name)
        return super().compute(predictions=predictions, references=references, **options)

    def _compute(
        self,
        predictions,
        references,
        conventions=None,
        chexbert=None,
        chexbert_tokenizer="bert-base-uncased",
        resamples=1000,
        seed=0,
        per_report=False,
        processes=1,
    ):
        if isinstance(predictions[0], dict):
            labeler, labels = "given", (references, predictions)
        elif chexbert is not None:
            label = CheXbertLabeler(chexbert, chexbert_tokenizer)
            labeler, labels = "chexbert", [label([text or "" for text in side]) for side in (references, predictions)]
        else:
            labeler = LABELER
            labels = [list(label_reports(side, processes)) for side in (references, predictions)]
        reference, prediction = encode_labels(labels[0], "references"), encode_labels(labels[1], "predictions")
        patterns = LabelPatterns.from_codes(reference, prediction)
        wanted = list(CONVENTIONS) if conventions is None else conventions
        result = {"n": len(patterns), **clinical_scores(patterns, wanted, labeler, resamples, seed)}
        if per_report:
            example = [example_f1(reference, prediction, uncertain).tolist() for uncertain in (0, 1)]
            rows = zip(decode_labels(reference), decode_labels(prediction), *example, strict=True)
            result["per_report"] = [
                {
                    "reference_labels": reference_labels,
                    "prediction_labels": prediction_labels,
                    "example_f1": {"uncertain_0": without, "uncertain_1": with_uncertain},
                }
                for reference_labels, prediction_labels, without, with_uncertain in rows
            ]
        return result
