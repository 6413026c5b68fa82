"""An OpenAI-style server of a checkpoint: `transformers serve`, told first what a TRRG is.

    python -m hub_cards.serve hub_cards/trrg-small --port 8000

What follows goes to `transformers serve` (`--help` lists it), which needs `pip install "transformers[serving]"`. Images
come as `data:` URIs: a server neither fetches an address nor opens its own files for a client. It listens on the
loopback unless `--host` says otherwise, and knows no passwords. It answers chats and responses alone: a text that is
completed without a study would be invented.

A request may have an `operating_point` (of the OpenAI client: `extra_body={"operating_point": "sensitive"}`), as the
pipeline takes it. Of a picture that is no frontal chest X-ray that the model can read, every answer says so. With
`--continuous-batching` neither is done. Research only, never for clinical use.
"""

import sys
from collections.abc import Iterator
from typing import Any

import jinja2
import torch
import transformers
from transformers import AutoModelForMultimodalLM
from transformers.cli.serving import utils as serving
from transformers.models.auto import modeling_auto

import processing_trrg  # noqa: F401 - registers the processors
from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration
from modeling_trrg.generation_trrg import STUDY_INPUTS, shows_study
from processing_trrg.report_trrg import UNREADABLE

POINT = "operating_point"
MAX_BODY = 128 * 1024**2
"""Bytes of a request; more is not read."""
IMAGE_PARTS = ("image_url", "input_image")
TEXT_PARTS = ("text", "input_text", "output_text")
SERVED = ("/v1/chat/completions", "/v1/responses", "/v1/models", "/health")
"""All that is answered. Transformers also completes texts without a study, loads any model, and unloads all."""


def register() -> None:
    """Enters TRRG where `transformers serve` looks for the class of a model; it asks no Auto class. Answers are
    sent as they are written: by its response template the server would send no `content` while it streams."""
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES["trrg"] = "TRRGForConditionalGeneration"
    AutoModelForMultimodalLM.register(TRRGConfig, TRRGForConditionalGeneration, exist_ok=True)
    transformers.TRRGForConditionalGeneration = TRRGForConditionalGeneration
    template_of = serving.get_response_template
    serving.get_response_template = lambda processor, model: (
        None if model.config.model_type == "trrg" else template_of(processor, model)
    )


def abstaining(generate: Any) -> Any:
    """`generate` as the server calls it, of one study: at the operating point that came with the request's generation
    config (`answer_errors`), and where the picture cannot be read, `UNREADABLE` in the place of an answer."""

    @torch.no_grad()
    def served(model: Any, *, tokenizer: Any, generation_config: Any, streamer: Any = None, **inputs: Any) -> Any:
        point = vars(generation_config).pop(POINT, None)
        given = {name: inputs.pop(name) for name in STUDY_INPUTS if name in inputs}
        study = model.read_study(**given) if shows_study(given) else None
        if study is None or study.readable is None or study.readable.all():
            options = {"study": study, POINT: point, "streamer": streamer, "generation_config": generation_config}
            return generate(model, tokenizer=tokenizer, **options, **inputs)
        ids = inputs["input_ids"]
        reply = tokenizer.reply_ids(UNREADABLE + tokenizer.tokenizer.eos_token).to(ids.device)
        if streamer is not None:
            for part in (ids, *reply[0].split(1)):  # the prompt comes first
                streamer.put(part.cpu())
            streamer.end()
        return torch.cat([ids, reply], 1)

    return served


def check_request(body: dict[str, Any]) -> None:
    """
    Args:
        body: of a request, as OpenAI's chat completions (`messages`) or responses (`input`) have it.

    Raises:
        ValueError: no image, an image that is no `data:` URI, a wrong kind of operating point, or what the server would
            ignore: several answers, tools, parts of a message that are neither text nor image.
    """
    if body.get("n") not in (None, 1):
        raise ValueError(f"n: one answer is written to a request, got {body['n']!r}")
    if body.get("tools") or body.get("functions"):
        raise ValueError("tools: this model calls none; leave them out")
    point = body.get(POINT, "balanced")
    if isinstance(point, bool) or not isinstance(point, (str, int, float)):
        raise ValueError(f"{POINT}: expected a name or a false-negative rate, got {point!r:.80}")
    turns = body.get("messages", body.get("input"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        raise ValueError("messages: expected a list of turns, each with role and content")
    if any("tool_calls" in turn for turn in turns):
        raise ValueError("messages: this model calls no tools; leave tool_calls out")
    images = list(_images(turns))
    if not images:
        raise ValueError("messages: no image; a report without its study would be invented")
    for number, image in enumerate(images):
        if not isinstance(image, str) or image[:5].lower() != "data:":
            raise ValueError(f"image {number}: expected a data: URI, data:image/png;base64,...; nothing else is read")


def _images(turns: list[dict[str, Any]]) -> Iterator[Any]:
    for turn in turns:
        content = turn.get("content")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind in IMAGE_PARTS:
                image = part.get("image_url")
                yield image.get("url") if isinstance(image, dict) else image
            elif kind not in TEXT_PARTS:
                raise ValueError(f"messages: a part of the type {kind!r:.80}; expected text or image_url")


class BodyLimit:
    """An ASGI layer that refuses a request of more than `MAX_BODY` bytes: 413 where its header says so, unread; 400
    where it is found out while reading."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or refuse it."""
        from fastapi import HTTPException
        from fastapi.responses import JSONResponse

        read, claimed = 0, int(dict(scope.get("headers", ())).get(b"content-length", 0))
        told = f"the request has more than {MAX_BODY:,} bytes"
        if claimed > MAX_BODY:
            error = {"message": told, "type": "invalid_request_error"}
            await JSONResponse({"error": error}, 413)(scope, receive, send)
            return

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:
                raise HTTPException(413, told)
            return message

        await self.app(scope, counted, send)


def answer_errors() -> None:
    """Makes the server check what it is asked, and answer a fault of the request with 400 and its reason."""
    from fastapi.responses import JSONResponse
    from transformers.cli.serving import server

    build = server.build_server

    async def explain(_request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, status_code=400)

    def checked(handler: Any) -> Any:
        handle, validate = handler.handle_request, handler._validate_request
        build_config = handler._build_generation_config

        async def handle_checked(body: dict[str, Any], request_id: str) -> Any:
            check_request(body)
            return await handle(body, request_id)

        def configure(body: dict[str, Any], *rest: Any, **more: Any) -> Any:
            config = build_config(body, *rest, **more)
            if body.get(POINT) is not None:
                setattr(config, POINT, body[POINT])
            return config

        handler.handle_request, handler._build_generation_config = handle_checked, configure
        handler._validate_request = lambda body: validate({name: body[name] for name in body if name != POINT})
        return handler

    def build_server(model_manager: Any, chat_handler: Any, *, response_handler: Any, **others: Any) -> Any:
        app = build(model_manager, checked(chat_handler), response_handler=checked(response_handler), **others)
        app.router.routes = [route for route in app.router.routes if getattr(route, "path", None) in SERVED]
        app.add_middleware(BodyLimit)
        for kind in (ValueError, jinja2.TemplateError):
            app.add_exception_handler(kind, explain)
        return app

    server.build_server = build_server


def main() -> None:
    """The command line of `transformers serve`."""
    from transformers.cli.transformers import main as transformers_cli

    register()
    answer_errors()
    served = abstaining(TRRGForConditionalGeneration.generate)
    TRRGForConditionalGeneration.generate = served  # type: ignore[method-assign]
    sys.argv[:1] = ["transformers", "serve"]
    transformers_cli()


if __name__ == "__main__":
    main()
