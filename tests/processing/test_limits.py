"""TRRGProcessor: texts that are none, studies and prompts longer than the model was trained with, foreign requests."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, pipeline

from processing_trrg import StudyError, TRRGProcessor, check_clues, prompt_trrg
from processing_trrg.prompt_trrg import PROMPT_STYLES, REQUEST, PromptError
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import picture_bytes, radiograph, tiny_processor

HALF = json.loads('"cough \\ud83d fever"')  # half of an emoji, which JSON may hold
FIELDS = ("indication", "technique", "comparison", "prior_report", "question", "report", "text")


@pytest.fixture(scope="module")
def processor() -> TRRGProcessor:
    return tiny_processor()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", [HALF, "\udcff", "a" * 3000 + "\ud800"])
def test_half_a_character_names_study_and_field(processor: TRRGProcessor, field: str, text: str):
    studies = {"images": [[radiograph()]] * 2, field: ["<image>", text] if field == "text" else ["fever", text]}
    with pytest.raises(StudyError, match=rf"^study 1 \(B\): {field}: character \d+ is a lone surrogate, '\\ud"):
        processor(**studies, study_ids=["A", "B"])
    batch = processor(**studies, study_ids=["A", text], on_error="skip")
    assert batch.kept == [0]
    str(batch.skipped[0]).encode()  # the error can be printed, whatever the study is called


def test_half_a_character_in_names_and_messages():
    with pytest.raises(StudyError, match="study 0: predicted_findings: character 6"):
        tiny_processor("radialog")(images=radiograph(), predicted_findings=["Edema", HALF])
    with pytest.raises(PromptError, match="user message: character 6"):
        tiny_processor().apply_chat_template([{"role": "user", "content": HALF}])
    with pytest.raises(ValueError, match="clues: the name of clue 0: character 6"):
        check_clues([HALF])


@pytest.mark.parametrize("views", [3, 1247])
def test_a_folder_of_many_patients_is_refused_before_any_image_is_read(tmp_path: Path, views: int):
    processor = tiny_processor(max_views=2)
    for number in range(views):
        (tmp_path / f"{number:04}.png").write_bytes(b"never read")
    with pytest.raises(StudyError, match=rf"{views} views, but the model was trained with at most 2 .* is one study"):
        processor(images=tmp_path)
    batch = processor(images=[[radiograph()] * views, [radiograph()] * 2], on_error="skip")
    assert batch.kept == [1] and "trained with at most 2" in batch.skipped[0].reason


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_a_prompt_longer_than_any_that_was_trained_is_refused(style: str):
    needed = tiny_processor(style)(images=radiograph(), indication="cough")["input_ids"].shape[1]
    tight = tiny_processor(style, max_prompt_length=needed)
    assert tight(images=radiograph(), indication="cough")["input_ids"].shape[1] == needed
    with pytest.raises(StudyError, match=f"the prompt is {needed + 1} tokens long, .* trained with at most {needed}$"):
        tight(images=radiograph(), indication="coughs")
    tight(images=radiograph(), indication="coughs", report="clear")  # in training it would be no longer the longest


@pytest.mark.parametrize(
    ("field", "value"), [("num_image_tokens", 10**9), ("max_views", 10**9), ("max_views", 0), ("max_prompt_length", 0)]
)
def test_numbers_without_a_bound_are_refused(field: str, value: int):
    with pytest.raises(ValueError, match=f"{field}: expected a positive "):
        tiny_processor(**{field: value})


def test_a_blank_text_is_the_trained_request(tmp_path: Path):
    """Through the pipeline of Transformers, one image or several, each with a blank text."""
    folder, picture = save_checkpoint(tmp_path / "model", "trrg"), tmp_path / "view.png"
    picture.write_bytes(picture_bytes(radiograph()))
    write = pipeline("image-text-to-text", model=str(folder), trust_remote_code=True, return_full_text=False)
    prompt = f"<s>Human: <Img><image></Img> {REQUEST['trrg']}\nAssistant:"
    expected = write(images=str(picture), text=prompt, max_new_tokens=6)[0]["generated_text"]
    for text in ("", " \n"):
        assert write(images=str(picture), text=text, max_new_tokens=6)[0]["generated_text"].endswith(expected)
    several = write.processor(images=[radiograph(), radiograph()], text=["", " "])
    assert several["image_mask"].tolist() == [[True], [True]]


def test_a_foreign_request_is_warned_of_once(processor: TRRGProcessor, caplog):
    prompt_trrg.logger.warning_once.cache_clear()
    for style in PROMPT_STYLES:
        tiny_processor(style)(images=radiograph(), indication="cough")
    assert not caplog.records, "their own requests"
    for _ in range(2):
        processor(images=radiograph(), question="Describe.")
        processor(images=radiograph(), text="<image> Describe.")
    (warning,) = caplog.messages
    assert REQUEST["trrg"] in warning
    processor(images=radiograph(), question="Describe.", report="clear")  # training may ask what it likes


def test_the_small_checkpoint_says_what_it_was_trained_with():
    """One view, prompts of at most 240 tokens; two hundred words are refused, and no mark of a removed name is said."""
    processor = AutoProcessor.from_pretrained(ROOT / "hub_cards" / "trrg-small", trust_remote_code=True)
    assert (processor.max_views, processor.max_prompt_length, processor.max_length) == (1, 240, 1024)
    config = json.loads((ROOT / "hub_cards" / "trrg-small" / "config.json").read_text())
    assert config["max_views"] == 1 and config["text_config"]["max_position_embeddings"] == 1024
    with pytest.raises(ValueError, match=r"the prompt is \d+ tokens long, the model was trained with at most 240"):
        processor(images=radiograph(), indication="chest pain " * 100)
    forbidden = json.loads((ROOT / "hub_cards" / "trrg-small" / "generation_config.json").read_text())["bad_words_ids"]
    for mark in ("XXXX", " XXXX", "The XXXX is", "XX"):
        ids = processor.tokenizer(mark)["input_ids"]
        assert any(ids[start : start + len(words)] == words for words in forbidden for start in range(len(ids)))
    for words in ("X-ray", "An x ray.", "No XR."):
        ids = processor.tokenizer(words)["input_ids"]
        assert not any(ids[start : start + len(bad)] == bad for bad in forbidden for start in range(len(ids)))


@pytest.mark.parametrize(
    "bad", [5, 2.5, b"x", object(), [5], {"a": 1}, {1}, torch.zeros(3)], ids=lambda bad: type(bad).__name__
)
def test_a_value_of_another_type_is_named(bad):
    processor, image = tiny_processor(), radiograph()
    calls = {
        "text": lambda: processor(image, text=bad),
        "clues": lambda: processor(image, clues=bad),
        "study_ids": lambda: processor(image, study_ids=bad if bad != [5] else 5),
        "outputs": lambda: processor.post_process_report(bad),
        "inputs": lambda: processor.post_process_report(["Findings: clear."], bad),
        "study": lambda: processor.post_process_report(["Findings: clear."], None, bad),
        "conversation": lambda: processor.apply_chat_template(bad),
        "conversation: ": lambda: processor.apply_chat_template([{"role": bad, "content": "a"}]),
        "user message": lambda: processor.apply_chat_template([{"role": "user", "content": bad}]),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}.*expected"):
            call()


def test_what_is_empty_is_named_too():
    processor = tiny_processor()
    assert processor.post_process_report([]) == []
    with pytest.raises(ValueError, match=r"^inputs: expected"):
        processor.post_process_report([], {})
    for nothing in ([], (), [[]], None, "", {}):
        with pytest.raises(ValueError, match=r"^conversation: expected"):
            processor.apply_chat_template(nothing)
