"""Chats about studies that were looked at once: the model's report, then any number of questions, each on its own."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from processing_trrg import StudyBatch, revise_reports, unpadded
from processing_trrg.chat_trrg import longest_chat

YES, NO = "Yes.", "No."
"""How answers begin in training (`training/data/dialogue.py`)."""


class Question(NamedTuple):
    """The turn after a report.

    Attributes:
        row: of the study in its batch.
        reply: the report that the model has written so far.
        text: what the user says next.
        earlier: turns before that: the report, and what was asked behind it.
    """

    row: int
    reply: str
    text: str
    earlier: tuple[tuple[str, str], ...] = ()


class YesNo(NamedTuple):
    """What the first token of an answer that tells yes from no says.

    Attributes:
        yes: probability of yes against no.
        answered: whether one of the two is the likeliest token of all.
    """

    yes: float
    answered: bool


def yes_no_tokens(processor: Any) -> tuple[list[int], int, int]:
    """Where "Yes." and "No.", as the model writes a reply, part: the tokens that both begin with (often none, or the
    space), and the next one of each.

    Raises:
        ValueError: they do not part, so that no token tells yes from no.
    """
    yes, no = (processor.reply_ids(word)[0].tolist() for word in (YES, NO))
    same = next((place for place, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
    if same is None:
        raise ValueError(f"tokenizer: {YES!r} is {yes} and {NO!r} is {no}; expected tokens that tell yes from no")
    return yes[:same], yes[same], no[same]


class Chats:
    """A batch of studies and the report of each.

    Args:
        model, processor: of a checkpoint.
        batch: of `prepare_studies`; the vision tower looks at it here and never again.
        revise: the reports by their clues, as the pipeline does.
        options: of `generate`, for reports and answers.

    Attributes:
        reports: one a study, with its clues; of pictures that the model cannot read too, since each is asked about.
    """

    def __init__(self, model: Any, processor: Any, batch: StudyBatch, revise: bool = True, **options: Any):
        self.model, self.processor, self.options = model, processor, options
        batch = batch.to(model.device)
        with torch.no_grad():
            self.study = model.read_study(**batch)
            prompts = processor.say_findings(batch, self.study)
            texts = {name: prompts[name] for name in ("input_ids", "attention_mask")}
            self.reports = processor.post_process_report(
                model.generate(**texts, study=self.study, **options), prompts, self.study, abstain=False
            )
            revisions = revise_reports(self.reports, model, processor, prompts, self.study, options) if revise else []
        self._names = [words["study_id"] for words in prompts.studies]
        self._prompts = unpadded(prompts)
        self._revisions: list[list[tuple[str, str]]] = [[] for _ in self.reports]
        for row, turns in enumerate(revisions):
            replies = [self.reports[row].as_written, *(turn.report for turn in turns)]
            self._revisions[row] = [(reply, turn.request) for reply, turn in zip(replies, turns, strict=False)]

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """The answer to each question, which knows of no other question.

        Raises:
            ValueError: a chat is longer than the processor's `max_length` or the model's context.
        """
        answers = []
        for inputs in self._inputs(questions):
            ids = self.model.generate(**inputs, **self.options)
            answers += [report.text for report in self.processor.post_process_report(ids, inputs)]
        return answers

    def yes_or_no(self, questions: Sequence[Question]) -> list[YesNo]:
        """The token of the answer to each question that tells yes from no. Raises as `ask` and `yes_no_tokens` do."""
        start, yes, no = yes_no_tokens(self.processor)
        answers = []
        for inputs in self._inputs(questions):
            shared = inputs["input_ids"].new_tensor([start] * len(inputs["input_ids"]))
            inputs["input_ids"] = torch.cat([inputs["input_ids"], shared], 1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(shared)], 1)
            one = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
            logits = self.model.generate(**inputs, **one).logits[0].float()
            chances = torch.sigmoid(logits[:, yes] - logits[:, no]).tolist()
            first = logits.argmax(1).tolist()
            answers += [
                YesNo(round(chance, 6), token in (yes, no)) for chance, token in zip(chances, first, strict=True)
            ]
        return answers

    def _chat(self, asked: Question) -> torch.Tensor:
        """The ids of a chat. Before the model's own report stand the turns that revised it; the oldest turns are
        forgotten where there is no room for them and a reply."""
        turns = [*asked.earlier, (asked.reply, asked.text.strip())]
        if turns[0][0] == self.reports[asked.row].text:
            turns = self._revisions[asked.row] + turns
        reply = self.options.get("max_new_tokens") or self.model.generation_config.max_new_tokens or 0
        while True:
            ids = self._prompts[asked.row]
            for said, request in turns:
                (ids,) = self.processor.next_turns([ids], [said], [request])
            if len(turns) == 1 or len(ids) + reply <= longest_chat(self.model, self.processor):
                return ids
            turns = turns[1:]

    def _inputs(self, questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
        """Tensors of `generate`, for as many questions at a time as there are studies in the batch."""
        size = len(self.reports)
        for start in range(0, len(questions), size):
            some = questions[start : start + size]
            for asked in some:
                self.processor.check_request("question", asked.text)
            inputs = self.processor.pad_chats([self._chat(asked) for asked in some], self.model.device)
            lengths, most = inputs["attention_mask"].sum(1), longest_chat(self.model, self.processor)
            if lengths.max() > most:
                name = self._names[some[int(lengths.argmax())].row]
                raise ValueError(
                    f"study {name!r}: report and question are {int(lengths.max())} tokens long, max_length is {most}"
                )
            yield inputs | {"study": self.study.select(torch.tensor([asked.row for asked in some]))}
