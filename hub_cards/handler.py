"""Custom handler of Hugging Face Inference Endpoints; it travels in the published folder, beside requirements.txt.

    {"inputs": {"images": ["<base64 of a PNG, JPEG or DICOM file>"], "indication": "Cough."},
     "parameters": {"max_new_tokens": 200, "operating_point": "sensitive"}}
    -> {"findings": "...", "impression": "...", "text": "...",
        "clues": [{"name": "...", "score": 0.93, "selected": true, "answer": "present"}, ...],
        "sentences": [...], "left_out": [...], "readable": true, "complete": true, "notice": "..."}

The operating point is "careful", "balanced", "sensitive" or a wanted false-negative rate. Where the picture is no
frontal chest X-ray that the model can read, "readable" is false and the text says that there is no report. A report
that was cut at its length is not "complete".

With "messages" beside "images" the question that is the last of them is answered ("answer"), and the longer chat comes
back ("messages"): [{"role": "assistant", "content": report}, {"role": "user", "content": "Is there an effusion?"}].
Where the user is the first, the report is written first.

Research only, never for clinical use.
"""

import base64
import binascii
import threading
from typing import Any

import torch
from transformers import pipeline

MAX_VIEWS = 4
MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_CHARACTERS = 4_000  # of each text field
MAX_TURN = MAX_CHARACTERS + 100  # of each turn of a chat: one holds the prior report behind a request
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
        if not isinstance(turn.get("content"), str) or len(turn["content"]) > MAX_TURN:
            raise ValueError(f"inputs.messages[{number}].content: expected text of at most {MAX_TURN} characters")
    if messages and (messages[-1]["role"] != "user" or (messages[0]["role"] == "user" and len(messages) > 1)):
        raise ValueError(
            "inputs.messages: expected the report, then turns of user and assistant; the user's comes last"
        )
    return messages


def read_parameters(parameters: Any) -> tuple[dict[str, int], dict[str, str | float]]:
    """What a request asks of `generate`, `max_new_tokens`, and of the look, `operating_point`; what it does not ask is
    as the checkpoint has it.

    Raises:
        ValueError: an unknown parameter, or a number out of range. Which points there are, the model says.
    """
    if not isinstance(parameters, dict) or set(parameters) - {"max_new_tokens", "operating_point"}:
        raise ValueError("parameters: expected an object with max_new_tokens and operating_point only")
    number, point = parameters.get("max_new_tokens", 1), parameters.get("operating_point", "balanced")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_NEW_TOKENS:
        raise ValueError(f"parameters.max_new_tokens is {number!r}; expected 1 to {MAX_NEW_TOKENS}")
    if isinstance(point, bool) or not isinstance(point, (str, int, float)):
        raise ValueError(f"parameters.operating_point is {point!r:.80}; expected a name or a false-negative rate")
    look = {"operating_point": point} if "operating_point" in parameters else {}
    return {name: parameters[name] for name in parameters if name not in look}, look


class EndpointHandler:
    """One study a request, written as the checkpoint says (`generation_config.json`). Threads may share it.

    Args:
        path: the published folder.
    """

    def __init__(self, path: str = "") -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.write: Any = pipeline("radiology-report", model=path, trust_remote_code=True, device=device)
        self.alone = threading.Lock()  # a second study puts the one before it to rest, in the middle of its answer

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        study = read_inputs(data.get("inputs"))
        length, look = read_parameters(data.get("parameters") or {})
        chat = read_messages(data["inputs"].get("messages") or [])
        told: dict[str, Any] = {}
        with self.alone:
            report = self.write(study, messages=chat[:-1], **length, **look)
            if chat:
                told["answer"] = report.ask(chat[-1]["content"], **length)
        if chat:
            turns = [{**turn, "content": turn["content"][-1]["text"]} for turn in report.messages]  # with their names
            told["messages"] = turns[[turn["role"] for turn in turns].index("assistant") :]
        return {
            **told,
            "findings": report.findings,
            "impression": report.impression,
            "text": report.text,
            "complete": report.complete,
            "clues": [clue | {"score": round(clue["score"], 4)} for clue in report.to_dict()["clues"]],
            "sentences": [said.to_dict() for said in report.sentences],
            "left_out": report.left_out,
            "readable": report.readable,
            "notice": NOTICE,
        }
