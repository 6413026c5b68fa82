"""From a draw of the sampler to what is learned: the example of one study, everything random in it keyed by
(seed, epoch, study, repetition)."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from configuration_trrg import TRRGConfig
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import descendants
from evaluation.reading.sides import UNSURE, add_sentence_sides, side_and_finding
from processing_trrg import report_text
from training.config.run_config import DataSection, Source
from training.data.augment import Motion, augment
from training.data.clue_labels import ClueLabels, Seen, balanced_rows, denied_sides, names_no_side, report_labels
from training.data.clue_wordings import wordings
from training.data.compose import SentencePool, compose, draw_findings, known_findings, told_findings
from training.data.context import without_context
from training.data.dialogue import Exchange, make_exchange
from training.data.given_scores import drawn_scores, oracle_scores, own_thresholds
from training.data.images import ImageBank
from training.data.places import places
from training.data.sampler import Draw, keyed_rng
from training.data.sentences import (
    Sentence,
    draw_sentences,
    in_order,
    sentence_key,
    sentences_of_labels,
    sentences_of_report,
    ungraded,
    weighted,
)
from training.data.study import REPORT_PARTS, Studies, Study, record_fault, target_text


@dataclass
class Example:
    """One study of a step.

    Attributes:
        source: its number in the configuration.
        squares: uint8 [S, S] a view, empty for a study known by its clues only.
        labels: in the order of the clues.
        scores: clue scores in [0, 1] that are given, not seen: of a study without image, or of a composed report.
        exchanges: what is asked after the report, in this order; empty where the report alone is learned. The first
            one's `reply` opens the chat; what is answered stands before the next question.
        motion: of the first square, by the augmentation.
        predicted: what the clues see, whose findings the prompt names in the place of those of the labels.
    """

    study_id: str
    source: int
    squares: list[np.ndarray]
    labels: ClueLabels
    record: Study
    sentences: list[Sentence]
    scores: np.ndarray | None = None
    exchanges: tuple[Exchange, ...] = ()
    motion: Motion | None = None
    predicted: Seen | None = None


class SourceData:
    """One source of the configuration, loaded: its studies, images and (stage 1) sentences."""

    def __init__(self, source: Source, data: DataSection, clues: Sequence[dict[str, str]], image_processor: Any):
        self.source, self.data, self.clues = source, data, list(clues)
        names = [clue["name"] for clue in clues]
        self.names = names
        self.studies = _readable(Studies(source.path, source.split, source.max_studies), data.findings_only)
        self.labels: list[ClueLabels] = [tuple(self.studies.labels(i, names)) for i in range(len(self.studies))]
        if source.kind in ("pair", "clue_report"):
            _refuse(source, "report", [r.study_id for r in self.studies.records if not target_text(r)])
            self.labels = [
                report_labels(record, labels, names)
                for record, labels in zip(self.studies.records, self.labels, strict=True)
            ]
        if source.kind == "image":
            self.labels = [denied_sides(labels, names) for labels in self.labels]
        if source.kind == "clue_report":  # what the report does not say, a side too, is no clue
            sided = [side_and_finding(name) is not None for name in names]
            self.labels = [
                tuple(None if side and label == UNSURE else label for side, label in zip(sided, labels, strict=True))
                for labels in map(self._said, self.studies.records, self.labels)
            ]
        self.images: ImageBank | None = None
        if source.kind != "clue_report":
            _refuse(source, "image", [r.study_id for r in self.studies.records if not r.images])
            self.images = ImageBank(self.studies, image_processor, data.views, data.image_cache)
        self.sentences: list[list[Sentence]] = []
        self.matches: Matches | None = None
        self.pool: SentencePool | None = None
        self.predicted: list[Seen] | None = None  # of each study (`run/predicted_findings.py`)
        if source.reports is not None:
            reports = _readable(Studies(source.reports, source.split), data.findings_only)
            if source.kind == "composed":
                self.pool = SentencePool(reports.records)
                self.pool.check(names)
            else:
                if data.findings_only:  # what the impression alone said is not said any more
                    for report in reports.records:
                        report.labels = label_report(target_text(report))
                self.matches = Matches(self.studies, reports, names)
        self.rows = balanced_rows(self.labels, source.balance, self.matches.images if self.matches else None)

    def _said(self, record: Study, labels: ClueLabels) -> ClueLabels:
        """Labels without the findings of sentences that are no target any more."""
        read = label_report(report_text(record.findings, record.impression))
        gone = {name for name, value in zip(self.names, labels, strict=True) if value == 1 and read.get(name, 1) != 1}
        plain = {name: (side_and_finding(name) or ("", name))[1] for name in self.names}
        return tuple(None if plain[name] in gone else value for name, value in zip(self.names, labels, strict=True))

    def __len__(self) -> int:
        """Draws in an epoch."""
        return len(self.rows)

    @property
    def num_studies(self) -> int:
        """Different studies that an epoch draws."""
        return len({study for study, _ in self.rows})

    def leave_out_long(self, is_too_long: Callable[[Example, int], bool]) -> list[str]:
        """Stage 2: draw no study, and match no report, that the language model's context has no room for; their ids.
        Raises: ValueError if none is left."""
        if self.pool:  # composed reports are short
            return []

        views = [self.images.num_views(i) if self.images else 1 for i in range(len(self.studies))]

        def too_long(record: Study, study: int) -> bool:
            record = ungraded(record) if self.data.without_degrees else record
            record = in_order(record) if self.data.positive_first else record
            return is_too_long(Example(record.study_id, 0, [], self.labels[study], record, []), views[study])

        if self.matches:
            records = self.matches.reports.records
            images = sorted(self.matches.candidates, key=views.__getitem__)  # the last is the one with most views
            used = {report: image for image in images for report in self.matches.candidates[image]}
            long = {report for report, image in used.items() if too_long(records[report], image)}
            kept = self.matches.without(long)
        else:
            records = self.studies.records
            long = {i for i, record in enumerate(records) if too_long(record, i)}
            kept = [i for i in range(len(records)) if i not in long]
        ids = [records[i].study_id for i in sorted(long)]
        if not kept:
            raise ValueError(f"{self.source.path}: no report fits the language model's context, e.g. {ids[0]}")
        self.rows = balanced_rows(self.labels, self.source.balance, kept)
        return ids

    def find_sentences(self, balance: float, labeler: Callable[[str], dict[str, int | None]], whole: bool) -> None:
        """Stage 1: cut and label the reports (or write sentences from the labels) and weigh them over the whole set.
        whole: each report stays one text (alignment of the query transformer); the empty one of an image without.

        Raises:
            ValueError: studies that give no sentence.
        """
        if whole:
            texts = [target_text(r) if self.source.kind == "pair" else "" for r in self.studies.records]
            nothing = (None,) * len(self.names)
            self.sentences = [[Sentence(text, sentence_key(text), nothing)] for text in texts]
            return
        if self.source.kind == "image":
            others = {"others": wordings} if self.data.clue_wordings else {}
            made = {labels: sentences_of_labels(labels, self.clues, **others) for labels in set(self.labels)}
            found = [made[labels] for labels in self.labels]
        else:

            @lru_cache(100_000)  # phantoms say much in the same words
            def with_sides(text: str) -> dict[str, int | None]:
                return add_sentence_sides(text, labeler(text), self.names)

            found = [sentences_of_report(record, self.names, with_sides) for record in self.studies.records]
        pairs = zip(self.studies.records, found, strict=True)
        empty = [record.study_id for record, sentences in pairs if not sentences]
        if empty:
            raise ValueError(f"{self.source.path}: {len(empty)} studies give no sentence, e.g. {empty[0]}")
        self.sentences = weighted(found, balance)


def _readable(studies: Studies, findings_only: bool) -> Studies:
    for study in studies.records:
        if (fault := record_fault(study)) is not None:
            raise ValueError(f"{studies.path}: study {study.study_id!r}: {fault}")
        if findings_only:
            study.impression = None
    return studies


def _refuse(source: Source, what: str, studies: Sequence[str]) -> None:
    """Raises: ValueError if `studies`, which lack what the source's kind needs, are any."""
    if studies:
        raise ValueError(
            f"{source.path}: {len(studies)} studies of split {source.split!r} have no {what}, e.g. {studies[0]}; "
            f"kind {source.kind!r} needs one"
        )


class Matches:
    """Label-matched pairs: images of one set, each with the reports of OTHER patients that have the same labels.

    A report fits an image when its positive labels are the image's and none is uncertain; one that places a finding on
    a side (of a sided clue) fits none, since the image's labels know no sides. Where the image's label is
    unknown the report must not be positive, except that "Lung Opacity" is free beside a finding it includes. Images
    without a report that fits are left out; `left_out` counts them.
    """

    def __init__(self, images: Studies, reports: Studies, names: Sequence[str]):
        by_labels: dict[ClueLabels, list[int]] = defaultdict(list)
        opacity = names.index("Lung Opacity") if "Lung Opacity" in names else None
        opacities = descendants("Lung Opacity")
        for i, record in enumerate(reports.records):
            labels = reports.labels(i, names)
            if not target_text(record) or -1 in labels:
                continue
            sides = report_labels(record, tuple(labels), names)
            if all(value != 1 for value, unsided in zip(sides, labels, strict=True) if value != unsided):
                by_labels[tuple(int(label == 1) for label in labels)].append(i)
        self.reports = reports
        self.images: list[int] = []
        self.candidates: dict[int, list[int]] = {}
        for i, record in enumerate(images.records):
            labels = images.labels(i, names)
            if -1 in labels:
                continue
            wanted = [int(label == 1) for label in labels]
            keys = [tuple(wanted)]
            if (
                opacity is not None
                and labels[opacity] is None
                and any(name in opacities and label == 1 for name, label in zip(names, labels, strict=True))
            ):
                keys.append(tuple(1 if j == opacity else value for j, value in enumerate(wanted)))
            fits = [
                r
                for key in keys
                for r in by_labels.get(key, [])
                if reports.records[r]["patient_id"] != record.patient_id
            ]
            if fits:
                self.images.append(i)
                self.candidates[i] = fits
        self.left_out = len(images) - len(self.images)
        if not self.images:
            raise ValueError(f"{reports.path}: no report has the labels of any image of {images.path}")

    def without(self, reports: Set[int]) -> list[int]:
        """Match none of these reports any more; the images that still have one."""
        fits = {i: [r for r in found if r not in reports] for i, found in self.candidates.items()}
        self.candidates = {i: found for i, found in fits.items() if found}
        self.images = list(self.candidates)
        return self.images


class Examples(Dataset[Example]):
    """All sources of a stage, indexed by a `Draw`."""

    def __init__(
        self,
        sources: Sequence[SourceData],
        data: DataSection,
        seed: int,
        training: bool,
        config: TRRGConfig | None = None,
    ):
        """config: of the model that learns from composed reports; one without clues learns the images' labels."""
        self.sources, self.data, self.seed, self.training = list(sources), data, seed, training
        clueless = config is None or config.clue_source == "none"
        self.thresholds = None if clueless else own_thresholds(config)  # of the scores of a composed report
        self.paraphrases: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if training and data.paraphrases:
            with Path(data.paraphrases).open(encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    self.paraphrases[row["study_id"]].append({part: row.get(part) for part in REPORT_PARTS})

    def __getitem__(self, draw: Draw) -> Example:
        source = self.sources[draw.source]
        index, repetition = source.rows[draw.index]
        record = source.studies.records[index]
        key = (self.seed, draw.epoch, draw.source, record.study_id, repetition)
        example = Example(
            study_id=record.study_id,
            source=draw.source,
            squares=source.images.get(index) if source.images else [],
            labels=source.labels[index],
            record=record,
            sentences=[],
        )
        if self.training and self.data.augment:
            rng = keyed_rng("augment", *key)
            if source.source.mirrored and not record.boxes and names_no_side(example.labels, source.names):
                flip = rng.random() < 0.5
                example.squares = [square[:, ::-1] if flip else square for square in example.squares]
            moved = [augment(square, rng, self.data.strong_augment) for square in example.squares]
            example.squares = [square for square, _ in moved]
            example.motion = moved[0][1] if moved else None
        if source.sentences:
            example.sentences = draw_sentences(
                source.sentences[index], self.data.sentences_per_study, keyed_rng("sentences", *key)
            )
        if self.training and source.predicted:
            is_drawn = keyed_rng("predicted", *key).random() < self.data.predicted_findings
            example.predicted = source.predicted[index] if is_drawn else None
        if source.pool:
            example = self._composed(example, source, source.pool, keyed_rng("compose", *key))
        if source.matches:
            fits = source.matches.candidates[index]
            report = source.matches.reports.records[fits[int(keyed_rng("match", *key).integers(len(fits)))]]
            example = replace(
                example,
                study_id=f"{record['study_id']}+{report['study_id']}",
                record=replace(report, images=record.images, indication=None, comparison=None),
            )
        if rewritten := self.paraphrases.get(example.record.study_id):
            rng = keyed_rng("paraphrase", *key)
            if rng.random() < self.data.paraphrase_share:
                example.record = replace(example.record, **rewritten[int(rng.integers(len(rewritten)))])
        if self.data.findings_only:
            example.record = replace(example.record, impression=None)
        if self.data.without_degrees:
            example.record = ungraded(example.record)
        if self.data.positive_first:
            example.record = in_order(example.record)
        if self.training and self.data.context_dropout:
            rng = keyed_rng("context", *key)
            example.record = without_context(example.record, self.data.context_dropout, rng)
        if self.training and self.data.dialogue:
            example.exchanges = self._conversation(example, index, keyed_rng("dialogue", *key))
        if source.source.kind == "clue_report":
            noise = keyed_rng("scores", *key) if self.training else None
            if noise is not None and noise.random() >= self.data.sides_given:
                example.labels = tuple(
                    None if side_and_finding(name) else label
                    for name, label in zip(source.names, example.labels, strict=True)
                )
            example.scores = oracle_scores(example.labels, self.data, noise)
        return example

    def _composed(self, example: Example, source: SourceData, pool: SentencePool, rng: np.random.Generator) -> Example:
        """The example with findings that are drawn (or seen, where the prompt names those), scores that select them and
        no others, and a report that says them. A model without clues could not know what was drawn: it gets the image's
        labels, and no scores."""
        labels = dict(zip(source.names, example.labels, strict=True))
        if example.predicted:
            present = told_findings(example.predicted.findings[0], source.names)
        elif self.thresholds is not None:
            present = draw_findings(labels, source.names, pool, rng)
        else:
            present = known_findings(labels)
        findings, impression = compose(present, pool, rng)
        indication = None
        if pool.indications and rng.random() < 0.5:
            indication = pool.indications[int(rng.integers(len(pool.indications)))]
        return replace(
            example,
            labels=tuple(present[name] for name in source.names),
            scores=None if self.thresholds is None else drawn_scores(present, self.thresholds, rng),
            record=replace(example.record, findings=findings, impression=impression, indication=indication),
        )

    def _conversation(self, example: Example, index: int, rng: np.random.Generator) -> tuple[Exchange, ...]:
        """At most `data.turns` exchanges, each question once. A report that was spoiled to be corrected can only open a
        chat, and one that the user has changed only end it: every question is about the study's own report."""
        report = report_text(example.record.findings, example.record.impression).split()
        chat: list[Exchange] = []
        for _ in range(self.data.turns):
            next_one = self._exchange(example, index, rng)
            if next_one is None or (chat and next_one.reply.split() != report):
                break
            if next_one.question in [said.question for said in chat]:
                continue
            chat.append(next_one)
            if (next_one.answer if next_one.corrects else next_one.reply).split() != report:
                break
        return tuple(chat)

    def _exchange(self, example: Example, index: int, rng: np.random.Generator) -> Exchange | None:
        drawn, reached = rng.random(), 0.0
        source = self.sources[example.source]
        for kind, share in self.data.dialogue.items():
            reached += share
            if drawn < reached:
                named = zip(source.names, example.labels, strict=True)
                labels = {n: v for n, v in named if side_and_finding(n) is None}
                shown = replace(example.record, images=example.record.images[: len(example.squares)])
                say = None if source.pool is None else partial(source.pool.say, rng=rng)
                boxes = places(source.images, index, example.motion) if source.images and kind == "grounding" else ()
                # a composed report says what is seen, so that is what is asked about, with its doubt
                chances = example.predicted.chances if example.predicted and source.pool else None
                return make_exchange(kind, shown, labels, source.clues, label_report, rng, say, boxes, chances)
        return None
