"""TRRGProcessor: studies to tensors, chats, and bad studies in a batch."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.pipelines import ImageTextToTextPipeline
from transformers.utils.chat_template_utils import Chat

from processing_trrg import StudyError, TRRGImageProcessor, TRRGProcessor, batch_trrg, follow_up
from processing_trrg.prompt_trrg import PROMPT_STYLES, PromptError, report_messages
from tests.helpers.tiny_processors import clue_tokenizer, picture_bytes, radiograph, text_tokenizer, tiny_processor

IMAGE, EOS, N = 3, 2, 4
ONE, TWO, THREE = radiograph(seed=1), radiograph(40, 90, seed=2), radiograph(80, 80, seed=3)


@pytest.fixture(scope="module")
def processor() -> TRRGProcessor:
    return tiny_processor()


def tokens(processor: TRRGProcessor, row: int, batch) -> list[int]:
    return batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()


# --------------------------------------------------------------------------------------------------- studies to tensors


def test_one_study(processor: TRRGProcessor):
    batch = processor(images=ONE, indication="cough")
    assert batch["pixel_values"].shape == (1, 1, 3, 32, 32) and batch["pixel_values"].dtype == torch.float32
    assert batch["image_mask"].tolist() == [[True]]
    assert batch["clue_input_ids"].shape == batch["clue_attention_mask"].shape
    assert batch["clue_input_ids"].shape[:2] == (2, 14)
    assert set(batch) <= {*processor.model_input_names, "labels"} and "clue_scores" not in batch
    assert "indication: cough" in processor.tokenizer.decode(batch["input_ids"][0])


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_every_view_takes_n_consecutive_placeholders(style: str):
    processor = tiny_processor(style)
    batch = processor(images=[[ONE], [ONE, TWO, THREE]], indication=["a long story of cough", None])
    assert batch["pixel_values"].shape == (2, 3, 3, 32, 32)
    assert batch["image_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert (batch["pixel_values"][0, 1:] == 0).all()
    for row, views in enumerate((1, 3)):
        places = [index for index, token in enumerate(tokens(processor, row, batch)) if token == IMAGE]
        assert len(places) == views * N
        for view in range(views):
            block = places[view * N : (view + 1) * N]
            assert block == list(range(block[0], block[0] + N))


def test_a_study_alone_and_in_a_padded_batch_has_the_same_tokens_and_pixels(processor: TRRGProcessor):
    studies, indications = [[ONE], [TWO, THREE]], ["cough", "chest pain for three days"]
    batch = processor(images=studies, indication=indications)
    for row, (study, indication) in enumerate(zip(studies, indications, strict=True)):
        alone = processor(images=study, indication=indication)
        assert tokens(processor, row, batch) == alone["input_ids"][0].tolist()
        assert torch.equal(batch["pixel_values"][row][batch["image_mask"][row]], alone["pixel_values"][0])


def test_prompts_are_padded_on_the_left_and_targets_on_the_right(processor: TRRGProcessor):
    studies, reports = [[ONE], [TWO, THREE]], ["Findings: clear.", "Findings: edema. Impression: edema."]
    prompts, training = processor(images=studies), processor(images=studies, report=reports)
    assert prompts["attention_mask"][:, -1].all() and training["attention_mask"][:, 0].all()
    assert "labels" not in prompts
    for row, report in enumerate(reports):
        target = [token for token in training["labels"][row].tolist() if token != -100]
        assert target == [*processor.reply_ids(report)[0].tolist(), EOS]
        assert processor.tokenizer.decode(target[:-1]).strip() == report.lower()
        assert tokens(processor, row, training) == tokens(processor, row, prompts) + target
        learned = training["labels"][row] != -100
        assert torch.equal(training["labels"][row][learned], training["input_ids"][row][learned])
        assert not (training["input_ids"][row][learned] == IMAGE).any()
    assert processor(images=studies, padding_side="right")["attention_mask"][:, 0].all()


def test_padding_is_known_by_place_also_when_pad_is_eos():
    tokenizer = text_tokenizer()
    tokenizer.pad_token = "</s>"
    processor = TRRGProcessor(TRRGImageProcessor(size=32), tokenizer, clue_tokenizer(), N)
    labels = processor(images=[[ONE], [TWO]], report=["a", "a much longer one"])["labels"]
    assert (labels == EOS).sum(1).tolist() == [1, 1]


def test_a_folder_bytes_and_a_path_are_one_study(processor: TRRGProcessor, tmp_path: Path):
    for name, pixels in (("b.png", TWO), ("a.png", ONE)):
        (tmp_path / name).write_bytes(picture_bytes(pixels))
    views = processor(images=[ONE, TWO])
    for source in (tmp_path, str(tmp_path), [tmp_path / "a.png", (tmp_path / "b.png").read_bytes()]):
        assert torch.equal(processor(images=source)["pixel_values"], views["pixel_values"])


def test_a_study_known_by_its_clues_only(processor: TRRGProcessor):
    names = [clue["name"] for clue in processor.clues]
    scores = [dict.fromkeys(names, 0.25), dict.fromkeys(names, 1)]
    batch = processor(clue_scores=scores, report=["a", "b"])
    assert "pixel_values" not in batch and "image_mask" not in batch
    assert batch["clue_scores"].shape == (2, 14) and batch["clue_scores"].dtype == torch.float32
    assert (batch["input_ids"] == IMAGE).sum(1).tolist() == [N, N]
    assert processor(clue_scores=scores[0])["clue_scores"].shape == (1, 14)


def test_labels_and_scores_follow_the_order_of_the_clues(processor: TRRGProcessor):
    batch = processor(images=[[ONE], [TWO]], clue_targets=[{"Edema": -1, "Fracture": None, "No Finding": 0}, None])
    assert batch["clue_targets"][0].tolist() == [0, -100, -100, -100, -100, -1] + [-100] * 8
    assert batch["clue_targets"].dtype == torch.long and (batch["clue_targets"][1] == -100).all()
    own = processor(images=ONE, clues=["Mass", "Edema"], clue_scores={"Edema": 0.5, "Mass": 1})
    assert own["clue_scores"].tolist() == [[1, 0.5]] and own["clue_input_ids"].shape[:2] == (2, 2)


@pytest.mark.parametrize("count", [1, 1000])
def test_one_clue_and_a_thousand_make_tensors(processor: TRRGProcessor, count: int):
    batch = processor(images=ONE, clues=[f"finding {index}" for index in range(count)])
    assert batch["clue_input_ids"].shape[:2] == (2, count)
    assert batch.clue_names[-1] == f"finding {count - 1}"


def test_a_clue_may_be_a_name_a_sentence_or_a_dict():
    processor = tiny_processor()
    processor.clues = ["Hernia", {"positive": "A line ends in the atrium.", "negative": "No line ends there."}]
    assert [clue["name"] for clue in processor.clues] == ["Hernia", "A line ends in the atrium."]
    assert processor.clues[0]["positive"] == "There is hernia."
    assert processor(images=ONE)["clue_input_ids"].shape[:2] == (2, 2)
    sentence = processor(images=ONE, clues=["There is finding number 0."])
    assert sentence.clue_names == ["There is finding number 0."]
    assert sentence["clue_input_ids"].shape[:2] == (1, 1)  # a model that compares two statements asks for the other
    text = processor.clue_tokenizer.decode(sentence["clue_input_ids"][0, 0], skip_special_tokens=True)
    assert "there is there is" not in text.lower()


def test_a_clue_list_is_tokenised_once(monkeypatch):
    processor = tiny_processor()
    calls, tokenise = [], type(processor.clue_tokenizer).__call__
    counted = lambda self, *args, **kwargs: calls.append(1) or tokenise(self, *args, **kwargs)  # noqa: E731
    monkeypatch.setattr(type(processor.clue_tokenizer), "__call__", counted)
    before = len(calls)
    for _ in range(3):
        processor.clue_tensors()
        processor.clue_tensors([{"name": "Mass", "positive": "There is a mass.", "negative": "There is no mass."}])
    assert len(calls) - before == 2
    given = ["Mass"]
    assert [processor(images=ONE, clues=given).clue_names for _ in range(2)] == [["Mass"]] * 2
    given.append("Nodule")  # the same list, and no longer what was checked
    assert processor(images=ONE, clues=given).clue_names == ["Mass", "Nodule"]
    given[1] = "mass"
    with pytest.raises(ValueError, match="names must differ"):
        processor(images=ONE, clues=given)


def test_lists_by_turns_are_checked_once_each(monkeypatch):
    checks, check = [], batch_trrg.check_clues
    monkeypatch.setattr(batch_trrg, "check_clues", lambda clues: checks.append(1) or check(clues))
    processor = tiny_processor()
    for _ in range(3):
        for clues in (["Mass"], ["Nodule", "Mass"]):
            assert processor(images=ONE, clues=list(clues)).clue_names == clues
    assert len(checks) == 2


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("field", ["indication", "technique", "comparison", "prior_report", "question", "report"])
@pytest.mark.parametrize("token", ["<image>", "</s>", "<pad>"])
def test_a_typed_special_token_is_refused(processor: TRRGProcessor, field: str, token: str):
    with pytest.raises(StudyError, match=f"^study 0: {field}: the text holds the special token '{token}'"):
        processor(images=ONE, **{field: f"cough {token} fever"})


def test_a_special_token_in_a_finding_or_a_message_is_refused():
    processor = tiny_processor("radialog")
    for before in ({}, {"predicted_findings": []}):
        name = "possible_findings" if before else "predicted_findings"
        with pytest.raises(StudyError, match=f"{name}: the text holds"):
            processor(images=ONE, **before, **{name: ["Edema", "<image>"]})
    for content in ("hello <image>", [{"type": "text", "text": "hello </s>"}]):
        with pytest.raises(PromptError, match="user message: the text holds the special token"):
            processor.apply_chat_template([{"role": "user", "content": content}])


def test_a_text_longer_than_the_context_is_refused_with_both_lengths():
    needed = tiny_processor()(images=ONE, report="clear")["input_ids"].shape[1]
    assert tiny_processor(max_length=needed)(images=ONE, report="clear")["input_ids"].shape[1] == needed
    with pytest.raises(StudyError, match=f"the text is {needed} tokens long, max_length is {needed - 1}"):
        tiny_processor(max_length=needed - 1)(images=ONE, report="clear")


def test_a_clue_longer_than_the_clue_encoder_reads_is_refused(processor: TRRGProcessor):
    with pytest.raises(ValueError, match=r"a sentence is 54 tokens long, the clue tokenizer's limit is 32"):
        processor(images=ONE, clues=["very " * 47 + "large"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "no view: give images, or clue_scores"),
        ({"text": "<image> Assistant:"}, "no view"),
        ({"images": []}, "study 0: the study has no view"),
        ({"images": [[ONE], []]}, "study 1: the study has no view"),
        ({"images": [[ONE], [TWO]], "indication": "cough"}, "indication: a batch of 2 studies needs a list of 2"),
        ({"images": [[ONE], [TWO]], "indication": ["cough"]}, "indication: a batch of 2 studies needs a list of 2"),
        ({"images": [ONE, TWO], "indication": ["a", "b"]}, "indication: got list for one study; a batch of studies is"),
        ({"images": ONE, "indication": 7}, "indication: got int"),
        ({"images": [[ONE], [TWO]], "report": ["a", None]}, "report: given for some studies"),
        ({"images": ONE, "report": " "}, "report: the target text is blank"),
        ({"images": ONE, "clues": []}, "the list is empty"),
        ({"images": ONE, "clue_scores": {"Edema": 1.0}}, "missing .*'No Finding'"),
        ({"images": ONE, "clues": ["Edema"], "clue_scores": {"Edema": 1.5}}, "'Edema' is 1.5, expected 0 to 1"),
        ({"images": ONE, "clues": ["Edema"], "clue_scores": {"Edema": float("nan")}}, "'Edema' is nan, expected 0"),
        ({"images": ONE, "clue_targets": {"Oedema": 1}}, "'Oedema' is 1, expected one of the clues"),
        ({"images": ONE, "clue_targets": {"Edema": 2}}, "'Edema' is 2"),
        ({"images": ONE, "predicted_findings": ["Edema"]}, "only the prompt style 'radialog'"),
        ({"images": [[ONE]], "study_ids": ["a", "b"]}, "study_ids: expected a list of 1, got"),
        ({"images": ONE, "return_tensors": "np"}, "return_tensors: expected 'pt'"),
        ({"images": [[ONE], [ONE, TWO]], "padding": False}, "padding: texts of 1.. to 1.. tokens"),
        ({"images": ONE, "padding": "max_length"}, "padding: 'max_length' needs max_length"),
        ({"images": ONE, "max_length": 0}, "max_length: expected a positive number"),
        ({"images": ONE, "padding": True, "text_kwargs": {"padding": True}}, "padding: given twice"),
        ({"images": ONE, "do_resize": False}, "do_resize: expected True"),
        ({"images": ONE, "padding_side": "top"}, "padding_side: "),
        ({"images": ONE, "add_special_tokens": True}, "add_special_tokens: "),
        ({"images": ONE, "on_error": "ignore"}, "on_error: expected 'raise' or 'skip'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(processor: TRRGProcessor, arguments: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        processor(**arguments)


def test_a_bad_study_is_named_and_the_others_are_not_lost(processor: TRRGProcessor, tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    studies = [[ONE], [tmp_path / "text.png"], [TWO, np.full((64, 64), np.nan)], [THREE]]
    arguments = {
        "images": studies,
        "indication": ["cough", None, None, "fever"],
        "study_ids": ["A", "B", "C", "D"],
        "clue_targets": [{"Edema": 1}, None, None, {"Edema": 0}],
    }
    with pytest.raises(StudyError, match=r"^study 1 \(B\): .*text\.png: neither a PNG") as caught:
        processor(**arguments)
    assert (caught.value.index, caught.value.study_id) == (1, "B")

    batch = processor(**arguments, on_error="skip")
    assert batch.kept == [0, 3]
    assert [(bad.index, bad.study_id) for bad in batch.skipped] == [(1, "B"), (2, "C")]
    assert batch.skipped[1].reason == "view 1: 4,096 pixels are NaN or infinite"
    good = processor(images=[[ONE], [THREE]], indication=["cough", "fever"], clue_targets=[{"Edema": 1}, {"Edema": 0}])
    assert set(good) == set(batch) and all(torch.equal(good[name], batch[name]) for name in good)


def test_a_batch_of_bad_studies_is_empty_when_the_caller_goes_on(processor: TRRGProcessor):
    sources = [
        "a.png",
        "https://hospital.example/view.png",
        "data:image/png;base64," + "A" * 9000,
        "view\0.png",
        b"",
        7,
    ]
    batch = processor(images=[[source] for source in sources], on_error="skip")
    assert batch.kept == [] and len(batch.skipped) == len(sources) and dict(batch) == {}


def test_a_batch_survives_a_worker_process_and_a_move(processor: TRRGProcessor):
    batch = processor(images=[[ONE], ["b.png"]], study_ids=["A", "B"], on_error="skip")
    copy = pickle.loads(pickle.dumps(batch))  # noqa: S301 - our own bytes, as a DataLoader worker sends them
    moved = copy.to(dtype=torch.bfloat16)
    assert moved.kept == [0] and str(moved.skipped[0]) == str(batch.skipped[0])
    assert moved["pixel_values"].dtype == torch.bfloat16 and moved["input_ids"].dtype == torch.long


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"num_image_tokens": 0}, "num_image_tokens: expected a positive integer, got 0"),
        ({"prompt_style": "llava"}, "prompt_style: expected one of trrg, maira1, radialog, got 'llava'"),
        ({"max_length": -1}, "max_length: expected a positive number"),
        ({"clues": []}, "the list is empty"),
        ({"image_token": "<picture>"}, "'<picture>' is not one of its special tokens"),
    ],
)
def test_illegal_settings_are_refused(fields: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        TRRGProcessor(**{
            "image_processor": TRRGImageProcessor(size=32), "tokenizer": text_tokenizer(),
            "clue_tokenizer": clue_tokenizer(), "num_image_tokens": N, **fields,
        })  # fmt: skip


def test_a_tokenizer_without_a_pad_token_is_refused():
    tokenizer = text_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="tokenizer: it has no pad_token"):
        TRRGProcessor(TRRGImageProcessor(), tokenizer, clue_tokenizer(), N)


# --------------------------------------------------------------------------------------------- chats, pipeline, engines


def test_a_rendered_prompt_gives_the_same_tokens_as_the_style(processor: TRRGProcessor):
    text = processor.apply_chat_template(report_messages("trrg", 2, indication="cough"), add_generation_prompt=True)
    assert text.startswith("<s>Human: <Img><image></Img> <Img><image></Img> ") and text.endswith("\nAssistant:")
    direct = processor(images=[TWO, THREE], indication="cough")
    for images, prompt in (([TWO, THREE], text), ([[TWO, THREE]], text), ([[TWO, THREE]], [text])):
        rendered = processor(images=images, text=prompt)
        assert torch.equal(rendered["input_ids"], direct["input_ids"])
        assert torch.equal(rendered["pixel_values"], direct["pixel_values"])


def test_a_flat_list_of_images_is_split_by_the_placeholders_of_the_prompts(processor: TRRGProcessor):
    batch = processor(images=[ONE, TWO, THREE], text=["a <image>", "b <image><image>"])
    assert batch["image_mask"].tolist() == [[True, False], [True, True]]
    with pytest.raises(ValueError, match="images: 2 views for 3 <image> in 2 texts"):
        processor(images=[ONE, TWO], text=["a <image>", "b <image><image>"])
    with pytest.raises(StudyError, match="study 0: text: 2 <image> for 1 views"):
        processor(images=ONE, text="a <image> b <image>")


def test_a_reply_that_comes_back_with_its_blank_is_the_same_chat():
    processor = tiny_processor("trrg")
    chat = report_messages("trrg", 1)
    replies = [{"role": "assistant", "content": said} for said in ("Findings: clear.", " Findings: clear.\n")]
    first, again = (
        processor.apply_chat_template([*chat, reply, {"role": "user", "content": "So?"}]) for reply in replies
    )
    assert first == again and "Assistant: Findings: clear.</s>" in first


def test_a_chat_of_many_turns():
    processor = tiny_processor("radialog")
    chat = follow_up(report_messages("radialog", 1), "Findings: clear.", "There is also edema.")
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert text.count("<image>") == 1
    assert "ASSISTANT: Findings: clear.</s>USER: There is also edema. ASSISTANT:" in text
    training = processor(images=ONE, text=text, report="Findings: edema.")
    learned = training["labels"][training["labels"] != -100]
    assert processor.tokenizer.decode(learned) == " findings: edema.</s>"
    with pytest.raises(Exception, match="roles are system, user and assistant, got doctor"):
        processor.apply_chat_template([{"role": "doctor", "content": "x"}])


def test_the_image_text_to_text_pipeline_prepares_chats_and_prompts(processor: TRRGProcessor, tmp_path: Path):
    path = tmp_path / "view.png"
    path.write_bytes(picture_bytes(TWO))
    content = [{"type": "image", "path": str(path)}, {"type": "text", "text": "Is there edema?"}]
    pipeline = SimpleNamespace(processor=processor, dtype=torch.float32)
    from_chat = ImageTextToTextPipeline.preprocess(pipeline, Chat([{"role": "user", "content": content}]))
    prompt = "<s>Human: <Img><image></Img> Is there edema?\nAssistant:"
    from_text = ImageTextToTextPipeline.preprocess(pipeline, {"images": str(path), "text": prompt})
    question = processor(images=path, question="Is there edema?")
    for batch in (from_chat, from_text):
        batch.pop("text")
        assert torch.equal(batch["input_ids"], question["input_ids"]) and set(batch) == set(question)
    assert torch.equal(from_chat["pixel_values"], question["pixel_values"])


def test_what_serving_engines_ask_for(processor: TRRGProcessor):
    assert (processor.image_token, processor.image_token_id) == ("<image>", IMAGE)
    counts = processor._get_num_multimodal_tokens(image_sizes=[(2000, 1000), (64, 64)])
    assert counts["num_image_tokens"] == [N, N] and counts["num_image_patches"] == [1, 1]
    text = processor.apply_chat_template(report_messages("trrg", 2), add_generation_prompt=True)
    offsets = processor(images=[ONE, TWO], text=text, return_text_replacement_offsets=True)["text_replacement_offsets"]
    assert [item["type"] for item in offsets[0]] == ["image", "image"]
    for item in offsets[0]:
        start, end = item["span"]
        assert text[start:end] == "<image>" and item["replacement"] == "<image>" * N
