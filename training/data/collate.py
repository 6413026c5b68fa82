"""Examples -> the tensors of one forward pass, by the checkpoint's own processor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from evaluation.reading.observations import MISSING, certain, tensor_labels
from processing_trrg import (
    PreparedView,
    StudyError,
    TRRGImageProcessor,
    TRRGProcessor,
    follow_up,
    report_messages,
    report_text,
)
from processing_trrg.prompt_trrg import FINDINGS_FIELDS
from training.data.clue_wordings import reworded
from training.data.examples import Example
from training.data.given_scores import Thresholds, moved
from training.data.sampler import keyed_rng
from training.data.study import CONTEXT_FIELDS


def pad_views(
    studies: list[list[np.ndarray]], image_processor: TRRGImageProcessor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The squares of each study's views as `pixel_values` `[B, V, 3, S, S]` and `image_mask` `[B, V]`."""
    views = torch.tensor([len(squares) for squares in studies])
    mask = torch.arange(int(views.max()))[None, :] < views[:, None]
    pixels = image_processor.normalise(np.stack([square for squares in studies for square in squares]))
    if mask.all():
        return pixels.view(*mask.shape, *pixels.shape[1:]), mask
    padded = torch.zeros(*mask.shape, *pixels.shape[1:])
    padded[mask] = pixels
    return padded, mask


class PretrainCollator:
    """Stage 1: images, drawn sentences with what they assert, the clues and the studies' labels.

    reports: whole reports instead of sentences, one a study (alignment of the query transformer); one that is
        empty, of an image alone, is masked out.
    share, nonsense: of clues in other words, and of nonsense clues, see `reworded`; drawn by the studies of the batch.
    """

    def __init__(
        self,
        processor: TRRGProcessor,
        max_sentence_tokens: int = 64,
        reports: bool = False,
        share: float = 0.0,
        nonsense: int = 0,
    ):
        self.processor, self.reports, self.share, self.nonsense = processor, reports, share, nonsense
        # the tokenizer's limit is the clue encoder's; the query transformer has positions of its own
        self.max_tokens = 256 if reports else min(max_sentence_tokens, processor.clue_tokenizer.model_max_length)

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        squares = [example.squares for example in examples]
        pixel_values, image_mask = pad_views(squares, self.processor.image_processor)
        sentences = [(row, sentence) for row, example in enumerate(examples) for sentence in example.sentences]
        encoded = self.processor.clue_tokenizer(
            [sentence.text for _, sentence in sentences],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        encoded["attention_mask"] *= torch.tensor([[bool(sentence.text)] for _, sentence in sentences])
        clues = _reworded(self.processor, examples, self.share, self.nonsense)
        return {
            "study_ids": [example.study_id for example in examples],
            "num_text_tokens": int(encoded["attention_mask"].sum()),
            "pixel_values": pixel_values,
            "image_mask": image_mask,
            "sentence_input_ids": encoded["input_ids"],
            "sentence_attention_mask": encoded["attention_mask"],
            "sentence_study": torch.tensor([row for row, _ in sentences]),
            "sentence_keys": torch.tensor([sentence.key for _, sentence in sentences]),
            "sentence_targets": torch.tensor(
                [[*tensor_labels(certain(s.labels)), *[MISSING] * self.nonsense] for _, s in sentences]
            ),
            "clue_targets": torch.tensor(
                [[*tensor_labels(example.labels), *[0] * self.nonsense] for example in examples]
            ),
            "study_source": torch.tensor([example.source for example in examples]),
            **self.processor.clue_tensors(clues),
        }


class FinetuneCollator:
    """Stage 2: prompt and report as tokens, with the images, or with oracle clue scores where there is none. Exchanges
    that the language model's context has no room for are left out, the last ones first. All that the model says in a
    chat is learned, but for a report that was spoiled to be corrected, or cut.

    share, nonsense: as in `PretrainCollator`.
    thresholds: of the clues in their own words, and of one in others: scores that are given move with them.
    """

    def __init__(
        self,
        processor: TRRGProcessor,
        share: float = 0.0,
        nonsense: int = 0,
        thresholds: tuple[Thresholds, float] | None = None,
    ):
        self.processor, self.share, self.nonsense, self.thresholds = processor, share, nonsense, thresholds
        self.names = [clue["name"] for clue in processor.clues]

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        try:
            return self._batch(examples)
        except StudyError:
            shorter = [self._shortened(example) for example in examples]
            if all(new is old for new, old in zip(shorter, examples, strict=True)):
                raise
            return self._batch(shorter)

    def _shortened(self, example: Example) -> Example:
        """The example with as many of its exchanges as the context has room for."""
        while example.exchanges and self.is_too_long(example):
            example = replace(example, exchanges=example.exchanges[:-1])
        return example

    def _batch(self, examples: list[Example]) -> dict[str, Any]:
        without_image, given = not examples[0].squares, examples[0].scores is not None
        if any((not e.squares, e.scores is not None) != (without_image, given) for e in examples):
            raise ValueError("a forward pass mixes studies with and without images; sources must come in whole blocks")
        study_ids = [example.study_id for example in examples]
        inputs: dict[str, Any] = {
            # an answer says little of the image: without any known target it has no consistency loss
            "clue_targets": [
                dict(zip(self.names, e.labels, strict=True)) if not e.exchanges or _says_report(e) else {}
                for e in examples
            ],
            "study_ids": study_ids,
            "report": [_answer(example) for example in examples],
        }
        clues = _reworded(self.processor, examples, self.share, self.nonsense)
        absent = {clue["name"]: 0.0 for clue in clues or () if clue["name"] not in self.names}
        if given:
            inputs["clue_scores"] = [
                dict(zip(self.names, self._in_other_words(example.scores, clues), strict=True)) | absent
                for example in examples
                if example.scores is not None
            ]
        inputs["turns"] = [_turns(example) for example in examples]
        fields = [self._fields(example) for example in examples]
        inputs |= {name: [row[name] for row in fields] for name in fields[0]}
        images = None if without_image else [[PreparedView(square) for square in e.squares] for e in examples]
        batch = dict(self.processor(images=images, clues=clues, **inputs))
        for row, example in enumerate(examples):
            self._learn_replies(batch["labels"][row], example)
        batch["study_ids"] = study_ids
        batch["num_text_tokens"] = int(batch["attention_mask"].sum())
        return batch

    def _in_other_words(self, scores: np.ndarray, clues: Sequence[Mapping[str, str]] | None) -> list[float]:
        """Given scores `[C]` at the thresholds that the clues have in the words of this batch."""
        if clues is not None and self.thresholds is not None:
            own, other = self.thresholds
            asked = [clue["positive"] for clue in clues[: len(scores)]]
            is_own = [clue["positive"] == words for clue, words in zip(self.processor.clues, asked, strict=True)]
            scores = moved(scores, own, np.where(is_own, own, other))
        return list(map(float, scores))

    def _learn_replies(self, labels: torch.Tensor, example: Example) -> None:
        """Labels `[T]` of the last answer: learn the replies before the questions too, and their ends."""
        start = int((labels >= 0).int().argmax())
        for place, (said, asked) in reversed(list(enumerate(_turns(example)))):
            reply, turn = self.processor.reply_ids(said)[0], self.processor.turn_ids(asked)[0]
            start -= len(turn) + len(reply)
            if place or _says_report(example):
                labels[start : start + len(reply) + 1] = torch.cat([reply, turn[:1]])

    def is_too_long(self, example: Example, num_views: int | None = None) -> bool:
        """Whether the language model's context has no room for an example's prompt and target.

        num_views: of the study; None: as many as the example has squares.
        """
        processor, tokenizer = self.processor, self.processor.tokenizer
        if processor.max_length is None:
            return False
        views = max(len(example.squares), 1) if num_views is None else num_views
        prompt = tokenizer(self._prompt(example, views), add_special_tokens=False)["input_ids"]
        tokens = len(prompt) + processor.reply_ids(_answer(example).strip()).shape[1] + 1  # and the end
        return tokens + views * (processor.num_image_tokens - 1) > processor.max_length

    def _fields(self, example: Example) -> dict[str, Any]:
        """What the prompt of a report is made from."""
        fields: dict[str, Any] = {name: example.record.get(name) for name in CONTEXT_FIELDS}
        if self.processor.says_findings:
            known = zip(self.names, example.labels, strict=True)
            true = [name for name, label in known if label == 1]
            seen = (true, None, None) if example.predicted is None else example.predicted.findings
            fields |= zip(FINDINGS_FIELDS, seen, strict=True)
        return fields

    def _prompt(self, example: Example, num_views: int) -> str:
        """The chat up to what is learned: the request, and with an exchange report and question."""
        chat = report_messages(self.processor.prompt_style, num_views, **self._fields(example))
        for reply, question in _turns(example):
            chat = follow_up(chat, reply, question)
        return self.processor.apply_chat_template(chat, add_generation_prompt=True)


def _turns(example: Example) -> list[tuple[str, str]]:
    """Before each question of the chat what the model had said last, and the question."""
    said = [exchange.answer for exchange in example.exchanges]
    return [
        (before or exchange.reply, exchange.question)
        for before, exchange in zip([None, *said], example.exchanges, strict=False)
    ]


def _says_report(example: Example) -> bool:
    """Whether what was said before the first question is the study's whole report."""
    report = report_text(example.record.get("findings"), example.record.get("impression"))
    return bool(example.exchanges) and example.exchanges[0].reply.split() == report.split()


def _reworded(
    processor: TRRGProcessor, examples: list[Example], share: float, nonsense: int
) -> list[dict[str, str]] | None:
    if not share and not nonsense:
        return None
    return reworded(processor.clues, share, nonsense, keyed_rng("wordings", *[e.study_id for e in examples]))


def _answer(example: Example) -> str:
    if example.exchanges:
        return example.exchanges[-1].answer
    return report_text(example.record.get("findings"), example.record.get("impression"))


def text_length(example: Example) -> int:
    """Characters of an example's context and chat: about how long its row of a stage-2 batch is."""
    said = [example.record.get(name) for name in CONTEXT_FIELDS]
    said += [text for turn in _turns(example) for text in turn]
    return sum(len(text) for text in (*said, _answer(example)) if text)


def count_targets(batch: dict[str, Any]) -> int:
    """Target tokens of a stage-2 batch: the first position predicts nothing."""
    return int((batch["labels"][:, 1:] != MISSING).sum())
