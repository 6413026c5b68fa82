"""The chat template's side of `TRRGProcessor`: whole chats, and one more turn behind ids that exist already."""

import re

import torch

from .batch_trrg import StudyBatch
from .fingerprint_trrg import SavedProcessor
from .prompt_trrg import MARK, PromptError, check_messages, refuse_special_tokens


class ChatProcessor(SavedProcessor):
    """Chats of `TRRGProcessor`."""

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
        out = super().apply_chat_template(conversation, *args, **kwargs)
        if isinstance(out, StudyBatch) and isinstance(out.get("assistant_masks"), list):
            out.update({name: out[name].tolist() for name in ("input_ids", "attention_mask")})
        return out

    def turn_ids(self, request: str) -> torch.Tensor:
        """Ids `[1, t]` of the user's next turn: the end of the reply before it, the request, the start of an answer."""
        opening, closing = self._turn_frame()
        ids = self.tokenizer(f"{opening}{request}{closing}", add_special_tokens=False)["input_ids"]
        return torch.tensor([ids])

    def reply_ids(self, text: str) -> torch.Tensor:
        """Ids `[1, t]` of a reply as the model writes one, without its end."""
        return torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]], dtype=torch.long)

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
