"""What of a processor is saved, and what is checked when it is loaded: its tokenizers, its chat template, its code."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from .prompt_trrg import default_chat_template, without_marks

logger = logging.get_logger(__name__)


def fingerprint(tokenizer) -> dict[str, Any]:
    """Number of tokens, SHA-256 of the sorted vocabulary, and one of all that makes ids of a text and a text of ids:
    merges, normalizer, pre-tokenizer, post-processor, decoder, added and special tokens."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {} if backend is None else json.loads(backend.to_str())
    for name in ("version", "padding", "truncation"):  # of the format, and of the last call
        parts.pop(name, None)
    roles = {name: getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}
    whole = json.dumps(_told([parts, roles, sorted(tokenizer.all_special_tokens)]), sort_keys=True)
    sizes = {"size": len(tokenizer), "sha256": hashlib.sha256(vocabulary.encode()).hexdigest()}
    return sizes | {"whole_sha256": hashlib.sha256(whole.encode()).hexdigest()}


def _told(value: Any) -> Any:
    """Without what is off or empty: a newer release writes switches that an older one does not know."""
    if isinstance(value, Mapping):
        return {name: _told(inner) for name, inner in value.items() if inner not in (None, False, [], {})}
    return [_told(inner) for inner in value] if isinstance(value, list) else value


def check_fingerprint(name: str, tokenizer, saved: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: `tokenizer`, called `name`, differs from the one that the `saved` fingerprint is of.
    """
    found = fingerprint(tokenizer)
    if any(found[part] != saved[part] for part in ("size", "sha256")):
        raise ValueError(
            f"{name}: this is not the one the processor was saved with. It holds {found['size']:,} tokens "
            f"(hash {found['sha256'][:8]}), expected {saved['size']:,} (hash {saved['sha256'][:8]}); "
            f"its files are missing or were replaced"
        )
    if saved.get("whole_sha256", found["whole_sha256"]) != found["whole_sha256"]:
        raise ValueError(
            f"{name}: this is not the one the processor was saved with. The tokens are the same, but not the merges, "
            "the normalizer, the decoder or the roles of the special tokens; its files were replaced"
        )


def check_own_code(place: Path | str, settings: Mapping[str, Any]) -> None:
    """
    Args:
        place: what the error calls the settings, a file.
        settings: of a checkpoint: its `auto_map`, with those of the parts and the `custom_pipelines`, is looked at.

    Raises:
        ValueError: it names code that is not this project's own, so another repository's.
    """
    auto_map = settings.get("auto_map") or {}
    references = list(auto_map.values() if isinstance(auto_map, Mapping) else [auto_map])
    references += [task.get("impl") for task in (settings.get("custom_pipelines") or {}).values()]
    for reference in references:
        if not isinstance(reference, str) or not re.fullmatch(r"\w+_trrg\.\w+", reference):
            raise ValueError(f"{place}: it names the code {reference!r}; expected a class of the folder's *_trrg.py")
    for part in settings.values():
        if isinstance(part, Mapping) and "auto_map" in part:
            check_own_code(place, part)


def check_local_code(folder: Path) -> None:
    """`check_own_code` of every settings file of a local checkpoint; nothing where `folder` is a name on the Hub.

    Raises:
        ValueError: see there, or a file is no JSON object.
    """
    for file in sorted((*folder.glob("*config.json"), *folder.glob("*/*config.json"))):
        try:
            settings = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"{file}: damaged; expected a JSON object") from None
        check_own_code(file, settings)


class SavedProcessor(ProcessorMixin):
    """The saving and loading of `TRRGProcessor`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in Transformers, but a folder that names other people's code, and a template that is not the style's own
        are refused. A template is a program: to run another one, give it as `chat_template=`.

        Raises:
            ValueError: see above, or a tokenizer is not the one that the processor was saved with.
        """
        check_local_code(Path(str(pretrained_model_name_or_path), kwargs.get("subfolder") or ""))
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_args_and_dict(cls, args, processor_dict: dict[str, Any], **kwargs):
        """As in Transformers, with the checks of `from_pretrained`."""
        template, style = processor_dict.get("chat_template"), processor_dict.get("prompt_style", "trrg")
        own = default_chat_template(style, processor_dict.get("image_token", "<image>"))
        if template not in (None, own, without_marks(own)) and "chat_template" not in kwargs:
            raise ValueError(
                f"chat_template: the checkpoint's is not that of the prompt style {style!r}. A template is a program; "
                "to run it, read it and pass chat_template= to from_pretrained"
            )
        saved = processor_dict.get("vocabularies") or {}
        for name in ("tokenizer", "clue_tokenizer"):
            if "whole_sha256" not in saved.get(name, {}):
                logger.warning_once(f"{name}: no fingerprint of it was saved, so nobody knows whether it was replaced.")
        return super().from_args_and_dict(args, processor_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As in Transformers, with the clue list and the fingerprints of both tokenizers."""
        vocabularies = {name: fingerprint(getattr(self, name)) for name in ("tokenizer", "clue_tokenizer")}
        code = {self._auto_class: f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"}
        return super().to_dict() | {"vocabularies": vocabularies, "clues": self.clues, "auto_map": code}

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """As in Transformers, with a `config.json` beside the clue tokenizer, by which it is found again, and without
        the padding and truncation that the tokenizers were called with last."""
        # Transformers finds a second tokenizer in an offline Hub cache only beside a config.json with a model_type.
        folder = Path(save_directory) / "clue_tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "bert"}\n')
        for tokenizer in (self.tokenizer, self.clue_tokenizer):
            if tokenizer.is_fast:  # a slow one keeps nothing
                tokenizer.backend_tokenizer.no_truncation()
                tokenizer.backend_tokenizer.no_padding()
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
