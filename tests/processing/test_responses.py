"""Answers as messages: Transformers' response template, whole and while an answer is written; and its pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, pipeline

from processing_trrg import TRRGProcessor, report_messages
from processing_trrg.prompt_trrg import PROMPT_STYLES, PromptStyle
from processing_trrg.report_trrg import split_report
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph, tiny_processor

SMALL = ROOT / "hub_cards" / "trrg-small"
ANSWERS = [
    "Findings: The lungs are clear. Impression: Normal.",
    "Findings: Incidental findings: a nodule. Findings in the left lung: none. Impression: See above.",
    "The heart is large.\n\nIMPRESSION: Cardiomegaly.\nFindings : No effusion. impression: No change.",
    "No, the right side is clear.",
    "findings: a < b, 1 </ 2\nfindings: c Impression:",
    "Impression: None.",
    "Findings:",
    "",
]


@pytest.fixture(scope="module")
def small() -> TRRGProcessor:
    return TRRGProcessor.from_pretrained(SMALL)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("end", ["", "</s>", " </s><pad><pad>"])
@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_an_answer_is_read_as_a_report_is_whole_and_while_it_is_written(
    style: PromptStyle, answer: str, end: str
) -> None:
    processor = tiny_processor(style)
    turns = report_messages(style, 1, indication="Assistant: Findings: as a user typed.")
    prefix = processor.apply_chat_template(turns, add_generation_prompt=True)
    findings, impression = split_report(answer)
    sections = {"findings": findings, "impression": impression, "content": answer if end else ""}
    expected = {"role": "assistant"} | {name: text for name, text in sections.items() if text}
    written = f" {answer}{end}"
    assert processor.tokenizer.parse_response(written, prefix=prefix) == expected
    assert processor.parse_response([written, written], prefix=prefix) == [expected] * 2
    for step in (1, 4):
        parser = processor.tokenizer.get_response_parser(prefix=prefix)
        events = [event for at in range(0, len(written), step) for event in parser.feed(written[at : at + step])]
        said = "".join(event["text"] for event in events if event["type"] == "region_chunk")
        message, _ = parser.finalize()
        assert message == expected
        assert len(said) >= 0.8 * len(findings + (impression or "")) - 12, "held back to the end"


def test_every_tokenizer_of_a_folder_has_it(small: TRRGProcessor, tmp_path: Path) -> None:
    ids = small.tokenizer([f" {answer}</s>" for answer in ANSWERS[:2]], padding=True, return_tensors="pt")["input_ids"]
    small.save_pretrained(tmp_path)
    for folder in (SMALL, tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.response_template == small.response_template()
        assert [message["content"] for message in tokenizer.parse_response(ids, prefix="")] == ANSWERS[:2]


def test_the_pipeline_of_transformers_goes_on_with_the_answer_it_gave(small: TRRGProcessor) -> None:
    write = pipeline("image-text-to-text", model=str(SMALL), trust_remote_code=True)
    chat: list[dict[str, Any]] = report_messages("trrg", 1)
    chat[0]["content"][0] = {"type": "image", "image": Image.fromarray(radiograph(256, 256))}
    [answer] = write(text=chat)
    said = dict(answer["generated_text"][-1])
    text = said["content"]
    assert text.startswith("Findings:") and small.tokenizer.eos_token not in text
    assert (said["findings"], said["impression"]) == split_report(text)
    turns = [*answer["generated_text"], {"role": "user", "content": [{"type": "text", "text": "And now?"}]}]
    assert f" {text}</s>" in small.apply_chat_template(turns)
    assert write(text=turns, max_new_tokens=1)[0]["generated_text"][-1]["role"] == "assistant"
    ended = small.tokenizer([f"{text}</s><pad>"], return_tensors="pt")["input_ids"]
    (clean,) = small.post_process_image_text_to_text(ended, skip_special_tokens=False)  # of `return_full_text=False`
    assert clean.strip() == text and small.parse_response(clean, prefix="") == said
    del turns[-2]["content"]  # as of an answer that was cut
    with pytest.raises(ValueError, match="assistant message: it has no content, only findings, impression, role"):
        small.apply_chat_template(turns)


def test_a_text_that_only_looks_like_a_program_is_read_in_no_time(small: TRRGProcessor) -> None:
    hostile = "findings " * 900 + "\n" * 900 + "</" * 900 + " " * 900 + "Impression" * 200
    message = small.parse_response(hostile, prefix="")
    assert message["findings"] == split_report(hostile)[0]
    assert isinstance(small.post_process_image_text_to_text(torch.tensor([2])), str)
