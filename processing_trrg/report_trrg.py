"""A report as it comes out: its sections, the clues behind it, and what is missing from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from .grounding_trrg import FindingBox, GroundedSentence, finding_boxes
from .image_processing_trrg import Placement
from .sentences_trrg import cut_sentences
from .statements_trrg import Statement

ALIKE = 0.6
"""Least similarity, difflib's ratio, of a sentence to the one that it was changed from."""
Answer = Literal["present", "absent", "indeterminate"]
ANSWERS: dict[int, Answer] = {1: "present", 0: "absent", -1: "indeterminate"}
# Headings, with the blanks before them, as both `re` and the response templates of Transformers read them. "Incidental
# findings: ..." inside a sentence is none: "findings" counts at a start or with a capital only.
_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
FINDINGS = (
    r"(?:(?:(?<!\s)\s+)?\b(?:Findings|FINDINGS)"
    rf"|(?:\A|(?<=[.!?])|(?<!\s)[^\S{_BREAKS}]*[{_BREAKS}])\s*(?i:findings))\s*:"
)
IMPRESSION = r"(?:(?:(?<!\s)\s+)?\b(?i:impression)\s*:)+"
UNREADABLE = "No report: this picture is not a frontal X-ray that this model can read."
"""In place of a report. Our labeler reads nothing from it, no normal chest either."""
_HEADING = re.compile(f"(?P<findings>{FINDINGS})|(?P<impression>{IMPRESSION})")


@dataclass
class ClueScore:
    """One clue of one study.

    Attributes:
        score: between 0 and 1.
        evidence: `[V, h, w]`, the similarity of every patch of every view to the clue; None when it was not computed.
        selected: whether it passed the threshold and reached the language model.
        answer: "present", "absent" or "indeterminate", whatever the operating point (`clue_trrg.answers`); None for a
            clue that has no operating points.
    """

    name: str
    score: float
    evidence: np.ndarray | None = None
    selected: bool = False
    answer: Answer | None = None


@dataclass
class Report:
    """One study's report.

    Attributes:
        findings: the findings section; empty when the text has none.
        impression: the impression section; None when the text has none.
        text: all that was generated, unchanged but for surrounding blanks.
        clues: sorted by score, highest first; empty when none were given.
        complete: whether the model ended the report itself; False when it was cut at the length limit, None if unknown.
        frontal: how the first view lies in the square that was seen; None without an image.
        grounded: the sentences and boxes of a model that was asked for them (`TalkedStudy.ground`).
        sentences: each sentence looked up in the image again (`statements_trrg.look_up`); None where it was not done.
        left_out: the clues over their threshold that no sentence states; None likewise.
        readable: whether the model takes a picture for an upright frontal chest X-ray; None where it was not fitted to
            tell, or saw no picture. Where it does not, findings and text are `UNREADABLE`, and no clue is selected.
        readable_score: what `readable` was decided by, higher is better.
        as_written: the text as the model wrote it first, where it was then revised by its clues or compared with a
            prior report (`revised_trrg`).
    """

    findings: str
    impression: str | None
    text: str
    clues: list[ClueScore] = field(default_factory=list)
    complete: bool | None = None
    frontal: Placement | None = None
    grounded: list[GroundedSentence] = field(default_factory=list)
    sentences: list[Statement] | None = None
    left_out: list[str] | None = None
    readable: bool | None = None
    readable_score: float | None = None
    as_written: str | None = None

    @property
    def boxes(self) -> list[FindingBox]:
        """Where findings are on the first view: the evidence of clues that the report states, and the model's words."""
        return finding_boxes(self.text, self.clues, self.grounded, self.frontal)

    @property
    def missing(self) -> list[str]:
        """The sections that the text does not have."""
        return [name for name in ("findings", "impression") if not getattr(self, name)]

    def to_dict(self, evidence: bool = False) -> dict[str, Any]:
        """Ready for `json.dumps`; with `evidence`, the maps as nested lists too (V x h x w numbers a clue)."""
        clues: list[dict[str, Any]] = []
        for clue in self.clues:
            clues.append({"name": clue.name, "score": clue.score, "selected": clue.selected, "answer": clue.answer})
            if evidence:
                clues[-1]["evidence"] = None if clue.evidence is None else clue.evidence.tolist()
        return {
            "findings": self.findings,
            "impression": self.impression,
            "text": self.text,
            "as_written": self.as_written,
            "missing": self.missing,
            "complete": self.complete,
            "readable": self.readable,
            "readable_score": self.readable_score,
            "clues": clues,
            "boxes": [asdict(box) for box in self.boxes],
            "sentences": None if self.sentences is None else [said.to_dict(evidence) for said in self.sentences],
            "left_out": self.left_out,
        }


class Change(NamedTuple):
    """A sentence of the report: as it was (None: it is new) and as it is (None: it is gone)."""

    kind: Literal["kept", "added", "removed", "changed"]
    before: str | None
    after: str | None


@dataclass
class Correction:
    """What came of a correction.

    Attributes:
        report: the new report.
        changes: sentence by sentence, in the order of the new report; what was removed comes last.
        asked: names of the findings to "add" and to "remove".
        not_done: those of them that the new report still lacks or still states, by what its sentences say in the words
            of `findings_trrg`. Empty: all was done. None: unknown, a request in free words that names no finding known
            there, or "No Finding" alone edited. What words ask beyond findings (a size, the style) is never checked.
    """

    report: Report
    changes: list[Change]
    asked: dict[str, list[str]]
    not_done: list[str] | None


def report_text(findings: str | None, impression: str | None) -> str:
    """The text a model learns to write: "Findings: ... Impression: ...", a missing part left out.

    Raises:
        ValueError: both parts are missing.
    """
    parts = [
        f"{name}: {text.strip()}"
        for name, text in (("Findings", findings), ("Impression", impression))
        if text and text.strip()
    ]
    if not parts:
        raise ValueError("a report needs findings or an impression, both are missing")
    return " ".join(parts)


def split_report(text: str) -> tuple[str, str | None]:
    """Generated text -> findings and impression. Text before any heading is findings; a repeated heading goes on.

    Returns:
        findings, empty when there are none, and the impression, None when there is none.
    """
    sections: dict[str, list[str]] = {"findings": [], "impression": []}
    name, start = "findings", 0
    for heading in _HEADING.finditer(text):
        sections[name].append(text[start : heading.start()].strip())
        name, start = str(heading.lastgroup), heading.end()
    sections[name].append(text[start:].strip())
    findings = " ".join(part for part in sections["findings"] if part)
    impression = " ".join(part for part in sections["impression"] if part)
    return findings, impression or None


def response_template(start: str, ends: Sequence[str]) -> dict[str, Any]:
    """By what `tokenizer.parse_response`, and `tokenizer.get_response_parser` while it is written, read an answer: the
    sections of `split_report`, and as `content` the whole answer once its end was seen.

    Args:
        start: what stands before an answer in a chat.
        ends: the tokens, or other marks, one of which ends an answer.
    """
    end = rf"\s*(?:{'|'.join(map(re.escape, ends))})"
    said = rf"(?={end})(?<=\A\s*(?P<said>|\S(?:.*\S)?)\s*).*"  # found at the end, it looks back to the start
    section = {"repeats": True, "join": " "}
    return {
        "start_anchor": start,
        "defaults": {"role": "assistant"},
        "fields": {
            "findings": {"close_pattern": FINDINGS, **section},  # without `open_pattern`: text before any heading
            "impression": {
                "open_pattern": IMPRESSION, "close_pattern": f"(?={IMPRESSION}|{FINDINGS}|{end})", **section
            },
            "content": {"open_pattern": said, "transform": "{said}"},
        },
    }  # fmt: skip


def compare_reports(before: Report, after: Report) -> list[Change]:
    """The sentences of two reports: kept word for word, changed (paired with the one most like it), added, removed."""
    old, new = ([*cut_sentences(r.findings), *cut_sentences(r.impression or "")] for r in (before, after))
    gone = list(old)
    found = [Change("added", None, sentence) for sentence in new]
    for place, sentence in enumerate(new):
        if sentence in gone:
            gone.remove(sentence)
            found[place] = Change("kept", sentence, sentence)
    pairs = [
        (SequenceMatcher(None, was, sentence).ratio(), was, place)
        for place, sentence in enumerate(new)
        if found[place].kind == "added"
        for was in gone
    ]
    for ratio, was, place in sorted(pairs, reverse=True):
        if ratio >= ALIKE and was in gone and found[place].kind == "added":
            gone.remove(was)
            found[place] = Change("changed", was, new[place])
    return found + [Change("removed", was, None) for was in gone]


def length_of_prompts(inputs: Mapping[str, Any] | None) -> int:
    """Tokens of a row of the ids that `generate` was given, padding included; 0 without inputs.

    Raises:
        ValueError: `inputs` holds no ids.
    """
    if inputs is None:
        return 0
    ids = inputs["input_ids"] if isinstance(inputs, Mapping) and "input_ids" in inputs else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        raise ValueError(f"inputs: expected what the processor made, with input_ids [B, T], got {inputs!r:.80}")
    return ids.shape[1]


def decode(
    outputs: torch.Tensor | str | Sequence[str], tokenizer, prompt_length: int, image_token_id: int
) -> tuple[list[str], list[bool | None]]:
    """Texts of generated ids `[B, T]` behind their prompts, and whether each ended by itself; texts stay as they are.

    Raises:
        ValueError: neither ids nor texts, or the prompt is still among the ids.
    """
    outputs = getattr(outputs, "sequences", outputs)  # with return_dict_in_generate
    if isinstance(outputs, str):
        outputs = [outputs]
    if not isinstance(outputs, torch.Tensor):
        if not isinstance(outputs, (list, tuple)) or not all(isinstance(text, str) for text in outputs):
            raise ValueError(f"outputs: expected ids [B, T] from `generate` or a list of texts, got {outputs!r:.80}")
        return [text.strip() for text in outputs], [None] * len(outputs)
    if outputs.ndim != 2:
        raise ValueError(f"outputs: expected ids [B, T], got a tensor of shape {list(outputs.shape)}")
    generated = outputs[:, prompt_length:]
    if (generated == image_token_id).any():
        raise ValueError(
            "outputs: the ids hold image tokens, so the prompt is still in front of the report; "
            "pass the inputs of `generate` too"
        )
    ended = (generated == tokenizer.eos_token_id).any(dim=1).tolist()
    return [text.strip() for text in tokenizer.batch_decode(generated, skip_special_tokens=True)], ended


def sorted_clues(study, names: Sequence[str] | None, num_reports: int) -> list[list[ClueScore]]:
    """The clues of each study of a model's `TRRGStudyFeatures`, highest score first.

    Raises:
        ValueError: no names, or another number of reports, scores and names.
    """
    if not isinstance(getattr(study, "clue_scores", None), torch.Tensor):
        raise ValueError(f"study: expected what `model.read_study` gives, got {study!r:.80}")
    if not names:
        raise ValueError("study: pass the inputs that this processor made too; they name its clues")
    shape = tuple(study.clue_scores.shape)
    if shape != (num_reports, len(names)):
        raise ValueError(f"study: scores of shape {shape} for {num_reports} reports and {len(names)} clue names")
    rows = []
    for row in range(num_reports):
        maps = None
        if study.evidence_maps is not None:
            maps = study.evidence_maps[row, study.image_mask[row].to(study.evidence_maps.device)].detach().float().cpu()
        scores, selected = study.clue_scores[row].tolist(), study.selected_clues[row].tolist()
        told = [-100] * len(names) if study.clue_answers is None else study.clue_answers[row].tolist()
        scored = [
            ClueScore(name, score, None if maps is None else maps[:, clue].numpy(), heard, ANSWERS.get(answer))
            for clue, (name, score, heard, answer) in enumerate(zip(names, scores, selected, told, strict=True))
        ]
        rows.append(sorted(scored, key=lambda clue: clue.score, reverse=True))
    return rows


def note_readable(reports: Sequence[Report], study: Any, abstain: bool) -> None:
    """Write what a model's `TRRGStudyFeatures` say of each picture into its report, and with `abstain` the sentence
    `UNREADABLE` in place of a report of one that cannot be read."""
    for report, score, readable in zip(reports, study.readable_scores.tolist(), study.readable.tolist(), strict=True):
        report.readable_score, report.readable = score, readable
        if abstain and not readable:
            report.findings, report.impression, report.text, report.complete = UNREADABLE, None, UNREADABLE, True
            for clue in report.clues:
                clue.selected = False
