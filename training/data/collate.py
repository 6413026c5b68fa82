"""Examples -> the tensors of one forward pass, by the checkpoint's own processor."""

from typing import Any

import numpy as np
import torch

from evaluation.reading.observations import MISSING, certain, tensor_labels
from processing_trrg import PreparedView, TRRGProcessor, report_text
from training.data.examples import Example


class PretrainCollator:
    """Stage 1: images, drawn sentences with what they assert, the clues and the studies' labels.

    reports: whole reports instead of sentences, one a study (alignment of the query transformer).
    """

    def __init__(self, processor: TRRGProcessor, max_sentence_tokens: int = 64, reports: bool = False):
        self.processor, self.reports = processor, reports
        tokenizer = processor.clue_tokenizer
        limit = tokenizer.model_max_length
        self.max_tokens = min(max_sentence_tokens if not reports else 256, limit)

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        pixel_values, image_mask = self._pixels(examples)
        sentences = [(row, sentence) for row, example in enumerate(examples) for sentence in example.sentences]
        encoded = self.processor.clue_tokenizer(
            [sentence.text for _, sentence in sentences],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return {
            "study_ids": [example.study_id for example in examples],
            "num_text_tokens": int(encoded["attention_mask"].sum()),
            "pixel_values": pixel_values,
            "image_mask": image_mask,
            "sentence_input_ids": encoded["input_ids"],
            "sentence_attention_mask": encoded["attention_mask"],
            "sentence_study": torch.tensor([row for row, _ in sentences]),
            "sentence_keys": torch.tensor([sentence.key for _, sentence in sentences]),
            "sentence_targets": torch.tensor([tensor_labels(certain(s.labels)) for _, s in sentences]),
            "clue_targets": torch.tensor([tensor_labels(example.labels) for example in examples]),
            "study_source": torch.tensor([example.source for example in examples]),
            **self.processor.clue_tensors(),
        }

    def _pixels(self, examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        views = torch.tensor([len(example.squares) for example in examples])
        mask = torch.arange(int(views.max()))[None, :] < views[:, None]
        squares = np.stack([square for example in examples for square in example.squares])
        pixels = self.processor.image_processor.normalise(squares)
        if mask.all():
            return pixels.view(*mask.shape, *pixels.shape[1:]), mask
        padded = torch.zeros(*mask.shape, *pixels.shape[1:])
        padded[mask] = pixels
        return padded, mask


class FinetuneCollator:
    """Stage 2: prompt and report as tokens, with the images, or with oracle clue scores where there is none."""

    def __init__(self, processor: TRRGProcessor):
        self.processor = processor

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        records = [example.record for example in examples]
        without_image, given = not examples[0].squares, examples[0].scores is not None
        if any((not e.squares, e.scores is not None) != (without_image, given) for e in examples):
            raise ValueError("a forward pass mixes studies with and without images; sources must come in whole blocks")
        names = [clue["name"] for clue in self.processor.clues]
        inputs: dict[str, Any] = {
            "indication": [record.get("indication") for record in records],
            "technique": [record.get("technique") for record in records],
            "comparison": [record.get("comparison") for record in records],
            "prior_report": [record.get("prior_report") for record in records],
            # an answer says little of the image: without any known target it has no consistency loss
            "clue_targets": [dict(zip(names, e.labels, strict=True)) if e.exchange is None else {} for e in examples],
            "study_ids": [example.study_id for example in examples],
        }
        inputs["report"] = [
            example.exchange.answer
            if example.exchange
            else report_text(example.record.get("findings"), example.record.get("impression"))
            for example in examples
        ]
        if given:
            inputs["clue_scores"] = [
                dict(zip(names, map(float, example.scores), strict=True))
                for example in examples
                if example.scores is not None
            ]
        if self.processor.says_findings:
            inputs["predicted_findings"] = [
                [name for name, label in zip(names, example.labels, strict=True) if label == 1] for example in examples
            ]
        inputs["turns"] = [[(e.exchange.reply, e.exchange.question)] if e.exchange else [] for e in examples]
        images = None if without_image else [[PreparedView(square) for square in e.squares] for e in examples]
        batch = dict(self.processor(images=images, **inputs))
        batch["study_ids"] = [example.study_id for example in examples]
        batch["num_text_tokens"] = int(batch["attention_mask"].sum())
        return batch


def count_targets(batch: dict[str, Any]) -> int:
    """Target tokens of a stage-2 batch: the first position predicts nothing."""
    return int((batch["labels"][:, 1:] != MISSING).sum())
