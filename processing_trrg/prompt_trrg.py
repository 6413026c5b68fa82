"""What is said to the language model and to the clue encoder: pure strings, no tensors.

The structure of each style follows what is known of its paper and code; the wording is ours.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from transformers.utils import chat_template_utils, logging

logger = logging.get_logger(__name__)

CHEXPERT_14 = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
CLUE_FIELDS = ("name", "positive", "negative", "parent")
# Names that do not read well after "There is".
CLUE_SENTENCES = {
    "No Finding": ("There is no abnormal finding.", "There is an abnormal finding."),
    "Enlarged Cardiomediastinum": (
        "There is an enlarged cardiomediastinum.",
        "There is no enlarged cardiomediastinum.",
    ),
    "Pleural Other": ("There is another pleural abnormality.", "There is no other pleural abnormality."),
    "Support Devices": ("There are support devices.", "There are no support devices."),
}

CONTEXT_FIELDS = ("indication", "technique", "comparison", "prior_report", "question")
FINDINGS_FIELDS = ("predicted_findings", "likely_findings", "possible_findings")
PromptStyle = Literal["trrg", "maira1", "radialog"]
PROMPT_STYLES = get_args(PromptStyle)
STYLES_WITH_FINDINGS = ("radialog",)  # their prompt names the findings that were seen

SYSTEM = {
    "maira1": "You are a radiology assistant who interprets chest X-rays.",
    "radialog": (
        "This is a conversation between a user and an AI assistant with the experience of a radiologist. "
        "The assistant's answers are professional, detailed and polite."
    ),
}
REQUEST = {
    "trrg": "Please write a complete and detailed diagnostic report of this chest X-ray study.",
    "maira1": "Describe the findings of this chest X-ray.",
    "radialog": (
        "Acting as a radiologist, write the findings section of the report of this chest X-ray from the image and the "
        "predicted findings. Write in a radiologist's style, as one flowing text without a list. Be concise, and give "
        "neither explanations nor reasons."
    ),
}
GROUNDED_REQUEST = "Where is each finding?"
"""The turn after the report that is answered with its findings and their boxes (`grounding_trrg.py`)."""

ASSISTANT = {"trrg": "Assistant:", "maira1": "ASSISTANT:", "radialog": "ASSISTANT:"}
"""Stands before an answer."""

MARK = getattr(chat_template_utils, "_CONTROL_TOKEN_START", None)
"""Stands before a special token that a user typed; since Transformers 5.23, with `sanitize_control_tokens=True`."""

_IMAGE = r"(?:x-?rays?|images?|views?|films?|radiographs?|pictures?)"
_PRIOR_IMAGE = re.compile(
    rf"\b(?:prior|previous|earlier|last|old) (?:chest )?(?:{_IMAGE}|stud(?:y|ies)|exams?)\b", re.I
)
_NUMBERED = re.compile(
    rf"\b(?:(second|third|fourth|both) {_IMAGE}"
    rf"|{_IMAGE} (?:number |no\.? ?)?(\d{{1,2}})(?! (?:minute|hour|day|week|month|year)))\b",
    re.IGNORECASE,
)
_ORDINALS = {"both": 2, "second": 2, "third": 3, "fourth": 4}


class PromptError(ValueError):
    """A text that cannot become a prompt; the message names the field and what was expected."""


def default_clues() -> list[dict[str, str]]:
    """The 14 CheXpert observations, each with its positive and its negative sentence."""
    return check_clues(CHEXPERT_14)


def check_clues(clues: Iterable[str | Mapping[str, str]]) -> list[dict[str, str]]:
    """Clues as dicts of name, positive and, where there is one, negative sentence.

    A name ("Hernia") gets "There is hernia." and "There is no hernia.". A sentence (it ends with a full stop) is the
    positive statement as it stands and its own name; a model that compares two statements asks for its negative, which
    a dict can give. A dict has `positive`, and may have `name`, `negative` and `parent`, the name of the clue that it
    implies ("Left Pleural Effusion": "Pleural Effusion").

    Raises:
        ValueError: no clue, a blank or repeated name, a blank sentence, a sentence equal to its negation, or a parent
            that is not another clue of the list.
    """
    if isinstance(clues, str):
        raise ValueError(f"clues: expected a list of names, got one string {clues!r}")
    if not isinstance(clues, Iterable) or isinstance(clues, Mapping):
        raise ValueError(f"clues: expected a list of names, got {clues!r:.80}")
    checked: list[dict[str, str]] = []
    for clue in clues:
        if isinstance(clue, str):
            name = clue.strip()
            if name.endswith("."):
                clue = {"positive": name}
            else:
                sentences = (f"There is {name.lower()}.", f"There is no {name.lower()}.")
                positive, negative = CLUE_SENTENCES.get(name, sentences)
                clue = {"name": name, "positive": positive, "negative": negative}
        if not isinstance(clue, Mapping) or not {"positive"} <= set(clue) <= set(CLUE_FIELDS):
            raise ValueError(
                f"clues: expected a name, a sentence, or a dict with positive and perhaps name, negative, parent, got "
                f"{clue!r}"
            )
        clue = {"name": clue["positive"], **clue}
        for field, value in clue.items():
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"clues: the {field} of clue {len(checked)} is blank: {value!r}")
            refuse_surrogates(f"clues: the {field} of clue {len(checked)}", value)
        if clue["positive"] == clue.get("negative"):
            raise ValueError(f"clues: {clue['name']!r} has the same positive and negative sentence")
        checked.append(dict(clue))
    if not checked:
        raise ValueError("clues: the list is empty, at least one clue is needed")
    names = [clue["name"].lower() for clue in checked]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"clues: names must differ, repeated: {', '.join(repeated)}")
    known = {clue["name"] for clue in checked}
    for clue in checked:
        parent = clue.get("parent")
        if parent is not None and (parent not in known or parent == clue["name"]):
            raise ValueError(f"clues: the parent of {clue['name']!r} is {parent!r}, expected another clue of the list")
    return checked


def seen_findings(study: Any, names: Sequence[str]) -> list[tuple[list[str], list[str], list[str]]]:
    """Of each study the clues that are told; of these the likely ones, over the threshold of "careful"; and of the
    others the possible ones, over that of "sensitive". None is likely or possible without operating points.

    Args:
        study: `TRRGStudyFeatures` of B studies.
        names: of its C clues.
    """
    told = study.selected_clues.tolist()
    answers = [[0] * len(names)] * len(told) if study.clue_answers is None else study.clue_answers.tolist()
    found = []
    for row in ([*zip(names, *rows, strict=True)] for rows in zip(told, answers, strict=True)):
        likely = [name for name, is_told, answer in row if is_told and answer == 1]
        possible = [name for name, is_told, answer in row if not is_told and answer in (1, -1)]
        found.append(([name for name, is_told, _ in row if is_told], likely, possible))
    return found


def findings_sentences(predicted: Sequence[str], likely: Sequence[str] = (), possible: Sequence[str] = ()) -> str:
    """RaDialog's classifier findings in words: lower case, joined by commas; then which of them are likely, and others
    that are possible, if any.

    "No Finding" is dropped when anything but Support Devices is positive beside it, and is not merely possible; the
    empty case is said in words.
    """
    if set(predicted) - {"No Finding", "Support Devices"}:
        predicted = [name for name in predicted if name != "No Finding"]
    others = [name for name in possible if name not in ("No Finding", *predicted)]
    said = [f"Predicted findings: {', '.join(name.lower() for name in predicted) or 'no common findings'}."]
    for word, names in (("Likely", [name for name in likely if name in predicted]), ("Possible", others)):
        said += [f"{word} findings: {', '.join(name.lower() for name in names)}."] if names else []
    return " ".join(said)


def report_messages(
    style: PromptStyle,
    num_views: int,
    *,
    indication: str | None = None,
    technique: str | None = None,
    comparison: str | None = None,
    prior_report: str | None = None,
    predicted_findings: Sequence[str] | None = None,
    likely_findings: Sequence[str] | None = None,
    possible_findings: Sequence[str] | None = None,
    question: str | None = None,
) -> list[dict[str, Any]]:
    """The first turns of a chat about one study: the request for a report, or `question`. Blank fields leave no trace.

    Raises:
        PromptError: findings with a style that does not say them, or likely or possible ones without those predicted.
    """
    for name, findings in zip(FINDINGS_FIELDS, (predicted_findings, likely_findings, possible_findings), strict=True):
        if findings is not None and style not in STYLES_WITH_FINDINGS:
            raise PromptError(f"{name}: only the prompt style 'radialog' says them, this one is {style!r}")
        if findings is not None and predicted_findings is None:
            raise PromptError(f"{name}: they stand behind predicted_findings, which was not given")
    request = _said(question) or REQUEST[style]
    if style == "maira1" and not _said(question) and _said(indication):
        request = f"{REQUEST[style].rstrip('.')}, given this indication: {_said(indication)}"
        indication = None
    fields = {
        "Indication": indication,
        "Technique": technique,
        "Comparison": comparison,
        "Prior report": prior_report,
    }
    parts = [f"{name}: {_said(text)}" for name, text in fields.items() if _said(text)]
    parts.append(request)
    images: list[dict[str, str]] = [{"type": "image"}] * num_views
    if style == "radialog":
        if predicted_findings is not None:
            parts.insert(0, findings_sentences(predicted_findings, likely_findings or (), possible_findings or ()))
        content = [_text("Image information: "), *images, _text(". " + "\n".join(parts))]
    else:
        content = [*images, _text("\n".join(parts))]
    messages = [{"role": "user", "content": content}]
    if style in SYSTEM:
        messages.insert(0, {"role": "system", "content": [_text(SYSTEM[style])]})
    return messages


def follow_up(messages: Sequence[Mapping[str, Any]], reply: str, request: str) -> list[dict[str, Any]]:
    """The chat so far, the model's reply and the user's next request."""
    return [
        *map(dict, messages),
        {"role": "assistant", "content": [_text(reply)]},
        {"role": "user", "content": [_text(request)]},
    ]


def correction_request(missing: Sequence[str], wrong: Sequence[str]) -> str | None:
    """RaDialog's correction turn: what the report left out and what it should not say. None: nothing to correct.

    "No Finding" is never named.
    """
    add = ", ".join(name.lower() for name in missing if name != "No Finding")
    remove = ", ".join(name.lower() for name in wrong if name != "No Finding")
    if add and remove:
        return f"Please correct the report: add {add} and take out {remove}. Change nothing else."
    if remove:
        return f"There is no {remove} in this patient. Please correct the report and change nothing else."
    if add:
        return f"There is also {add} in this patient. Please correct the report and change nothing else."
    return None


def message(role: str, text: str) -> dict[str, Any]:
    """A message of a chat that holds words alone."""
    return {"role": role, "content": [{"type": "text", "text": text}]}


def refuse_other_images(question: str, views: int, has_prior: bool) -> None:
    """
    Args:
        question: about a study, in words.
        views: that the study has; 0 where it is known by its clues alone.
        has_prior: whether a prior report or what was compared with was given.

    Raises:
        PromptError: the question is about a picture that the study does not have, by its words.
    """
    if (asked := _PRIOR_IMAGE.search(question)) and not has_prior:
        raise PromptError(f"question: it asks about {asked[0]!r}; neither a prior image nor a prior report was given")
    for asked in _NUMBERED.finditer(question):
        if (_ORDINALS.get((asked[1] or "").lower()) or int(asked[2])) > views:
            raise PromptError(f"question: it asks about {asked[0]!r}; the study has {views} views")
    if not views and (asked := re.search(rf"\b{_IMAGE}\b", question, re.IGNORECASE)):
        raise PromptError(f"question: it asks about {asked[0]!r}; the study is known by its clues alone")


def default_chat_template(style: PromptStyle, image_token: str) -> str:
    """The Jinja chat template of a style: R2GenGPT's Human/Assistant turns for TRRG, Vicuna's for MAIRA-1 and RaDialog.

    Special tokens are written here and nowhere else: prompts are tokenised without adding any. What the assistant says
    is marked, for trainers that learn nothing else (`assistant_only_loss`).
    """
    if style == "trrg":
        image, user, between = f"<Img>{image_token}</Img> ", "Human: ", "\\n"
    else:
        image, user, between = image_token + (" " if style == "maira1" else ""), "USER: ", " "
    assistant = ASSISTANT[style]
    return (
        "{%- macro said(content) -%}"
        "{%- if content is string -%}{{ content }}{%- else -%}{%- for item in content -%}"
        "{%- if item.type == 'image' -%}{{ '" + image + "' }}{%- else -%}{{ item.text }}{%- endif -%}"
        "{%- endfor -%}{%- endif -%}"
        "{%- endmacro -%}"
        "{{- bos_token -}}"
        "{%- for message in messages -%}"
        "{%- if message.role == 'system' -%}{{ said(message.content) + '" + between + "' }}"
        "{%- elif message.role == 'user' -%}{{ '" + user + "' + said(message.content) + '" + between + "' }}"
        "{%- elif message.role == 'assistant' -%}{{ '" + assistant + "' }}"
        "{%- generation -%}{{ ' ' + said(message.content) + eos_token }}{%- endgeneration -%}"
        "{%- else -%}{{ raise_exception('roles are system, user and assistant, got ' + message.role) }}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '" + assistant + "' }}{%- endif -%}"
    )


def without_marks(template: str) -> str:
    """A template of `default_chat_template` as older checkpoints have it: the assistant's words are not marked."""
    return template.replace("' }}{%- generation -%}{{ ' '", " '").replace("{%- endgeneration -%}", "")


def check_prompt(style: PromptStyle, prompt: str, length: int, most: int | None) -> None:
    """Warns, once, of a prompt without the request that models of this style are trained on.

    Args:
        prompt, length: as rendered, and in tokens.
        most: the longest that the model was trained with, in tokens; None where it is not known.

    Raises:
        PromptError: the prompt is longer.
    """
    if REQUEST[style].rstrip(".") not in prompt:
        logger.warning_once(
            f"The prompt lacks the request the model was trained on, so its answer may mean nothing: {REQUEST[style]!r}"
        )
    if most is not None and length > most:
        raise PromptError(f"the prompt is {length} tokens long, the model was trained with at most {most}")


def count_images(prompt: str, image_token: str) -> int:
    """Image tokens of a rendered prompt, without those that a user typed."""
    return prompt.count(image_token) - (prompt.count(MARK + image_token) if MARK else 0)


def refuse_surrogates(field: str, text: str) -> None:
    """JSON may hold half a character ("\\ud800"), which no tokenizer reads and no file holds.

    Raises:
        PromptError: `text` holds one, or is no text.
    """
    if not isinstance(text, str):
        raise PromptError(f"{field}: expected text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{field}: character {error.start} is a lone surrogate, {text[error.start]!a}") from None


def refuse_special_tokens(field: str, text: str, special_tokens: Iterable[str]) -> None:
    """A typed `<image>` or `</s>` would be read as a picture or as the end of the prompt.

    Raises:
        PromptError: `text` holds one, or half a character.
    """
    refuse_surrogates(field, text)
    for token in special_tokens:
        if token in text:
            raise PromptError(f"{field}: the text holds the special token {token!r}, which only the processor writes")


def check_messages(conversation: Sequence[Any], special_tokens: Iterable[str]) -> None:
    """
    Raises:
        PromptError: the text of a message, in one chat or in several, holds a special token, or half a character; or a
            message has no content, as a parsed answer that was cut before its end.
        ValueError: it is no chat.
    """
    chats = conversation
    if not isinstance(chats, (list, tuple)) or not chats or not isinstance(chats[0], (list, tuple)):
        chats = [conversation]
    if not all(isinstance(chat, (list, tuple)) and chat for chat in chats):
        raise ValueError(f"conversation: expected a list of messages, or of such lists, got {conversation!r:.80}")
    for message in (message for chat in chats for message in chat):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"conversation: expected messages with a role and a content, got {message!r:.80}")
        if "content" not in message:
            raise PromptError(f"{message['role']} message: it has no content, only {', '.join(sorted(message))}")
        content = "" if message["content"] is None else message["content"]
        items = [{"text": content}] if isinstance(content, str) else content
        if not isinstance(items, (list, tuple)) or not all(
            isinstance(item, Mapping) and isinstance(item.get("text"), str | None) for item in items
        ):
            raise ValueError(f"{message['role']} message: expected a text or a list of parts, got {content!r:.80}")
        for text in (item.get("text") or "" for item in items):
            refuse_special_tokens(f"{message['role']} message", text, special_tokens)


def said(message: Mapping[str, Any]) -> str:
    """The text of a message, whether its content is one or a list of parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _said(text: str | None) -> str:
    return text.strip() if text else ""


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
