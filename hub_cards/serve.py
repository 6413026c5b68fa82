"""An OpenAI-style server of a checkpoint: `transformers serve`, told first what a TRRG is.

    python -m hub_cards.serve hub_cards/trrg-small --port 8000

What follows goes to `transformers serve` (`--help` lists it), which needs `pip install "transformers[serving]"`. Images
come as `data:` URIs: a server neither fetches an address nor opens its own files for a client. It listens on the
loopback unless `--host` says otherwise, and knows no passwords. Research only, never for clinical use.
"""

import sys
from collections.abc import Iterator
from typing import Any

import jinja2
import transformers
from transformers import AutoModelForMultimodalLM
from transformers.cli.serving import utils as serving
from transformers.models.auto import modeling_auto

import processing_trrg  # noqa: F401 - registers the processors
from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration

IMAGE_PARTS = ("image_url", "input_image", "image")


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


def check_request(body: dict[str, Any]) -> None:
    """
    Args:
        body: of a request, as OpenAI's chat completions (`messages`) or responses (`input`) have it.

    Raises:
        ValueError: no image, an image that is no `data:` URI, or what the server would ignore: several answers, tools.
    """
    if body.get("n") not in (None, 1):
        raise ValueError(f"n: one answer is written to a request, got {body['n']!r}")
    if body.get("tools") or body.get("functions"):
        raise ValueError("tools: this model calls none; leave them out")
    turns = body.get("messages", body.get("input"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        raise ValueError("messages: expected a list of turns, each with role and content")
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
            if isinstance(part, dict) and part.get("type") in IMAGE_PARTS:
                image = part.get("image_url")
                yield image.get("url") if isinstance(image, dict) else image


def answer_errors() -> None:
    """Makes the server check what it is asked, and answer a fault of the request with 400 and its reason."""
    from fastapi.responses import JSONResponse
    from transformers.cli.serving import server

    build = server.build_server

    async def explain(_request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, status_code=400)

    def checked(handler: Any) -> Any:
        handle = handler.handle_request

        async def handle_checked(body: dict[str, Any], request_id: str) -> Any:
            check_request(body)
            return await handle(body, request_id)

        handler.handle_request = handle_checked
        return handler

    def build_server(model_manager: Any, chat_handler: Any, *, response_handler: Any, **others: Any) -> Any:
        app = build(model_manager, checked(chat_handler), response_handler=checked(response_handler), **others)
        for kind in (ValueError, jinja2.TemplateError):
            app.add_exception_handler(kind, explain)
        return app

    server.build_server = build_server


def main() -> None:
    """The command line of `transformers serve`."""
    from transformers.cli.transformers import main as transformers_cli

    register()
    answer_errors()
    sys.argv[:1] = ["transformers", "serve"]
    transformers_cli()


if __name__ == "__main__":
    main()
