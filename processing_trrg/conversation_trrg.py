"""A study to talk about: questions, and corrections of its report. One look and one cache for the whole conversation.

    study = pipeline("radiology-report", model="demo/trrg-small", trust_remote_code=True)("chest.png")
    study.ask("Is there a pleural effusion?")
    done = study.correct(remove=["Pleural Effusion"])  # or in words, or clues={"Pleural Effusion": 0}

Research only, never for clinical use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from transformers.generation import GenerateBeamDecoderOnlyOutput
from transformers.utils import logging

from .batch_trrg import StudyBatch, scores_by_clue
from .chat_trrg import check_lengths, longest_chat
from .corrected_trrg import correct_reports
from .findings_trrg import finding_of, stated
from .grounding_trrg import FindingBox, read_grounded
from .prompt_trrg import (
    CONTEXT_FIELDS,
    FINDINGS_FIELDS,
    GROUNDED_REQUEST,
    PromptError,
    correction_request,
    message,
    refuse_other_images,
    report_messages,
    said,
)  # fmt: skip
from .report_trrg import (
    UNREADABLE,
    ClueScore,
    Correction,
    Report,
    compare_reports,
    decode,
    sorted_clues,
    split_report,
)  # fmt: skip
from .requests_trrg import known_findings, read_request, refuse_unclear
from .revised_trrg import Revision
from .statements_trrg import NO_FINDING, look_up

logger = logging.get_logger(__name__)

SHORT_REPLY = 20  # tokens of a reply that `generate` is told nothing about, as in Transformers


@dataclass
class Turn:
    """A turn of the user and the reply, in words and as ids `[1, t]`; the end of the reply belongs to the next turn."""

    messages: list[dict[str, Any]]
    asked: torch.Tensor
    reply: str
    answer: torch.Tensor
    complete: bool | None


class TalkedStudy(Report):
    """The current report of one study, which can be asked about and corrected. Made by the pipeline.

    The features of the first look are kept, and the key-value cache of the text: a turn computes its own tokens alone.
    A copy or a pickle of it is a plain `Report`; where many are collected, collect `report`, which holds no features.
    """

    def __init__(self, report, model, processor, batch, study, options, generated) -> None:
        """
        Args:
            report: the first one.
            model, processor: that wrote it.
            batch: what the processor made of the study.
            study: its features, `TRRGStudyFeatures` of one study.
            options: for `generate`, in every turn.
            generated: what `generate` returned, as a dict.
        """
        super().__init__(*_values(report))
        self._model, self._processor, self._options = model, processor, options
        kept = ("input_ids", "attention_mask", *processor.clue_input_names)
        tensors = {name: batch[name] for name in kept if name in batch}
        self._batch = StudyBatch(tensors, [0], [], batch.clues, batch.studies)
        self._study, self._warned = study, False
        messages, asked = self._first_turn(study)
        self._turns = [self._turn(messages, asked, generated, asked.shape[1])]
        self._current = self._turns[0]

    def __reduce__(self):
        return Report, _values(self)

    @property
    def report(self) -> Report:
        """The current report: the first one, or the last correction."""
        return Report(*_values(self))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat so far as the model knows it: roles and texts, an image part a view; the reply that is the current
        report has the name "report". The pipeline takes it as `messages`, to go on with the chat another day."""
        chat: list[dict[str, Any]] = []
        for turn in self._turns:
            named = {"name": "report"} if turn is self._current else {}
            chat += [*map(dict, turn.messages), message("assistant", turn.reply) | named]
        return chat

    def free_cache(self) -> None:
        """Give the memory of the cache back; the next turn reads the chat anew, without another look at the study."""
        self._cache: dict[str, Any] = {}

    def rest(self) -> None:
        """Leave the accelerator: no cache, and the features wait on the CPU for the next turn."""
        self.free_cache()
        self._study = self._study.to("cpu")

    def ask(self, question: str, streamer: Any = None, **generate: Any) -> str:
        """The answer to a question about the study and its report.

        Args:
            question: in words.
            streamer: of Transformers; gets the answer's tokens as they come.
            generate: anything else that `generate` takes.

        Raises:
            PromptError: no words, words that only a chat template writes, a question about an image that was not given,
                or a chat that does not fit into the context even without its older turns; or a picture that the model
                cannot read.
        """
        self._processor.check_request("question", question)
        words = self._batch.studies[0]
        views = 0 if self._study.last_hidden_state is None else words["num_views"]
        prior = words["prior_report"] or words.get("compared_with") or words["comparison"]
        refuse_other_images(question, views, bool(prior))
        return self._say(question, streamer, generate).reply

    def ground(self, **generate: Any) -> list[FindingBox]:
        """Where the report's findings are, in the words of a model that learned it (the dialogue kind `grounding`). The
        boxes are among `boxes` until the report is corrected.

        Raises:
            PromptError: the study has no image; or see `ask`.
        """
        if self.frontal is None:
            raise PromptError("ground: the study is known by its clues alone, there is no image to point at")
        self.grounded = read_grounded(self._say(GROUNDED_REQUEST, None, generate).reply)
        return [box for box in self.boxes if box.source == "text"]

    def correct(
        self,
        request: str | None = None,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        clues: Mapping[str, float] | None = None,
        streamer: Any = None,
        **generate: Any,
    ) -> Correction:
        """Have the report written again with what is asked and nothing else changed; it is the current one then. What
        the model changed beside the findings that were asked for is taken back, and what was to be removed and it left
        goes. A finding that is to be added and that the report still does not state is asked for again, at most twice,
        the last time behind the report as it was written first, where that is another (`corrected_trrg`).

        Args:
            request: free words.
            add, remove: findings to state and not to state: clues of the study, or one of them with its side.
            clues: new scores, 0 to 1, of clues of the study. The image features are made anew with them, without
                another look at the image. A clue's sides follow it, and "No Finding" a finding that is there. Where
                the report says otherwise, the correction is then asked for in words.
            streamer, generate: as in `ask`; a streamer gets what the model writes, before anything is taken back.

        Raises:
            PromptError: nothing or a question asked, an unknown finding, one that is added and removed; or see `ask`.
            ValueError: clues of a model that knows none.
        """
        self._refuse_unreadable()
        before, spelled = self.report, {name.lower(): name for name in self._batch.clue_names}
        if not isinstance(clues, Mapping | None):
            raise PromptError(f"clues: expected scores by the names of clues, got {clues!r:.80}")
        edits = {spelled.get(str(name).lower(), name): score for name, score in (clues or {}).items()}
        adding, removing, study = self._asked(request, add, remove, edits)
        if request is None:  # of an edited clue, what the report does not say already
            request = correction_request(
                [name for name in adding if name not in edits or not stated(self.text, name)],
                [name for name in removing if name not in edits or stated(self.text, name)],
            )
        seen = self._study, self.clues, self._turns[0].messages, self._turns[0].asked
        turns, current, is_another = [*self._turns], self._current, self._turns[0].reply != self.text
        try:
            if study is not None:
                self._see(study, sorted_clues(study, self._batch.clue_names, 1)[0], *self._first_turn(study))
            correct_reports(
                [self.text], [(request, adding, removing)],
                lambda asked, anew: [self._say(asked[0], streamer, generate, anew and is_another).reply],
                lambda _, text: self._take(self._turns[-1], text),
            )  # fmt: skip
        except BaseException:  # broken off, be it when asked again: all is as it was
            self._turns, self._current = turns, current
            for field in fields(Report):
                setattr(self, field.name, getattr(before, field.name))
            self.free_cache()
            if study is not None:
                self._see(*seen)
            raise
        look_up([self], self._model, self._processor, self._batch, self._awake())
        not_done = [name for name in adding if not stated(self.text, name)]
        not_done += [name for name in removing if stated(self.text, name)]
        asked = {"add": adding, "remove": removing}
        return Correction(self.report, compare_reports(before, self), asked, not_done if adding or removing else None)

    def recall(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Put turns of an earlier chat behind the report: the user's, the reply, and so on (`messages`).

        Raises:
            PromptError: they do not alternate, or see `ask`.
        """
        if [message.get("role") for message in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise PromptError("messages: behind the report expected turns of user and assistant, each with its reply")
        for user, assistant in zip(messages[::2], messages[1::2], strict=True):
            words = [said(message).strip() for message in (user, assistant)]
            self._processor.check_request("user message", words[0])
            self._processor.check_said("assistant message", words[1])
            self._put(*words)
            if assistant.get("name") == "report":
                self._take(self._turns[-1], words[1])
                look_up([self], self._model, self._processor, self._batch, self._awake())

    def remember(self, turns: Sequence[Revision]) -> None:
        """Put the turns that revised the report behind it as it was written."""
        for turn in turns:
            self._current = self._put(turn.request, turn.report)

    def _put(self, request: str, reply: str) -> Turn:
        """A turn that was not generated here."""
        asked, answer = self._processor.turn_ids(request), self._processor.reply_ids(reply)
        device = self._turns[0].asked.device
        self._turns.append(Turn([message("user", request)], asked.to(device), reply, answer.to(device), None))
        return self._turns[-1]

    # --- what is asked ---

    def _asked(self, request: str | None, add: Iterable[str], remove: Iterable[str], edits: Mapping[str, float]) -> Any:
        """Findings to add and to remove, and the study with edited clues (None: none was edited)."""
        names, study = self._batch.clue_names, None
        if request is not None:
            if add or remove or edits:
                raise ValueError("request: free words stand alone; put findings and clues into a call of their own")
            self._processor.check_request("request", request)
            refuse_unclear(request, findings := [name for name in names if name != NO_FINDING])
            adding, removing = read_request(request, findings)
        else:
            adding, removing = known_findings("add", add, names), known_findings("remove", remove, names)
            if not (adding or removing or edits):
                raise PromptError("correction: nothing is asked; give words, findings to add or to remove, or clues")
            if edits:
                study = self._edited(edits)
                heard = dict(zip(names, study.selected_clues[0].tolist(), strict=True))
                there = [
                    name for name in names if heard[name] and finding_of(name) not in (NO_FINDING, "Support Devices")
                ]
                if there and NO_FINDING in edits and heard[NO_FINDING]:
                    raise PromptError(f"clues: {NO_FINDING!r} contradicts {there[0]!r}; give that a score too")
                adding += [name for name in edits if heard[name] and name not in (*adding, NO_FINDING)]
                removing += [name for name in edits if not heard[name] and name not in (*removing, NO_FINDING)]
        for name in removing:
            if opposed := [other for other in adding if other == name or finding_of(other) == name]:
                raise PromptError(f"correction: it removes {name!r} and adds {opposed[0]!r}; ask for one of them")
        return adding, removing, study

    def _edited(self, edits: Mapping[str, float]) -> Any:
        """The study with other clue scores; what was not edited follows what was, so that they do not contradict."""
        names, scores = self._batch.clue_names, self._study.clue_scores
        if scores is None:
            raise ValueError(f"clues: this model knows none (clue_source={self._model.config.clue_source!r})")
        if unknown := [name for name in edits if name not in names]:
            raise PromptError(f"clues: {unknown[0]!r} is not among the clues of the study: {', '.join(names)}")
        seen = dict(zip(names, scores[0].tolist(), strict=True))
        new = dict(zip(names, scores_by_clue(seen | dict(edits), names), strict=True))
        bank = self._study.clue_bank
        parents = [-1] * len(names) if bank is None or bank.parents is None else bank.parents.tolist()
        for child, parent in ((name, names[row]) for name, row in zip(names, parents, strict=True) if row >= 0):
            if parent in edits and child in edits and new[child] > new[parent]:
                raise PromptError(
                    f"clues: {child!r} is {new[child]} and {parent!r} {new[parent]}; one implies the other"
                )
            if parent in edits and child not in edits:
                new[child] = min(new[child], new[parent])
            elif child in edits:
                new[parent] = max(new[child], new[parent])
        opposed = [new[name] for name in edits if finding_of(name) not in (NO_FINDING, "Support Devices")]
        there = max(opposed, default=0.0)
        if NO_FINDING in new and NO_FINDING not in edits:
            new[NO_FINDING] = min(new[NO_FINDING], 1 - there)
        clues = {name: self._batch[name] for name in self._processor.clue_input_names if name in self._batch}
        clues["clue_scores"] = scores.new_tensor([list(new.values())]).to(self._batch["input_ids"].device)
        return self._model.edit_clues(self._awake(), **clues)

    def _refuse_unreadable(self) -> None:
        if self.text == UNREADABLE:
            raise PromptError("there is no report: the picture is not a frontal X-ray that this model can read")

    def _awake(self) -> Any:
        self._study = self._study.to(self._batch["input_ids"].device)
        return self._study

    # --- turns ---

    def _first_turn(self, study: Any) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """Messages and ids of the request for the report; RaDialog's names the findings that were seen."""
        prompts = self._processor.say_findings(self._batch, study)
        words = prompts.studies[0]
        context = {name: words[name] for name in (*CONTEXT_FIELDS, *FINDINGS_FIELDS)}
        return report_messages(self._processor.prompt_style, words["num_views"], **context), prompts["input_ids"]

    def _see(self, study: Any, clues: list[ClueScore], messages: list[dict[str, Any]], asked: torch.Tensor) -> None:
        self._study, self.clues = study, clues
        self._turns[0].messages, self._turns[0].asked = messages, asked
        self.free_cache()

    def _say(self, request: str, streamer: Any, generate: Mapping[str, Any], anew: bool = False) -> Turn:
        """One turn: only its own tokens are computed, what stands before them is in the cache. One that is asked anew
        knows of no turn but the first."""
        self._refuse_unreadable()
        options = {**self._options, **generate}
        check_lengths(options)
        if not self._model.config.learned_dialogue:
            logger.warning_once("This model was not trained on questions or corrections: its replies mean nothing.")
        request = request.strip()
        asked = self._processor.turn_ids(request).to(self._turns[0].asked.device)
        self._make_room(asked.shape[1], options)
        known = self._turns[:1] if anew else self._turns
        ids = torch.cat([*(part for turn in known for part in (turn.asked, turn.answer)), asked], 1)
        cache = {} if anew else self._cache
        self.free_cache()  # a turn that is broken off must not stay in it
        texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        options |= {**cache, "return_dict_in_generate": True}
        generated = self._model.generate(**texts, study=self._awake(), streamer=streamer, **options)
        self._turns.append(self._turn([message("user", request)], asked, generated, ids.shape[1]))
        if anew:
            self.free_cache()
        return self._turns[-1]

    def _take(self, turn: Turn, text: str) -> None:
        """The text is the last turn's reply, and the report from here on. Where it is not as it was written, the cache
        ends before it."""
        if text != turn.reply:
            turn.reply, turn.answer = text, self._processor.reply_ids(text).to(turn.asked.device)
            before = sum(said.asked.shape[1] + said.answer.shape[1] for said in self._turns[:-1]) + turn.asked.shape[1]
            for cache in self._cache.values():
                cache.crop(before - cache.get_seq_length())  # by so many tokens
        self._current, self.text, self.complete, self.as_written = turn, turn.reply, turn.complete, None
        self.findings, self.impression = split_report(turn.reply)
        self.grounded = []

    def _turn(self, messages: list[dict[str, Any]], asked: torch.Tensor, generated: Any, start: int) -> Turn:
        """The turn whose reply was generated from `start` on; its cache is kept."""
        processor, answer = self._processor, generated.sequences[:, start:]
        (reply,), (complete,) = decode(generated, processor.tokenizer, start, processor.image_token_id)
        if answer[0, -1:].tolist() == processor.turn_ids("-")[0, :1].tolist():
            answer = answer[:, :-1]
        self.free_cache()
        name = "cache" if "cache" in generated else "past_key_values"  # renamed in Transformers 5.24
        if name in generated and not isinstance(generated, GenerateBeamDecoderOnlyOutput):  # that holds every beam
            self._cache = {name: generated[name]}
        return Turn(messages, asked, reply, answer, complete)

    def _make_room(self, new: int, options: Mapping[str, Any]) -> None:
        """Forget the oldest turns where the context has no room for one more, with a warning. Images, the first request
        and the current report stay: the report takes the place of the first one when its own turn goes.

        Args:
            new: tokens of the turn.
            options: for `generate`; `max_new_tokens` is the room that the reply gets.

        Raises:
            PromptError: not even they leave room.
        """
        context = longest_chat(self._model, self._processor)
        least = self._turns[0].asked.shape[1] + self._current.answer.shape[1]
        if least + new >= context:
            raise PromptError(
                f"the turn is {new} tokens long; behind images, request and report ({least}) the context of "
                f"{context} tokens has no room for it and a reply"
            )
        reply = options.get("max_new_tokens") or self._model.generation_config.max_new_tokens or SHORT_REPLY
        room = context - new - reply
        while len(self._turns) > 1 and room < sum(t.asked.shape[1] + t.answer.shape[1] for t in self._turns):
            oldest = self._turns.pop(1)
            if oldest is self._current:
                first = self._turns[0]
                self._turns[0] = self._current = replace(oldest, messages=first.messages, asked=first.asked)
            self.free_cache()
            if not self._warned:
                logger.warning("The chat is longer than the context of the model: its oldest turns are forgotten.")
                self._warned = True


def _values(report: Report) -> tuple[Any, ...]:
    return tuple(getattr(report, field.name) for field in fields(Report))
