"""Custom handler of Hugging Face Inference Endpoints; it travels in the published folder, beside requirements.txt.

    {"inputs": {"images": ["<base64 of a PNG, JPEG or DICOM file>"], "indication": "Cough."},
     "parameters": {"max_new_tokens": 200}}
    -> {"findings": "...", "impression": "...", "text": "...", "clues": [{"name": "...", "score": 0.93}, ...],
        "sentences": [...], "left_out": [...], "readable": true, "notice": "..."}

With "messages" beside "images" the question that is the last of them is answered ("answer"), and the longer chat comes
back ("messages"): [{"role": "assistant", "content": report}, {"role": "user", "content": "Is there an effusion?"}].
Where the user is the first, the report is written first.

Research only, never for clinical use.
"""

import base64
import binascii
from typing import Any

import torch
from transformers import pipeline

MAX_VIEWS = 4
MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_CHARACTERS = 4_000  # of each text field
MAX_NEW_TOKENS = 512
MAX_MESSAGES = 64
TEXT_FIELDS = ("indication", "technique", "comparison", "prior_report")
NOTICE = "Research only, never for clinical use."


def decode_image(encoded: Any, number: int) -> bytes:
    """Base64 to the bytes of an image file.

    Raises:
        ValueError: not base64 text, or larger than MAX_IMAGE_BYTES; the size is checked before anything is decoded.
    """
    if not isinstance(encoded, str):
        raise ValueError(f"images[{number}] is {type(encoded).__name__}; expected base64 text of an image file")
    if len(encoded) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ValueError(f"images[{number}] has {len(encoded)} characters; at most {MAX_IMAGE_BYTES} bytes are taken")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"images[{number}] is no valid base64: {error}") from error


def read_inputs(inputs: Any) -> dict[str, Any]:
    """Check the `inputs` of a request and return the processor's arguments.

    Raises:
        ValueError: names the field, what it got and what is allowed.
    """
    if not isinstance(inputs, dict):
        raise ValueError(
            f"inputs is {type(inputs).__name__}; expected an object with images and {', '.join(TEXT_FIELDS)}"
        )
    unknown = sorted(set(inputs) - {"images", "messages", *TEXT_FIELDS})
    if unknown:
        known = ("images", "messages", *TEXT_FIELDS)
        raise ValueError(f"inputs has the unknown fields {unknown}; known are {', '.join(known)}")
    images = inputs.get("images")
    if not isinstance(images, list) or not 1 <= len(images) <= MAX_VIEWS:
        raise ValueError(f"inputs.images: expected a list of 1 to {MAX_VIEWS} base64 images, the views of one study")
    study: dict[str, Any] = {"images": [decode_image(encoded, number) for number, encoded in enumerate(images)]}
    for field in TEXT_FIELDS:
        value = inputs.get(field)
        if value is None:
            continue
        if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
            raise ValueError(f"inputs.{field}: expected text of at most {MAX_CHARACTERS} characters")
        study[field] = value
    return study


def read_messages(messages: Any) -> list[dict[str, str]]:
    """Check the chat of a request; without one, an empty list.

    Raises:
        ValueError: no list of turns with role and text, too many or too long, or the last one is not the user's.
    """
    if not isinstance(messages, list) or len(messages) > MAX_MESSAGES:
        raise ValueError(f"inputs.messages: expected a list of at most {MAX_MESSAGES} turns")
    for number, turn in enumerate(messages):
        if not isinstance(turn, dict) or turn.get("role") not in ("assistant", "user"):
            raise ValueError(f"inputs.messages[{number}]: expected an object with role, assistant or user, and content")
        if not isinstance(turn.get("content"), str) or len(turn["content"]) > MAX_CHARACTERS:
            raise ValueError(f"inputs.messages[{number}].content: expected text of at most {MAX_CHARACTERS} characters")
    if messages and (messages[-1]["role"] != "user" or (messages[0]["role"] == "user" and len(messages) > 1)):
        raise ValueError(
            "inputs.messages: expected the report, then turns of user and assistant; the user's comes last"
        )
    return messages


def read_parameters(parameters: Any) -> dict[str, int]:
    """What a request asks of `generate`: `max_new_tokens`, or nothing and the checkpoint's own counts.

    Raises:
        ValueError: an unknown parameter, or a number out of range.
    """
    if not isinstance(parameters, dict) or set(parameters) - {"max_new_tokens"}:
        raise ValueError("parameters: expected an object with max_new_tokens only")
    number = parameters.get("max_new_tokens", 1)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_NEW_TOKENS:
        raise ValueError(f"parameters.max_new_tokens is {number!r}; expected 1 to {MAX_NEW_TOKENS}")
    return dict(parameters)


class EndpointHandler:
    """One study a request, written as the checkpoint says (`generation_config.json`).

    Args:
        path: the published folder.
    """

    def __init__(self, path: str = "") -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.write: Any = pipeline("radiology-report", model=path, trust_remote_code=True, device=device)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        study = read_inputs(data.get("inputs"))
        parameters = read_parameters(data.get("parameters") or {})
        chat = read_messages(data["inputs"].get("messages") or [])
        report = self.write(study, messages=chat[:-1], **parameters)
        told: dict[str, Any] = {}
        if chat:
            told["answer"] = report.ask(chat[-1]["content"], **parameters)
            turns = [{"role": turn["role"], "content": turn["content"][-1]["text"]} for turn in report.messages]
            told["messages"] = turns[[turn["role"] for turn in turns].index("assistant") :]
        return {
            **told,
            "findings": report.findings,
            "impression": report.impression,
            "text": report.text,
            "clues": [{"name": clue.name, "score": round(clue.score, 4)} for clue in report.clues],
            "sentences": [said.to_dict() for said in report.sentences],
            "left_out": report.left_out,
            "readable": report.readable,
            "notice": NOTICE,
        }
