"""The Space: a study goes in; its report comes out sentence by sentence, each with its clue and its place.

    make space        or: TRRG_CHECKPOINT=demo/published python demo/space/app.py

What is shown is made in page.py, files in take_home.py; here are Gradio's parts. Research only, never for clinical use.
"""

import html
import importlib.util
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

try:  # before torch, on ZeroGPU
    from spaces import GPU as gpu
except ImportError:

    def gpu(function: Callable) -> Callable:
        """Nothing to do where there is no such hardware."""
        return function


import gradio as gr
from transformers import TextIteratorStreamer, pipeline

from hub_cards.space import page as shown
from hub_cards.space import take_home

HOUR = 3600  # seconds that a study stays, on a page that nobody touches
ANSWERS = ["present", "indeterminate", "absent"]
FIELDS = ("indication", "technique", "prior_report")
DIAL = ["careful", "balanced", "sensitive"]
TURNED = "Careful states fewer findings, sensitive misses fewer."
PHANTOM = "Synthetic phantom, single frontal view."
POINT = "Point at a sentence or a clue (the same, by keyboard)"
HOW_IT_WAS_MADE = "How it was made, as its report would say. Left empty, the model is told nothing of it."

checkpoint = os.environ["TRRG_CHECKPOINT"]
write: Any = pipeline("radiology-report", model=checkpoint, trust_remote_code=True)
has_dial = write.model.config.clue_operating_points is not None
most_views = write.processor.max_views
shown_squares = write.image_processor.with_options(size=shown.SIDE).squares
examples_file = Path(__file__).with_name("examples.json")  # by hub_cards/publish.py
examples = json.loads(examples_file.read_text(encoding="utf-8")) if examples_file.is_file() else []
model_thread = ThreadPoolExecutor(1)
"""One after the other, for all visitors: a study that waits its turn is never one that is being written."""


def refuse(error: Exception | str) -> gr.Error:
    """What went wrong, in a box that would show HTML."""
    words = error if isinstance(error, str) else shown.reason(error)
    return gr.Error(html.escape(words), title="Not done", print_exception=False)


def or_refuse(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """What a function gives.

    Raises:
        gr.Error: what it refuses, with its reason.
    """
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise refuse(error) from None


def in_turn(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """`or_refuse`, when it is this visitor's turn."""
    return or_refuse(model_thread.submit(function, *args, **kwargs).result)


def look(views: list[Any], words: dict[str, str], dial: str, **options: Any) -> Any:
    """The study, with its report."""
    return write({"images": views, **words}, **options, **({"operating_point": dial} if has_dial else {}))


def talked(visit: shown.Visit | None) -> Any:
    """The study as it can be talked about; where only its report is left, it is looked at again.

    Raises:
        gr.Error: nothing was uploaded yet, or the server forgot it.
    """
    if visit is None or visit.report is None:
        raise refuse("There is no study here, or not any more: upload one.")
    if not hasattr(visit.report, "ask"):
        visit.report = in_turn(look, visit.views, visit.words, visit.dial, messages=visit.messages)
    return visit.report


# ------------------------------------------------------------------------------------------ what stands on the page


def drawn(visit: shown.Visit | None, key: str | None = None) -> dict[Any, Any]:
    """The views, as many as there are."""
    views = shown.draw_views(visit, key) if visit else []
    told: list[dict[str, Any]] = [{"value": view, "label": caption, "visible": True} for view, caption in views]
    told += [{"value": None, "label": "No view", "visible": not views and place == 0} for place in range(most_views)]
    return {view: gr.Image(**new) for view, new in zip(pictures, told, strict=False)}


def empty(visit: shown.Visit | None, words: str = "") -> dict[Any, Any]:
    """The page without a report, so that none stands beside another study's picture."""
    return {
        state: visit,
        uploads: None,
        report_box: [(words, None)] if words else [],
        differ: "",
        **drawn(visit),
        table: [],
        point: gr.Dropdown(choices=[], value=None),
        told: "",
        by_hand: gr.Radio(value=None, label="Answer by hand", interactive=False),
        chat: [],
        downloads: None,
    }


def filled(visit: shown.Visit) -> dict[Any, Any]:
    """The page of a study with its report."""
    report = visit.report
    visit.messages = report.messages
    return empty(visit) | {
        report_box: [(span.text, span.mark) for span in shown.report_spans(report)],
        differ: shown.differences(report),
        table: shown.clue_rows(visit),
        point: gr.Dropdown(choices=shown.places_to_point(report), value=None),
        chat: visit.chat,
        downloads: take_home.write_files(visit, Path(checkpoint).name, write.image_processor),
    }


def written(visit: shown.Visit) -> Iterator[dict[Any, Any]]:
    """The page while a report is written, sentence by sentence."""
    visit.report, visit.chat, visit.by_hand, visit.corrected = None, [], {}, False
    yield empty(visit, "The radiograph is read ...")
    streamer = TextIteratorStreamer(write.tokenizer, skip_prompt=True, skip_special_tokens=True)
    future = model_thread.submit(look, visit.views, visit.words, visit.dial, streamer=streamer)
    future.add_done_callback(lambda _: streamer.end())  # where nothing is written, too
    text = ""
    for piece in streamer:
        text += piece
        if text.rstrip().endswith((".", "!", "?")):
            yield {report_box: [(text, None)]}
    try:
        visit.report = future.result()
    except ValueError as error:
        yield empty(visit, f"This study cannot be read: {shown.reason(error)}")
        raise refuse(error) from None
    yield filled(visit)


def received(paths: list[str], kept: bool, dial: str, **words: str) -> Iterator[dict[Any, Any]]:
    """A new study in the place of the last one."""
    yield empty(None, "The files are read ...")
    try:
        views = shown.read_uploads(paths, most_views, kept)
        folder = Path(tempfile.mkdtemp(prefix="trrg-"))
        visit = shown.Visit(views, shown_squares(views), shown.read_words(**words), dial, folder)
        weakref.finalize(visit, shutil.rmtree, folder, ignore_errors=True)
    except (ValueError, OSError) as error:
        error = error if isinstance(error, ValueError) else ValueError("the upload is gone; send it again")
        yield empty(None, f"This study cannot be read: {shown.reason(error)}")
        raise refuse(error) from None
    yield from written(visit)


# ---------------------------------------------------------------------------------------------- what a visitor does


@gpu
def on_upload(visit: shown.Visit | None, paths: list[str] | None, *words_and_dial: str) -> Any:
    """Files were dropped. Words that still stand there from the study before are not this one's."""
    *words, setting = words_and_dial
    fields = shown.new_words(visit, dict(zip(FIELDS, words, strict=True)))
    for parts in received(paths or [], False, setting, **fields):
        yield {**parts, **dict(zip((indication, technique, prior), fields.values(), strict=True))}


@gpu
def on_again(visit: shown.Visit | None, *words_and_dial: str) -> Any:
    """The words or the dial have changed, the study has not.

    Raises:
        gr.Error: there is no study, or a text is too long.
    """
    if visit is None:
        raise refuse("Upload a study first.")
    *words, setting = words_and_dial
    visit.words = or_refuse(shown.read_words, **dict(zip(FIELDS, words, strict=True)))
    visit.dial = setting
    yield from written(visit)


def on_example(example: dict[str, str]) -> Callable:
    """Shows an example, in the words that it was made with."""

    @gpu
    def show() -> Any:
        words = {name: example[name] for name in ("indication", "technique")}
        fields = {indication: example["indication"], technique: example["technique"], prior: "", dial: "balanced"}
        for parts in received([str(Path(__file__).with_name(example["file"]))], True, "balanced", **words):
            yield {**parts, **fields}

    return show


def on_point(visit: shown.Visit | None, key: str | None) -> dict[Any, Any]:
    """A sentence or a clue is pointed at."""
    if visit is None or visit.report is None or key is None:
        return {told: ""}
    report = visit.report
    name = shown.clue_at(report, key)
    answer = next((visit.by_hand.get(clue.name, clue.answer) for clue in report.clues if clue.name == name), None)
    label = f"Answer by hand: {name}" if name else "Answer by hand"
    return {
        point: gr.Dropdown(choices=shown.places_to_point(report), value=key),
        told: shown.pointed(visit, key),
        **drawn(visit, key),
        by_hand: gr.Radio(value=answer, label=label, interactive=name is not None),
    }


def on_sentence(visit: shown.Visit | None, chosen: gr.SelectData) -> dict[Any, Any]:
    """A piece of the report is chosen."""
    if visit is None or visit.report is None:
        return {told: ""}
    span = shown.report_spans(visit.report)[chosen.index]
    return on_point(visit, span.clue if span.sentence is None else f"sentence {span.sentence}")


def on_row(visit: shown.Visit | None, chosen: gr.SelectData) -> dict[Any, Any]:
    """A row of the clue table is chosen."""
    return on_point(visit, chosen.row_value[0] if chosen.row_value else None)


@gpu
def on_edit(visit: Any, key: str | None, answer: str) -> dict[Any, Any]:
    """A clue gets another answer by hand, and the report follows it.

    Raises:
        gr.Error: nothing is pointed at, or the clue cannot have this answer.
    """
    study = talked(visit)
    name = shown.clue_at(study, key) if key else None
    if name is None:
        raise refuse("Point at a clue first.")
    done = in_turn(lambda: study.correct(clues={name: shown.score_by_hand(write, name, answer)}))
    visit.by_hand[name] = answer
    return corrected(visit, f"{name}: {answer}, by hand", done) | on_point(visit, name)


@gpu
def on_ask(visit: Any, question: str) -> dict[Any, Any]:
    """A question about the study."""
    study = talked(visit)
    answer = in_turn(study.ask, question)
    visit.messages = study.messages
    visit.chat += shown.chat_turn(question, answer)
    return {state: visit, chat: visit.chat, line: ""}


@gpu
def on_correct(visit: Any, request: str) -> dict[Any, Any]:
    """A correction in free words."""
    study = talked(visit)
    done = in_turn(study.correct, request)
    return corrected(visit, f"Correct the report: {request}", done) | {line: ""}


def corrected(visit: shown.Visit, request: str, done: Any) -> dict[Any, Any]:
    """The page behind a correction."""
    visit.corrected = True
    visit.chat += shown.chat_turn(request, shown.correction_words(done))
    return filled(visit)


# ---------------------------------------------------------------------------------------------- for programs (MCP)


@gpu
def report_study(
    images: list[str],
    indication: str = "",
    technique: str = "",
    prior_report: str = "",
    operating_point: Literal["careful", "balanced", "sensitive"] = "balanced",
) -> dict:
    """Write the report of one chest X-ray study. Research only, never for clinical use.

    Args:
        images: the views, each a data: URI (data:image/png;base64,...) of a PNG, JPEG or DICOM file.
        indication: why the study was made.
        technique: how it was made.
        prior_report: the report of the study before.
        operating_point: careful states fewer clues, sensitive more.

    Returns:
        Findings, impression, and the sentences, each supported, unsupported or not checkable; clues and boxes.
    """
    views = or_refuse(shown.in_base64, images)
    words = or_refuse(shown.read_words, indication=indication, technique=technique, prior_report=prior_report)
    return {**in_turn(look, views, words, operating_point).to_dict(), "notice": shown.NOTICE}


@gpu
def ask_study(images: list[str], report: str, question: str) -> str:
    """Answer a question about a chest X-ray study and its report. Research only, never for clinical use.

    Args:
        images: as for report_study.
        report: the text that report_study gave.
        question: in words.
    """
    chat = [{"role": "assistant", "content": report}]
    views = or_refuse(shown.in_base64, images)
    return in_turn(lambda: look(views, {}, "balanced", messages=chat).ask(question))


# ------------------------------------------------------------------------------------------------------- the page

with gr.Blocks(title="TRRG", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as space:
    state = gr.State(None, time_to_live=HOUR)
    gr.Markdown(f"# TRRG: a chest X-ray goes in, a report and its clues come out\n\n{shown.worth(checkpoint)}")
    with gr.Row():
        with gr.Column(min_width=300):
            dropped = f"A study: {'views' if most_views > 1 else 'one view'}"
            uploads = gr.File(file_count="multiple", height=160, label=dropped)
            gr.Markdown(
                f"PNG, JPEG or DICOM, {f'1 to {most_views} views, all at once' if most_views > 1 else 'one view'}. "
                "The next upload is the next study. Uploads are deleted as soon as they are read. "
                "Share no image that you have no right to share."
            )
            bounded: dict[str, Any] = {"max_length": shown.MAX_CHARACTERS}
            indication = gr.Textbox(label="Indication", placeholder="Why the study was made", **bounded)
            technique = gr.Textbox(label="Technique", info=HOW_IT_WAS_MADE, placeholder=PHANTOM, **bounded)
            prior = gr.Textbox(label="Report of the study before", lines=2, **bounded)
            dial = gr.Radio(DIAL, value="balanced", label="Dial of the clues", visible=has_dial, info=TURNED)
            again = gr.Button("Write again with these words")
            buttons = [gr.Button(example["label"], size="sm") for example in examples]
            gr.Markdown("\n".join(f"- {example['note']}" for example in examples))
        with gr.Column(scale=2, min_width=320):
            view: dict[str, Any] = {"format": "png", "height": "min(700px, 112vw)", "buttons": ["fullscreen"]}
            view |= {"label": "No view", "interactive": False, "elem_classes": "view"}
            pictures = [gr.Image(visible=place == 0, **view) for place in range(most_views)]
    with gr.Row():
        with gr.Column(min_width=320):
            report_box = gr.HighlightedText(
                label="Report; choose a sentence to see its clue and its place", elem_id="report", show_legend=True,
                color_map=shown.COLOURS, combine_adjacent=False,
            )  # fmt: skip
            gr.Markdown(shown.MARKS)
            differ = gr.Textbox(label="Where report and clues differ", interactive=False, lines=2)
            point = gr.Dropdown([], label=POINT, interactive=True, elem_id="point")
            told = gr.Textbox(label="What is pointed at", interactive=False, lines=5)
            by_hand = gr.Radio(ANSWERS, label="Answer by hand", info="The report follows.", interactive=False)
        with gr.Column(min_width=320):
            table = gr.Dataframe(
                headers=["Clue", "Answer", "Score", "Threshold"], datatype=["str", "str", "str", "str"],
                label="Clues; choose one to see its sentence", interactive=False, max_height=1200, buttons=[],
                elem_id="clues", wrap=True, column_widths=["37%", "26%", "14%", "23%"],
            )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            chat = gr.Chatbot(label="Questions and corrections", render_markdown=False, height=300, buttons=[])
            line = gr.Textbox(label="Ask about the study, or correct its report", **bounded)
            with gr.Row():
                ask = gr.Button("Ask", variant="primary")
                correct = gr.Button("Correct the report")
        with gr.Column(min_width=300):
            downloads = gr.File(label="Take home: text, JSON, picture, FHIR, DICOM SR", interactive=False)
            gr.Markdown(take_home.ABOUT)

    words = [indication, technique, prior, dial]
    page = [state, uploads, report_box, differ, *pictures, table, point, told, by_hand, chat, downloads]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "show_progress_on": report_box}
    uploads.upload(on_upload, [state, uploads, *words], [*page, *words], **private)
    again.click(on_again, [state, *words], page, **private)
    dial.input(on_again, [state, *words], page, **private)
    for example, button in zip(examples, buttons, strict=True):
        button.click(on_example(example), [], [*page, *words], **private)
    pointing = [point, told, *pictures, by_hand]
    report_box.select(on_sentence, [state], pointing, **private)
    table.select(on_row, [state], pointing, **private)
    point.input(on_point, [state, point], pointing, **private)
    by_hand.input(on_edit, [state, point, by_hand], page, **private)
    gr.on([ask.click, line.submit], on_ask, [state, line], [state, chat, line], **private)
    correct.click(on_correct, [state, line], [*page, line], **private)
    gr.api(report_study)
    gr.api(ask_study)

if __name__ == "__main__":
    tools = importlib.util.find_spec("mcp") is not None
    space.queue(max_size=16).launch(css=shown.STYLE, max_file_size="32mb", mcp_server=tools, footer_links=[])
