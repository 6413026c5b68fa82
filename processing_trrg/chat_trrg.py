"""What chats, pipelines and serving engines of Transformers ask of a processor, and one more turn of a chat."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.processing_utils import MultiModalData

from .batch_trrg import StudyBatch, each_study, text_tensors
from .fingerprint_trrg import SavedProcessor
from .prompt_trrg import (
    ASSISTANT,
    FINDINGS_FIELDS,
    MARK,
    STYLES_WITH_FINDINGS,
    PromptError,
    PromptStyle,
    check_messages,
    refuse_special_tokens,
    seen_findings,
)
from .report_trrg import response_template

END = "\x1f"
"""Stands for the end tokens of an answer in the texts of Transformers' own pipeline; to `str.strip` it is a blank."""


def without_blanks(conversation):
    """The chat, or chats, without blanks around a reply that is one text: clients send back what was decoded, with the
    blank that the template writes before it."""
    if not isinstance(conversation, (list, tuple)):
        return conversation
    return [
        {**turn, "content": turn["content"].strip()}
        if isinstance(turn, Mapping) and turn.get("role") == "assistant" and isinstance(turn.get("content"), str)
        else without_blanks(turn)
        for turn in conversation
    ]


def unpadded(prompts: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The ids `[t]` of each row, on the CPU."""
    ids, mask = prompts["input_ids"].cpu(), prompts["attention_mask"].cpu().bool()
    return [row[kept] for row, kept in zip(ids, mask, strict=True)]


def longest_chat(model: Any, processor: Any) -> float:
    """Most tokens that a chat may have, the reply included."""
    context = getattr(model.config.text_config, "max_position_embeddings", None)
    return min((limit for limit in (processor.max_length, context) if limit is not None), default=math.inf)


def check_lengths(options: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: options of `generate` that ask for several replies, or for a length with the prompt in it, which
            every turn and every padding changes.
    """
    if options.get("num_return_sequences", 1) != 1:
        raise ValueError("num_return_sequences: one report or reply is written")
    if options.get("max_length") is not None:
        raise ValueError("max_length: it counts the prompt too; give max_new_tokens")


class ChatProcessor(SavedProcessor):
    """The chats of `TRRGProcessor`, and its contract with engines."""

    num_image_tokens: int
    image_token: str
    image_token_id: int
    prompt_style: PromptStyle
    clue_input_names: Sequence[str]

    @property
    def says_findings(self) -> bool:
        """Whether the prompt names the findings that were seen, so that it is written after the look (RaDialog)."""
        return self.prompt_style in STYLES_WITH_FINDINGS

    def say_findings(self, batch: StudyBatch, study: Any, on_error: str = "raise") -> StudyBatch:
        """The batch with its prompts written again, naming the clues that were seen (`seen_findings`), where the style
        names them and no finding or text was given; else the batch as it is.

        Args:
            batch: from a call of this processor.
            study: `model.read_study(**batch)`.
            on_error: as in a call; `kept` of the result counts the rows of `batch`.

        Raises:
            StudyError: a prompt became longer than `max_length`.
        """
        if self.says_findings and len(batch.studies) != len(batch["input_ids"]):
            raise ValueError("batch: rebuilt from its tensors, it has lost its words; pass what the call returned")
        given = [any(words[name] is not None for name in ("text", *FINDINGS_FIELDS)) for words in batch.studies]
        if not self.says_findings or all(given):
            return batch
        studies = [
            words if told else words | dict(zip(FINDINGS_FIELDS, found, strict=True))
            for words, found, told in zip(batch.studies, seen_findings(study, batch.clue_names), given, strict=True)
        ]
        ids = [study["study_id"] for study in studies]
        rows, kept, skipped = each_study(
            lambda study: self._tokens(study, study["num_views"], {}), studies, ids, on_error
        )
        if not rows:
            return StudyBatch({}, kept, skipped)
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        data = {n: value if n in self.clue_input_names else value[kept] for n, value in tensors.items()}
        texts = text_tensors(rows, self.tokenizer.pad_token_id, self.image_token_id, {})
        data |= {name: value.to(batch["input_ids"].device) for name, value in texts.items()}
        return StudyBatch(data, kept, skipped, batch.clues, [studies[row] for row in kept])

    def apply_chat_template(self, conversation, *args, sanitize_control_tokens: bool = False, **kwargs):
        """As in Transformers, but a special token typed in a message is refused, unless `sanitize_control_tokens` (with
        `tokenize=True`, since Transformers 5.23) reads it as plain text. With `return_assistant_tokens_mask` ids and
        masks are lists, unless `return_tensors` asks for tensors.

        Raises:
            PromptError: a message's text holds one.
        """
        if guarded := sanitize_control_tokens and MARK is not None:
            kwargs["sanitize_control_tokens"] = True
        check_messages(conversation, [] if guarded else self.tokenizer.all_special_tokens)
        out = super().apply_chat_template(without_blanks(conversation), *args, **kwargs)
        if isinstance(out, StudyBatch) and isinstance(out.get("assistant_masks"), list):
            out.update({name: out[name].tolist() for name in ("input_ids", "attention_mask")})
        return out

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The N placeholders of one view, in place of its one image token in the prompt."""
        return self.image_token * self.num_image_tokens

    def _get_num_multimodal_tokens(self, image_sizes=None, **kwargs) -> MultiModalData:
        """For serving engines: every view takes the same number of placeholders, whatever its size."""
        if image_sizes is None:
            return MultiModalData()
        count = len(image_sizes)
        return MultiModalData(num_image_tokens=[self.num_image_tokens] * count, num_image_patches=[1] * count)

    def _ends(self) -> list[str]:
        return list(dict.fromkeys((self.tokenizer.eos_token, self.tokenizer.pad_token)))

    def response_template(self) -> dict[str, Any]:
        """Of this processor's chats, see report_trrg.py; the tokenizer has it and is saved with it."""
        return response_template(ASSISTANT[self.prompt_style], [*self._ends(), END])

    def post_process_image_text_to_text(self, generated_outputs, skip_special_tokens: bool = True, **kwargs):
        """As in Transformers. Its pipeline asks for special tokens, so that the response template sees the end of an
        answer; here `END` stands for them, so that the text of an answer is clean."""
        texts = super().post_process_image_text_to_text(generated_outputs, skip_special_tokens, **kwargs)
        ends = rf"(?:{'|'.join(map(re.escape, self._ends()))})+\Z"
        return re.sub(ends, END, texts) if isinstance(texts, str) else [re.sub(ends, END, text) for text in texts]

    def turn_ids(self, request: str) -> torch.Tensor:
        """Ids `[1, t]` of the user's next turn: the end of the reply before it, the request, the start of an answer."""
        opening, closing = self._turn_frame()
        ids = self.tokenizer(f"{opening}{request}{closing}", add_special_tokens=False)["input_ids"]
        return torch.tensor([ids])

    def reply_ids(self, text: str) -> torch.Tensor:
        """Ids `[1, t]` of a reply as the model writes one, without its end: those that a tokenizer of any kind gives it
        in the text of a chat, behind "Assistant:" and a space."""
        before = ASSISTANT[self.prompt_style]
        start, ids = (
            self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, f"{before} {text}")
        )
        if ids[: len(start)] != start:
            raise ValueError(f"tokenizer: it joins {before!r} with the reply behind it, so no prompt can end there")
        return torch.tensor([ids[len(start) :]], dtype=torch.long)

    def next_turns(
        self, chats: Sequence[torch.Tensor], replies: Sequence[str], requests: Sequence[str]
    ) -> list[torch.Tensor]:
        """The ids `[t]` of each chat with a reply and the request behind it."""
        turns = zip(chats, replies, requests, strict=True)
        return [torch.cat([ids, self.reply_ids(said)[0], self.turn_ids(asked)[0]]) for ids, said, asked in turns]

    def pad_chats(self, chats: Sequence[torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
        """Ids and mask `[N, T]` of chats `[t]`, padded on the left."""
        pad = partial(pad_sequence, batch_first=True, padding_side="left")
        padded = {
            "input_ids": pad(list(chats), padding_value=self.tokenizer.pad_token_id),
            "attention_mask": pad([torch.ones_like(ids) for ids in chats]),
        }
        return {name: value.to(device) for name, value in padded.items()}

    def continue_chat(self, ids: torch.Tensor, request: str) -> torch.Tensor:
        """The ids of a chat with one more turn, for `generate` with the cache of the turns before.

        A chat that is rendered anew may be cut into other tokens than those that the model has written.

        Args:
            ids: `[1, t]`, as `generate` returned them.
            request: of the user.

        Raises:
            PromptError: see `check_request`.
        """
        self.check_request("request", request)
        new = self.turn_ids(request.strip()).to(ids.device)
        return torch.cat([ids, new[:, int(ids[0, -1] == new[0, 0]) :]], 1)

    def check_request(self, field: str, text: str) -> None:
        """
        Raises:
            PromptError: `text` is blank; or see `check_said`.
        """
        self.check_said(field, text)
        if not text.strip():
            raise PromptError(f"{field}: no words")

    def check_said(self, field: str, text: str) -> None:
        """
        Raises:
            PromptError: `text` is no text, or holds what only a chat template writes: a special token, of this model or
                of another one, a speaker's name ("Assistant:"), the frame of an image.
        """
        special, speakers = self.tokenizer.all_special_tokens, list(self._turn_frame())
        for token in special:
            speakers = [part.replace(token, "").strip() for part in speakers]
        written = [part for part in speakers if part.endswith(":")] + re.findall(r"</?\w+>", self.chat_template)
        refuse_special_tokens(field, text, special)
        imitated = "|".join([r"<\|\w+\|>", r"\[/?INST\]", *map(re.escape, written)])
        if found := re.search(imitated, text, re.IGNORECASE):
            raise PromptError(f"{field}: the text holds {found[0]!r}, which only a chat template writes")

    def _turn_frame(self) -> tuple[str, str]:
        """What the template writes between a reply and the user's next words, and behind them."""
        reply, request = "(reply)", "(request)"
        turns = [("user", request), ("assistant", reply), ("user", request)]
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        text = super().apply_chat_template(chat, add_generation_prompt=True)
        opening, _, closing = text.partition(reply)[2].partition(request)
        return opening, closing
