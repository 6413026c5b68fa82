"""How right the boxes of findings are, on studies whose records say where the findings are.

    python -m evaluation.score_grounding --checkpoint DIR --data runs/small-data/nih --split validation --out RUN
    python -m evaluation.score_grounding --checkpoint DIR --phantoms 100 --text --out RUN

Boxes come from three places, each scored by `metrics/grounding.py` for every finding that has true boxes:

    asked      the evidence map of that finding's clue, whether it was selected or not; with the pointing game: does its
               strongest patch lie in a true box?
    evidence   the report's boxes of clues that were selected and that it states
    text       (--text) what the model writes when it is asked "Where is each finding?"

Studies without boxes are left out. 95 % intervals by bootstrap over patients. Spatial precision is of phantoms only:
elsewhere a finding without a box may be there all the same. Never for clinical use.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from evaluation import generate
from evaluation.metrics.grounding import FIGURES, judge, means
from evaluation.metrics.resampling import interval_text, number_text
from evaluation.predictions.chats import Chats, Question
from evaluation.predictions.prediction_parts import PREDICTIONS, write_whole
from evaluation.predictions.records import read_lines
from evaluation.predictions.study_sources import PhantomStudies, StudySource
from evaluation.reading.sides import side_and_finding
from processing_trrg import StudyBatch, read_grounded
from processing_trrg.grounding_trrg import clue_boxes
from processing_trrg.prompt_trrg import GROUNDED_REQUEST
from training.config.command_line import run_command
from training.data.study import Box, Study
from training.phantoms.generate import generate_phantom
from training.run.validation import points_into

SOURCES = ("asked", "evidence", "text")
Places = dict[str, list[tuple[float, float, float, float]]]


class Boxed:
    """The studies of a source that have boxes.

    Raises:
        ValueError: none has.
    """

    def __init__(self, source: StudySource):
        self._source = source
        if isinstance(source, PhantomStudies):
            drawn = (generate_phantom(source.seed, index, source.size) for index in range(len(source.records)))
            source.records = [replace(phantom.record, boxes=phantom.boxes) for phantom in drawn]
        self._rows = [index for index, study in enumerate(source.records) if study.boxes]
        self.records = [source.records[index] for index in self._rows]
        if not self.records:
            raise ValueError("no study has a box to compare with")

    def open_image(self, index: int, view: int) -> Any:
        """One view of a study."""
        return self._source.open_image(self._rows[index], view)


def plain(name: str) -> str:
    """A clue's finding, without its side."""
    place = side_and_finding(name)
    return place[1] if place else name


def grounding_lines(options: argparse.Namespace, source: StudySource, processor: Any, model: Any) -> generate.Lines:
    """Boxes of a batch, as lines."""

    def lines(indices: Sequence[int], batch: StudyBatch) -> list[dict[str, Any]]:
        chats = Chats(model, processor, batch, **generate.decoding(options))
        if options.text:
            questions = [Question(row, report.text, GROUNDED_REQUEST) for row, report in enumerate(chats.reports)]
            for report, answer in zip(chats.reports, chats.ask(questions), strict=True):
                report.grounded = read_grounded(answer)
        pairs = zip([source.records[index] for index in indices], chats.reports, strict=True)
        return [grounding_line(study, report) for study, report in pairs]

    return lines


def grounding_line(study: Study, report: Any) -> dict[str, Any]:
    """Size of the image, boxes by source, and the pointing game by finding."""
    place = report.frontal
    true: dict[str, list[Box]] = defaultdict(list)
    for box in study.boxes:
        x, y, w, h = place.box_on_square((box["x"], box["y"], box["w"], box["h"]))
        true[box["label"]].append({"label": box["label"], "x": x, "y": y, "w": w, "h": h})
    asked = [clue for clue in report.clues if clue.name in true and clue.evidence is not None]
    boxes = [asdict(box) for box in report.boxes]
    return {
        "study_id": study.study_id,
        "size": [place.height, place.width],
        "pointing": {clue.name: points_into(clue.evidence[0], true[clue.name], place.size) for clue in asked},
        "asked": [asdict(box) for clue in asked for box in clue_boxes(clue, place)],
        "evidence": [box for box in boxes if box["source"] == "evidence"],
        "text": [box for box in boxes if box["source"] == "text"],
    }


def by_finding(boxes: Sequence[Mapping[str, Any]], name: str) -> Places:
    """x, y, w, h of boxes by the finding that stands under `name`."""
    places: Places = defaultdict(list)
    for box in boxes:
        places[plain(box[name])].append((box["x"], box["y"], box["w"], box["h"]))
    return dict(places)


def score(
    lines: Sequence[Mapping[str, Any]], studies: Mapping[str, Study], sources: Sequence[str], resamples: int
) -> dict[str, Any]:
    """The figures of each source, and the pointing game, over all findings and by finding.

    Args:
        lines: of `grounding_lines`.
        studies: by id.
    """
    result: dict[str, Any] = {}
    for source in sources:
        rows: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
        for line in lines:
            study = studies[line["study_id"]]
            height, width = line["size"]
            true, said = by_finding(study.boxes, "label"), by_finding(line[source], "finding")
            if source == "asked":
                true = {finding: boxes for finding, boxes in true.items() if finding in line["pointing"]}
            names = [*true, *(finding for finding in said if study.synthetic and finding not in true)]
            for finding, row in zip(names, judge(said, true, height, width, study.synthetic), strict=True):
                pointing = float(line["pointing"][finding]) if source == "asked" else float("nan")
                for group in ("all", finding):
                    rows[group].append((study.patient_id or study.study_id, [pointing, *row]))
        result[source] = {
            group: {
                name: figure
                for name, figure in zip(
                    ("pointing", *FIGURES), means([row for _, row in of], [p for p, _ in of], resamples), strict=True
                )
                if figure["n"]
            }
            for group, of in rows.items()
        }
    return result


def table(result: Mapping[str, Any]) -> str:
    """The figures of all findings as printed text."""
    lines = [f"{'':<22}" + "".join(f"{source:<34}" for source in result)]
    for name in ("pointing", *FIGURES):
        cells = [of["all"].get(name) if "all" in of else None for of in result.values()]
        texts = ["-" if c is None else f"{number_text(c['value'])} {interval_text(c)} of {c['n']}" for c in cells]
        lines.append(f"{name:<22}" + "".join(f"{text:<34}" for text in texts))
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = generate.run_parser(__doc__)
    parser.add_argument("--text", action="store_true", help="also ask the model for boxes in words")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    options = generate.read_arguments(parser, arguments)
    resamples = vars(options).pop("resamples")
    source = Boxed(generate.open_source(options))
    generate.run(options, grounding_lines, source)
    studies = {study.study_id: study for study in source.records}
    lines = [record for _, _, record in read_lines(options.out / PREDICTIONS)]
    result = score(lines, studies, SOURCES if options.text else SOURCES[:2], resamples)
    written = {"studies": len(lines), "resamples": resamples, "scores": result}
    write_whole(options.out / "grounding_scores.json", json.dumps(written, indent=1) + "\n")
    print(table(result))
    print(f"{len(lines)} studies with boxes; by finding in grounding_scores.json. Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
