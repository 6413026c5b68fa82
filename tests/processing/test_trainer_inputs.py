"""What outside trainers and servers ask of a processor, with LLaVA's as the measure: padding, truncation, text alone,
the assistant's tokens, typed special tokens, batches rebuilt from their tensors."""

from pathlib import Path

import pytest
import torch
import transformers
from accelerate.utils import concatenate, send_to_device, slice_tensors
from packaging.version import Version
from PIL import Image
from transformers import CLIPImageProcessor, LlavaProcessor, pipeline

from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import StudyError, TRRGProcessor, report_messages
from processing_trrg.prompt_trrg import MARK, PROMPT_STYLES, PromptError, default_chat_template, without_marks
from tests.helpers.paths import ROOT
from tests.helpers.tiny_processors import radiograph, text_tokenizer, tiny_processor

ONE, TWO = radiograph(seed=1), radiograph(40, 90, seed=2)
WORDS = "findings: clear lungs."


@pytest.fixture(scope="module")
def processor() -> TRRGProcessor:
    return tiny_processor()


def chat(processor: TRRGProcessor, image=ONE, answer: str = WORDS) -> list[dict]:
    messages = report_messages(processor.prompt_style, 1)
    for item in (item for message in messages for item in message["content"] if item["type"] == "image"):
        item["image"] = image
    return [*messages, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def test_a_batch_can_be_rebuilt_from_its_tensors(processor: TRRGProcessor):
    batch = processor(images=[[ONE], [TWO]], report=["a", "bc"])
    for copy in (type(batch)(dict(batch)), type(batch)({**batch}), send_to_device(batch, "cpu"), batch.copy()):
        assert type(copy) is type(batch) and copy.keys() == batch.keys()
        assert all(torch.equal(copy[name], batch[name]) for name in batch)
    assert concatenate([batch, batch])["input_ids"].shape[0] == 4
    assert slice_tensors(batch, slice(0, 1))["labels"].shape[0] == 1


def test_a_rebuilt_batch_has_lost_its_words_and_says_so():
    processor = tiny_processor("radialog")
    batch = processor(images=ONE)
    with pytest.raises(ValueError, match="rebuilt from its tensors"):
        processor.say_findings(type(batch)(dict(batch)), None)


def test_padding_as_asked(processor: TRRGProcessor):
    studies = [[ONE], [ONE, TWO]]
    length = processor(images=studies)["input_ids"].shape[1]
    assert processor(images=studies, pad_to_multiple_of=64)["input_ids"].shape[1] == -(-length // 64) * 64
    wide = processor(images=studies, padding="max_length", max_length=length + 9, padding_side="right")
    assert wide["attention_mask"].sum(1).max() == length and wide["input_ids"].shape[1] == length + 9
    assert processor(images=ONE, padding=False)["attention_mask"].all()
    told = processor(images=studies, return_mm_token_type_ids=True)
    assert torch.equal(told["mm_token_type_ids"], (told["input_ids"] == processor.image_token_id).long())
    sizes = [view.shape for study in studies for view in study]
    counted = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
    assert told["mm_token_type_ids"].sum(1).tolist() == [counted[0], counted[1] + counted[2]]


@pytest.mark.parametrize("report", [None, WORDS])
def test_a_text_is_cut_only_where_truncation_is_asked(report: str | None):
    processor = tiny_processor()
    whole = processor(images=ONE, report=report)
    length = whole["input_ids"].shape[1]
    cut = processor(images=ONE, report=report, truncation=True, max_length=length - 5)
    assert all(torch.equal(cut[name], whole[name][:, : length - 5]) for name in cut if whole[name].shape == (1, length))
    assert torch.equal(processor(images=ONE, report=report, max_length=5)["input_ids"], whole["input_ids"])
    processor.tokenizer.truncation_side = "left"
    cut = processor(images=ONE, report=report, truncation=True, max_length=length - 3)
    assert torch.equal(cut["input_ids"], whole["input_ids"][:, 3:])
    with pytest.raises(StudyError, match="cut to 8 tokens it loses image tokens"):
        processor(images=ONE, report=report, truncation=True, max_length=8)
    limited = tiny_processor(max_length=length - 5)
    assert limited(images=ONE, report=report, truncation=True, max_length=999)["input_ids"].shape[1] == length - 5


def test_text_alone_has_no_study_beside_it(processor: TRRGProcessor):
    alone = processor(text=[WORDS, "a"], padding_side="right")
    expected = processor.tokenizer([WORDS, "a"], padding=True, return_tensors="pt")
    assert set(alone) == {"input_ids", "attention_mask"}
    assert all(torch.equal(alone[name], expected[name]) for name in alone)
    mixed = processor(images=[[], [ONE]], text=["no picture", "one <image>"])
    assert mixed["image_mask"].tolist() == [[False], [True]]
    for text in ("<image>", ["a", "<image>"], ["a", " "], [None]):
        with pytest.raises(ValueError, match="no view: give images"):
            processor(text=text)


def test_chats_with_and_without_an_image_make_one_batch(processor: TRRGProcessor):
    asked, words = (
        chat(processor)[:1],
        [{"role": "user", "content": [{"type": "text", "text": "What is an effusion?"}]}],
    )
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    for order in ([asked, words], [words, asked]):
        batch = processor.apply_chat_template(order, **options)
        assert batch["image_mask"].tolist() == [[messages is asked] for messages in order]
    assert set(processor.apply_chat_template(words, **options)) == {"input_ids", "attention_mask"}
    empty = [{"role": "user", "content": [{"type": "image"}, *words[0]["content"]]}]
    with pytest.raises(ValueError, match="no view: give images"):
        processor.apply_chat_template(empty, **options)
    with pytest.raises(StudyError, match="study 1: the study has no view"):
        processor.apply_chat_template([asked, empty], **options)


def test_a_finished_chat_is_no_prompt_that_could_be_too_long(processor: TRRGProcessor):
    most = processor(images=ONE)["input_ids"].shape[1]
    limited, messages = tiny_processor(max_prompt_length=most), chat(processor)
    assert limited.apply_chat_template(messages, tokenize=True).shape[1] > most
    with pytest.raises(StudyError, match="trained with at most"):
        limited.apply_chat_template([*messages, *messages[:1]], tokenize=True, add_generation_prompt=True)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.18"), reason="Transformers forgot that images expand"
)
@pytest.mark.parametrize("style", PROMPT_STYLES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_assistants_tokens_are_known(style: str, side: str):
    processor = tiny_processor(style)
    batch = processor.apply_chat_template(
        [chat(processor), chat(processor, TWO, "edema")], tokenize=True, return_dict=True,
        return_tensors="pt", return_assistant_tokens_mask=True,
        processor_kwargs={"padding_side": side, "pad_to_multiple_of": 32},
    )  # fmt: skip
    said = [batch["input_ids"][row][batch["assistant_masks"][row].bool()] for row in range(2)]
    assert [processor.tokenizer.decode(ids) for ids in said] == [f" {WORDS}</s>", " edema</s>"]
    assert not {"offset_mapping", "text_replacement_offsets"} & batch.keys()
    lists = processor.apply_chat_template(
        chat(processor), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert lists["input_ids"][0][-1] == processor.tokenizer.eos_token_id and lists["assistant_masks"][0][-1] == 1
    with pytest.raises(ValueError, match="on_error"):
        processor.apply_chat_template(
            [chat(processor)], tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
            processor_kwargs={"on_error": "skip"},
        )  # fmt: skip


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_the_marks_change_no_prompt_and_older_checkpoints_load(style: str, tmp_path: Path):
    processor = tiny_processor(style)
    older = without_marks(default_chat_template(style, "<image>"))
    assert "generation -" not in older and "generation -" in processor.chat_template
    messages = [*chat(processor), {"role": "user", "content": "and now?"}]
    assert processor.apply_chat_template(messages) == processor.apply_chat_template(messages, chat_template=older)
    processor.chat_template = older
    processor.save_pretrained(tmp_path)
    assert TRRGProcessor.from_pretrained(tmp_path).chat_template == older


@pytest.mark.skipif(MARK is None, reason="Transformers reads typed special tokens as text since 5.23")
def test_a_typed_special_token_can_be_read_as_text(processor: TRRGProcessor):
    messages = chat(processor)[:1]
    messages[0]["content"].append({"type": "text", "text": "what is </s> and <image>?"})
    read = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, sanitize_control_tokens=True, add_generation_prompt=True
    )
    ids = read["input_ids"][0].tolist()
    assert ids.count(processor.image_token_id) == processor.num_image_tokens
    assert processor.tokenizer.eos_token_id not in ids and read["pixel_values"].shape[:2] == (1, 1)
    for refused in ({"tokenize": True}, {"tokenize": False}):
        with pytest.raises(PromptError, match="special token"):
            processor.apply_chat_template(messages, **refused)


@pytest.mark.skipif(MARK is None, reason="Transformers has the pipeline since 5.23")
def test_the_decision_pipeline_weighs_the_answers_of_a_question() -> None:
    small = ROOT / "hub_cards" / "trrg-small"
    processor = TRRGProcessor.from_pretrained(small)
    decide = pipeline(
        "decision", model=TRRGForConditionalGeneration.from_pretrained(small), processor=processor,
        tokenizer=processor.tokenizer, decision_config=transformers.DecisionConfig(),
    )  # fmt: skip
    choice = {
        "type": "choice",
        "instructions": "Which is it? </s>",
        "criteria": {"effusion": "fluid", "none": "no fluid"},
    }
    picture = Image.fromarray(radiograph(256, 256))
    asked = {"state": "A chest X-ray: VIEW", "questions": {"fluid": choice}, "assets": {"VIEW": picture}}
    answer = decide(asked)["fluid"]
    assert answer["type"] == "choice" and sum(answer["probabilities"].values()) == pytest.approx(1)


def test_the_image_processor_called_directly_gives_the_same_pixels(processor: TRRGProcessor):
    see, expected = processor.image_processor, processor(images=[[ONE], [TWO]])["pixel_values"][:, 0]
    for images in ([ONE, TWO], (ONE, TWO), [[ONE], [TWO]], [torch.from_numpy(ONE), TWO]):
        assert torch.equal(see(images)["pixel_values"], expected)
        assert torch.equal(see(images=images, return_tensors="pt").pixel_values, expected)
    assert torch.equal(see(ONE)["pixel_values"], expected[:1]), "one array is one image"
    assert (see([ONE, TWO], return_tensors="np")["pixel_values"] == expected.numpy()).all()
    with pytest.raises(ValueError, match="no view"):
        see([])


def test_what_an_image_processor_does_can_be_changed_for_a_call(processor: TRRGProcessor):
    see = processor.image_processor
    raw = see(ONE, do_normalize=False, do_rescale=False)["pixel_values"]
    assert torch.equal(raw[:, 0], torch.from_numpy(see.squares([ONE])).float())
    clip = CLIPImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False, image_mean=see.image_mean, image_std=see.image_std
    )
    square = see.squares([radiograph(64, 64)])[0]
    theirs = clip(square[None].repeat(3, 0), do_resize=False, input_data_format="channels_first", return_tensors="pt")
    torch.testing.assert_close(see.normalise(square[None]), theirs["pixel_values"], rtol=0, atol=1e-5)
    called = processor(images=ONE, do_normalize=False, images_kwargs={"do_rescale": False})["pixel_values"]
    assert torch.equal(called[0], raw)
    with pytest.raises(ValueError, match="do_center_crop: expected False"):
        see(ONE, do_center_crop=True)
    with pytest.raises(TypeError, match="unknown arguments: crop"):
        see(ONE, crop=3)


def test_a_batch_has_the_form_that_llavas_has(processor: TRRGProcessor):
    sizes = {"height": 32, "width": 32}
    llava = LlavaProcessor(
        CLIPImageProcessor(size=sizes, do_center_crop=False), text_tokenizer(), patch_size=16,
        vision_feature_select_strategy="full", chat_template=processor.chat_template,
    )  # fmt: skip
    options = {
        "padding": True, "padding_side": "right", "pad_to_multiple_of": 8, "truncation": True, "max_length": 512,
        "add_special_tokens": False,
    }  # fmt: skip
    for more in ({}, {"return_assistant_tokens_mask": True}):
        ours, theirs = (
            read.apply_chat_template(
                [chat(processor), chat(processor, TWO, "edema")],
                tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs=dict(options), **more,
            )
            for read in (processor, llava)
        )  # fmt: skip
        for name in theirs.keys() - {"pixel_values"}:
            assert torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(theirs[name])), name
