"""What a training draw is told beside the images: each part of a study's context, or not."""

from dataclasses import replace
from typing import Any

import numpy as np

from evaluation.reading.comparison_rewriting import without_comparisons
from evaluation.reading.prior_comparisons import comparison_sentences, has_prior
from training.data.study import CONTEXT_FIELDS, Study


def without_context(record: Study, share: float, rng: np.random.Generator) -> Study:
    """The study with each part of its context left out with probability `share`, on its own.

    Without its prior the report must not compare: it is rewritten (`without_comparisons`). Where that is not possible,
    or leaves nothing, the study keeps what tells of the prior.
    """
    dropped: dict[str, Any] = {name: None for name in CONTEXT_FIELDS if rng.random() < share}
    left = replace(record, **dropped)
    if not has_prior(record) or has_prior(left):
        return left
    findings, impression = without_comparisons(record.findings, record.impression)
    if any(map(comparison_sentences, (findings, impression))) or not (findings or impression):
        return replace(left, comparison=record.comparison, prior_report=record.prior_report)
    return replace(left, findings=findings, impression=impression)
