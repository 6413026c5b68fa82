"""What the Space shows of a study, without Gradio: its sentences, clues and places.

Shapes: V views, S pixels, the side of a shown view, H, W pixels, h, w patches. Research only, never for clinical use.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

NOTICE = "Research only, never for clinical use."
MARKS = "The marks rest on the clues, so on findings and sides: sizes, places and kinds of device are not checked."
MAX_CHARACTERS = 2_000  # of each text field
MAX_IMAGES, MAX_URI = 16, 44_000_000  # of a program's request; characters: 32 MB in base64
SIDE = 640  # pixels of a shown view
LEGEND = 44  # pixels under it
NO_FINDING = "No Finding"
LEFT_OUT = "left out"
COLOURS = {"supported": "#22a35a", "unsupported": "#e5484d", "not checkable": "#8b8d98", LEFT_OUT: "#e08700"}
TOLD = {1: "stated", -1: "doubted", 0: "denied"}
STYLE = """
.dark #report :is(.highlighted, .legend-item) { color: white !important }
#report .textfield { word-break: normal; overflow-wrap: anywhere }
#clues [role=gridcell] * { font-family: var(--font); overflow-wrap: normal; word-break: normal }
#point input { text-overflow: ellipsis; padding-right: 24px }
.view label { max-width: calc(100% - 40px) }
@media (max-width: 600px) {
  #clues :is([role=gridcell], [role=gridcell] *) { font-size: 12px; padding-inline: 2px }
  #clues [role=columnheader] * { font-size: 11px; padding-inline: 1px } }
"""
"""What Gradio does otherwise: black on dark marks, words broken anywhere, and on a phone a table without its scores."""
HEAT = np.array(
    [
        [87, 16, 110], [119, 28, 109], [152, 39, 102], [185, 53, 86], [213, 74, 65], [235, 102, 40], [248, 135, 14],
        [252, 174, 18], [246, 215, 70],
    ]
)  # fmt: skip
"""matplotlib's "inferno" from 0.25 to 0.9 in equal steps: as bright as it is strong, for colour-blind eyes too."""


@dataclass(eq=False)
class Visit:
    """One study on the page of one visitor.

    Attributes:
        views: the bytes of its files.
        squares: uint8 `[V, S, S]`, as they are shown.
        words: indication, technique and prior report, those that were given.
        dial: the operating point of its clues, where the checkpoint has them.
        report: a `TalkedStudy`, or the plain `Report` that is left of it in another process; None until it is written.
        messages: the chat as the model knows it, to go on with there.
        chat: what the page shows of it.
        by_hand: the clues that were edited, with the answers that they got.
        corrected: whether the report is as a visitor wanted it, by words or by such a clue.
        folder: for the files to take home.
    """

    views: list[bytes]
    squares: NDArray
    words: dict[str, str]
    dial: str
    folder: Path
    report: Any = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    chat: list[dict[str, str]] = field(default_factory=list)
    by_hand: dict[str, str] = field(default_factory=dict)
    corrected: bool = False


def read_uploads(paths: Sequence[str], most: int, kept: bool = False) -> list[bytes]:
    """The bytes of uploaded files, which are deleted unless they are `kept`: a DICOM names its patient.

    Raises:
        ValueError: none, or more than `most`.
    """
    found = [Path(path) for path in paths]
    views = [path.read_bytes() for path in found[:most]]
    if not kept:
        for path in found:
            path.unlink(missing_ok=True)
    if not 1 <= len(found) <= most:
        raise ValueError(
            f"{len(found)} files; this model reads studies of 1 {f'to {most} views' if most > 1 else 'view'}"
        )
    return views


def read_words(**fields: str | None) -> dict[str, str]:
    """The text fields that say something.

    Raises:
        ValueError: one is longer than `MAX_CHARACTERS`.
    """
    words = {name: value.strip() for name, value in fields.items() if value and value.strip()}
    for name, value in words.items():
        if len(value) > MAX_CHARACTERS:
            raise ValueError(f"{name}: {len(value):,} characters; at most {MAX_CHARACTERS:,} are read")
    return words


def new_words(visit: Visit | None, fields: dict[str, str]) -> dict[str, str]:
    """The text fields of the next study: one that says what it said of the last study is empty."""
    last = visit.words if visit else {}
    return {name: "" if value.strip() == last.get(name) else value for name, value in fields.items()}


def in_base64(images: Sequence[str]) -> list[str]:
    """Images that a program sends, as `data:` URIs; a path would let a stranger read the server's files."""
    if len(images) > MAX_IMAGES or any(len(image) > MAX_URI for image in images):
        raise ValueError(f"images: at most {MAX_IMAGES} of {MAX_URI:,} characters each are read")
    for number, image in enumerate(images):
        if image[:5].lower() != "data:":
            raise ValueError(f"images[{number}]: expected a data: URI, data:image/png;base64,...")
    return list(images)


def reason(error: Exception) -> str:
    """What a visitor is told of an error: without the place of a study among others."""
    return str(getattr(error, "reason", error))


@dataclass(frozen=True)
class Span:
    """A piece of the report on the page, its mark (a key of `COLOURS`) and what it points at: the number of its
    sentence, or the name of a clue that was left out."""

    text: str
    mark: str | None = None
    sentence: int | None = None
    clue: str | None = None


def report_spans(report: Any) -> list[Span]:
    """The report sentence by sentence, each with what the image says to it; what was left out comes last."""
    if report.readable is False:
        return [Span(report.text)]
    spans, section = [], None
    for number, said in enumerate(report.sentences or []):
        if said.section != section:
            section = said.section
            spans.append(Span(f"{section.title()}: "))
        spans.append(Span(said.text, said.support, sentence=number))
    if report.left_out:
        spans.append(Span("Not in the report: "))
    return spans + [Span(name, LEFT_OUT, clue=name) for name in report.left_out or []] or [Span("The report is empty.")]


def differences(report: Any) -> str:
    """In a line, where report and clues differ."""
    if report.readable is False:
        return "No report was written, so nothing was checked."
    marks = [said.support for said in report.sentences or []]
    counts = [f"{marks.count(mark)} {mark}" for mark in ("supported", "unsupported", "not checkable")]
    words = f"{len(marks)} sentences: {', '.join(counts)}."
    left = f" Over their thresholds, and in no sentence: {', '.join(report.left_out)}." if report.left_out else ""
    return words + left + ("" if report.complete is not False else " The report was cut at the length limit.")


def clue_rows(visit: Visit) -> list[list[Any]]:
    """Name, answer, score and threshold of each clue."""
    return [
        [
            clue.name,
            f"{visit.by_hand[clue.name]}, by hand" if clue.name in visit.by_hand else clue.answer or "no answer",
            f"{clue.score:.2f}",
            "over" if clue.selected else "under",
        ]
        for clue in visit.report.clues
    ]


def places_to_point(report: Any) -> list[tuple[str, str]]:
    """(words, key) of all that can be pointed at: sentences, then clues."""
    said = [(f"Sentence: {said.text}", f"sentence {number}") for number, said in enumerate(report.sentences or [])]
    return ([] if report.readable is False else said) + [(f"Clue: {clue.name}", clue.name) for clue in report.clues]


def sentence_at(report: Any, key: str) -> Any:
    """The sentence of a key of `places_to_point`; None where it is a clue's."""
    kind, _, number = key.partition(" ")
    return report.sentences[int(number)] if kind == "sentence" else None


def clue_at(report: Any, key: str) -> str | None:
    """The clue that a key points at, or that its sentence speaks of first."""
    said = sentence_at(report, key)
    return key if said is None else next(iter(said.clues), None)


def without_side(name: str) -> str:
    """A clue's finding."""
    return name.removeprefix("Left ").removeprefix("Right ")


def set_by_hand(visit: Visit, name: str) -> bool:
    """Whether a clue was edited: itself, its finding, a side of it, or, since it follows any, that there is none."""
    edited = {without_side(other) for other in visit.by_hand}
    return without_side(name) in edited or (bool(edited) and name == NO_FINDING)


def speaks_of(said: Any, name: str) -> str | None:
    """What a sentence does with a clue ("stated", "doubted", "denied"); None where it says nothing of it."""
    return next((TOLD[value] for clue, value in said.clues.items() if name in (clue, without_side(clue))), None)


def has_place(visit: Visit, key: str) -> tuple[bool, str]:
    """Whether heat is drawn for what is pointed at, and the sentence that says so."""
    said, clues = sentence_at(visit.report, key), {clue.name: clue for clue in visit.report.clues}
    shown = clues[key] if said is None else said
    if said is not None and not said.clues:
        return False, "It speaks of no clue, so it cannot be checked and has no place."
    if said is not None and said.polarity == 0:
        return False, "What is denied has no place."
    named = [key] if said is None else [name for name, value in said.clues.items() if value]
    if named == [NO_FINDING]:
        return False, f"{NO_FINDING!r} has no place."
    if any(set_by_hand(visit, name) for name in named):
        return False, "It was set by hand, not seen, so no place is shown."
    if under := [name for name in named if not clues[name].selected]:
        return False, f"{', '.join(under)}: under the threshold, so no place is shown."
    if shown.evidence is None or shown.score is None:
        return False, "This model computes no place for it."
    return True, "The heat shows where the image supports it."


def pointed(visit: Visit, key: str) -> str:
    """What stands beside the report when something is pointed at: a sentence's clue, or a clue's sentences."""
    report = visit.report
    said = sentence_at(report, key)
    clues = {clue.name: clue for clue in report.clues}
    if said is not None:
        lines = [said.text, f"The image: {said.support}."]
        lines += [f"It fits the image with a score of {said.score:.2f}."] if said.score is not None else []
        lines += [f"{name}, {TOLD[value]}: {_clue_words(clues[name])}" for name, value in said.clues.items()]
    else:
        lines = [f"{key}: {_clue_words(clues[key])}"]
        spoken = [(told, other.text) for other in report.sentences or [] if (told := speaks_of(other, key))]
        lines += [f"The report, {told}: {text}" for told, text in spoken] or ["No sentence speaks of it."]
        lines += ["Left out: over its threshold, and no sentence states it."] if key in (report.left_out or []) else []
    return "\n".join([*lines, has_place(visit, key)[1]])


def _clue_words(clue: Any) -> str:
    answer = f"{clue.answer}, " if clue.answer else ""
    return f"{answer}score {clue.score:.2f}, {'over' if clue.selected else 'under'} its threshold."


def score_by_hand(write: Any, name: str, answer: str) -> float:
    """The score that gives a clue an answer.

    Args:
        write: the pipeline.
        name: of the clue.
        answer: "present", "absent" or "indeterminate".

    Raises:
        ValueError: a clue that has no range between present and absent.
    """
    if answer != "indeterminate":
        return float(answer == "present")
    names = [clue["name"] for clue in write.processor.clues]
    points = (write.model.config.clue_operating_points or [[]] * len(names))[names.index(name)]
    if not points or points[1] >= points[0]:
        raise ValueError(f"{name} is present or absent: the checkpoint has no range between the two")
    return (points[0] + points[1]) / 2


def chat_turn(asked: str, answer: str) -> list[dict[str, str]]:
    """A question and its answer for the chat on the page, which would show HTML."""
    return [{"role": role, "content": html.escape(words)} for role, words in (("user", asked), ("assistant", answer))]


def correction_words(done: Any) -> str:
    """What came of a correction, a line a sentence that is not as it was."""
    marks = {"added": "+ ", "removed": "- ", "changed": "~ "}
    lines = [marks[kind] + (after or before) for kind, before, after in done.changes if kind in marks]
    lines = lines or ["The report stays as it is."]
    if done.not_done is None:
        lines.append("Whether this was done is not known: it names no finding.")
    elif done.not_done:
        lines.append(f"Not done: {', '.join(done.not_done)}.")
    return "\n".join(lines)


def heat(clue: Any, height: int, width: int) -> NDArray:
    """How strongly each pixel supports a clue or a sentence, `[V, H, W]`: 0 up to the median patch of all views, the
    score at the largest."""
    evidence = np.asarray(clue.evidence)
    low, high = float(np.median(evidence)), float(evidence.max())
    relative = (evidence - low) / max(high - low, 1e-6)
    smooth = [
        np.asarray(Image.fromarray(view.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
        for view in relative
    ]
    return clue.score * np.clip(np.stack(smooth), 0, 1)


def colour(strength: NDArray) -> NDArray:
    """Strengths of 0..1 to colours `[..., 4]` of 0..1 on a perceptual scale, the more opaque the stronger."""
    steps = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(strength, steps, HEAT[:, channel] / 255) for channel in range(3)]
    return np.stack([*channels, 0.8 * strength], axis=-1)


def draw_views(visit: Visit, key: str | None = None) -> list[tuple[Image.Image, str]]:
    """Each view with its caption, under the heat of what is pointed at, or of every clue over its threshold.

    Args:
        visit: whose report may not be written yet: then the views alone.
        key: of `places_to_point`.
    """
    report, shown, names, words = visit.report, [], [], ""
    if report is not None and key is not None and has_place(visit, key)[0]:
        said = sentence_at(report, key)
        shown = [said or next(clue for clue in report.clues if clue.name == key)]
        names, words = [clue_at(report, key)], said.text if said else key
    elif report is not None and key is None:
        shown = [clue for clue in report.clues if has_place(visit, clue.name)[0]]
        names = [clue.name for clue in shown]
        words = ", ".join(clue.name for clue in shown)
    grey = np.repeat(visit.squares[..., None] / 255, 3, axis=-1)
    layer = (
        colour(np.max([heat(one, SIDE, SIDE) for one in shown], axis=0)) if shown else np.zeros((*grey.shape[:3], 4))
    )
    mixed = grey * (1 - layer[..., 3:]) + layer[..., :3] * layer[..., 3:]
    found = []
    for number, view in enumerate((mixed * 255).round().astype(np.uint8), start=1):
        image = Image.fromarray(view)
        if number == 1 and shown:
            _outline(image, report, names)
        caption = f"View {number} of {len(mixed)}. {f'Heat: {words}' if shown else 'No heat.'}"
        found.append((_with_legend(image) if shown else image, caption))
    return found


def _outline(image: Image.Image, report: Any, names: Sequence[str | None]) -> None:
    """The boxes of some clues, on the first view."""
    place = report.frontal
    for box in report.boxes if place else []:
        if box.finding in names or without_side(box.finding) in names:
            x, y, w, h = (edge * SIDE / place.size for edge in place.box_on_square((box.x, box.y, box.w, box.h)))
            ImageDraw.Draw(image).rectangle((x, y, x + w, y + h), outline="white", width=2)


def _with_legend(image: Image.Image) -> Image.Image:
    """The picture above a strip that says what its colours mean."""
    whole = Image.new("RGB", (SIDE, SIDE + LEGEND), "#0d1117")
    whole.paste(image, (0, 0))
    scale = colour(np.linspace(0, 1, 160))
    strip = np.repeat((scale[None, :, :3] * scale[None, :, 3:] * 255).astype(np.uint8), 14, axis=0)
    whole.paste(Image.fromarray(strip), (30, SIDE + 15))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(15)
    pen.text((12, SIDE + 13), "0", fill="white", font=font)
    pen.text((197, SIDE + 13), "1   support above the median patch, times the score", fill="white", font=font)
    return whole


def worth(checkpoint: str) -> str:
    """What the checkpoint reached, by the scores of its card, as Markdown; the images of each test are named.

    Args:
        checkpoint: a folder, or a repository on the Hub.
    """
    folder = Path(checkpoint)
    try:
        card = ModelCard.load(folder / "README.md" if folder.is_dir() else checkpoint)
        results = card.data.eval_results or []
    except (ValueError, EntryNotFoundError):  # there is none
        results = []
    lines = []
    for result in results:
        told = result.metric_args or {}
        low, high = told.get("interval", (None, None))
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        kind = {"real": "Real images", "synthetic": "Synthetic images"}.get(
            str((result.dataset_args or {}).get("images")), "No images"
        )
        lines.append(f"- {kind}, {result.dataset_name}: {result.metric_name} **{result.metric_value:.3f}**{interval}")
    if not lines:
        return f"What {folder.name} is worth is not known: its card has no scores. **{NOTICE}**"
    return "\n".join([f"What **{folder.name}** is worth, by its card (95 % intervals):\n", *lines, "", f"**{NOTICE}**"])
