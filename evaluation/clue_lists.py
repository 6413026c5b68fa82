"""Any clue list, really? Nonsense clues, findings in new words, and lists of 1 to 1,000 clues.

    python -m evaluation.clue_lists --checkpoint M [--data DIR --split validation] [--reports DIR] [--count 100] --out R

Reports are written of the first --count studies of --data and of as many SYNTHETIC phantoms that training never drew:

- nonsense: 40 clues of animals, furniture and other body parts behind the model's own. How many are selected, and how
  many reports change their findings (rule labeler) or their text.
- wordings: each finding in two new wordings, without sides. AUROC of the clue on the phantoms and on all studies of
  --data beside its own wording; and of the findings that are there (are not), the share that the report claims where
  the model was given them in new words only.
- reports' words (--reports): each finding in up to 20 sentences of validation reports that claim it, on whatever side,
  and nothing else, and that are new word for word, against its own denial. AUROC, mean of the sentences.
- sizes: 1, 10, 100 and 1,000 clues, the own ones first, then nonsense. Seconds for a first and a second study, and the
  share of reports whose findings are those of the own list, where all of it is in the longer one.

The other sentences stand in clue_lists.json. Nothing in training reads that file, but some of its words are among the
terms of `training/data/clue_wordings.json`, which are the field's. Writes clue_lists.json and clue_lists.md, with 95 %
intervals by bootstrap over patients. Never for clinical use.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np
import torch

from evaluation.generate import load, start_processes
from evaluation.metrics.classification import auroc, judged_columns
from evaluation.metrics.resampling import interval_text, number_text, patient_bootstrap, with_interval
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED, PhantomStudies, StudySource
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, certain, tensor_labels
from evaluation.reading.sides import side_and_finding
from processing_trrg import RadiologyReportPipeline, Report, read_radiograph
from training.config.command_line import run_command
from training.data.statements import training_and_new
from training.data.study import Studies

Clue = dict[str, str]
WORDS = json.loads(Path(__file__).with_name("clue_lists.json").read_text(encoding="utf-8"))
SIZES = (1, 10, 100, 1000)
MIN_POSITIVES = 5
MOST_SENTENCES = 20


def nonsense(count: int) -> list[Clue]:
    """The first `count` clues of nothing that a chest radiograph shows: those of the list, then things of its parts."""
    parts = WORDS["filling"]
    drawn = [f"a {' '.join(words)}" for words in product(parts["kinds"], parts["things"], parts["places"])]
    things = [*WORDS["nonsense"], *np.random.default_rng(0).permutation(drawn).tolist()][:count]
    return [
        {"name": f"There is {t}.", "positive": f"There is {t}.", "negative": f"There is no {t.split(' ', 1)[1]}."}
        for t in things
    ]


def reworded(clues: Sequence[Clue], number: int) -> list[Clue]:
    """The 14 findings among `clues`, without their sides, by their names in new wording `number` (0 or 1)."""
    found = []
    for clue in clues:
        if clue["name"] in WORDS["wordings"]:
            claim, denial = WORDS["wordings"][clue["name"]][number]
            found.append({"name": clue["name"], "positive": claim, "negative": denial})
    return found


def of_reports(clues: Sequence[Clue], folder: str) -> list[Clue]:
    """A clue for each new sentence of the validation reports that claims one of the 14 findings, on whatever side, and
    nothing else, against the finding's own denial; by the finding's name, at most `MOST_SENTENCES` of each.

    Raises:
        ValueError: there is none.
    """
    own = {clue["name"]: clue for clue in plain(clues)}
    found: dict[str, list[Clue]] = {name: [] for name in own}
    for text, told in sorted(training_and_new(folder, clues)[1].items()):
        findings = {(side_and_finding(name) or ("", name))[1] for name, value in told if value}
        if len(findings) == 1 and all(value for _, value in told) and (name := findings.pop()) in own:
            found[name].append({"name": name, "positive": text, "negative": own[name]["negative"]})
    drawn = np.random.default_rng(0)
    some = [list(drawn.permutation(np.array(told, dtype=object))[:MOST_SENTENCES]) for told in found.values() if told]
    if not some:
        raise ValueError(f"{folder}: no new sentence of its validation reports claims a finding and nothing else")
    return [clue for told in some for clue in told]


def plain(clues: Sequence[Clue]) -> list[Clue]:
    """The same findings in the model's own words, without their sides."""
    return [clue for clue in clues if clue["name"] in WORDS["wordings"]]


@torch.inference_mode()
def read_scores(model: Any, processor: Any, source: StudySource, lists: Sequence[Sequence[Clue]]) -> list[np.ndarray]:
    """The scores `[N, C]` of each clue list on the first view of all studies, from one look at each."""
    tensors = [processor.clue_tensors(list(clues)) for clues in lists]
    banks = [model.model.encode_clues(**{n: t.to(model.device) for n, t in some.items()}) for some in tensors]
    rows: list[list[np.ndarray]] = [[] for _ in lists]
    squares = processor.image_processor.square
    for start in range(0, len(source.records), 32):
        numbers = range(start, min(start + 32, len(source.records)))
        read = np.stack([squares(read_radiograph(source.open_image(number, 0))) for number in numbers])
        seen = model.model.encode_images(processor.image_processor.normalise(read)[:, None].to(model.device))
        for found, bank in zip(rows, banks, strict=True):
            found.append(model.model.score_clues(seen, bank)[1].cpu().numpy())
    return [np.concatenate(found) for found in rows]


def write_reports(write: RadiologyReportPipeline, source: StudySource, count: int, clues: list[Clue]) -> list[Report]:
    """The reports of the first `count` studies with a clue list, whether or not the pictures can be read."""
    studies = [{"images": source.open_image(n, 0)} for n in range(min(count, len(source.records)))]
    return write(studies, clues=clues, batch_size=16, abstain=False)


def findings(reports: Sequence[Report]) -> np.ndarray:
    """What each report claims, bool `[N, 14]`."""
    labels = [label_report(report.text) for report in reports]
    return np.array([[row[name] == 1 for name in CHEXPERT_14] for row in labels])


def patients_of(source: StudySource, count: int) -> list[str]:
    """Of the first `count` studies."""
    return [str(study.patient_id or study.study_id) for study in source.records[:count]]


def share(hits: np.ndarray, patients: Sequence[str], resamples: int) -> dict[str, float | None]:
    """The mean of `[N]` with its interval."""
    draws = patient_bootstrap(patients, lambda w: w @ hits / w.sum(), resamples, 0)
    return with_interval(np.asarray(np.mean(hits)), draws)


def nonsense_scores(
    own: Sequence[Report], mixed: Sequence[Report], patients: list[str], resamples: int
) -> dict[str, Any]:
    """What nonsense behind the own clues changed."""
    strange = {clue["name"] for clue in nonsense(len(WORDS["nonsense"]))}
    heard = np.array([[c.selected for c in report.clues if c.name in strange] for report in mixed], dtype=float)
    mine = np.array([[c.selected for c in report.clues] for report in own], dtype=float)
    changed = (findings(own) != findings(mixed)).any(1)
    texts = np.array([a.text != b.text for a, b in zip(own, mixed, strict=True)])
    return {
        "nonsense clues selected": share(heard.mean(1), patients, resamples),
        "own clues selected": share(mine.mean(1), patients, resamples),
        "reports with other findings": share(changed.astype(float), patients, resamples),
        "reports with another text": share(texts.astype(float), patients, resamples),
    }


def truth_of(source: StudySource, names: Sequence[str]) -> np.ndarray:
    """Labels `[N, C]` of the studies, 1 and 0 where they are known."""
    return np.array([tensor_labels(certain((study.labels or {}).get(n) for n in names)) for study in source.records])


def wording_scores(
    truth: np.ndarray, scores: list[np.ndarray], names: list[str], patients: list[str], resamples: int
) -> dict[str, Any]:
    """AUROC of each finding in its own words and in the two new ones, and their means with intervals."""
    columns = judged_columns(truth, MIN_POSITIVES)

    def areas(weights: np.ndarray) -> np.ndarray:
        return np.array([[auroc(some[:, c], truth[:, c], weights) for c in columns] for some in scores])

    if not columns:
        return {}
    value = areas(np.ones(len(truth)))
    draws = np.nanmean(patient_bootstrap(patients, areas, resamples, 0), axis=2)
    rows = {names[c]: [round(float(v), 4) for v in value[:, place]] for place, c in enumerate(columns)}
    mean = [with_interval(np.asarray(value[row].mean()), draws[:, row]) for row in range(len(scores))]
    return {"findings": rows, "mean": mean}


def report_scores(
    truth: np.ndarray,
    own: np.ndarray,
    scores: np.ndarray,
    place: Sequence[int],
    names: Sequence[str],
    patients: list[str],
    resamples: int,
) -> dict[str, Any]:
    """AUROC of the findings in their own words and in those of reports, the mean of each finding's sentences; and the
    means of both over the findings, with intervals over patients.

    Args:
        truth, own: `[N, C]`.
        scores: `[N, S]`, of the sentences.
        place: of each sentence, the column of its finding.
        names: of the columns.
    """
    columns = [c for c in judged_columns(truth, MIN_POSITIVES) if c in set(place)]
    sentences = {c: [s for s, column in enumerate(place) if column == c] for c in columns}

    def areas(weights: np.ndarray) -> np.ndarray:
        told = [np.mean([auroc(scores[:, s], truth[:, c], weights) for s in sentences[c]]) for c in columns]
        return np.array([[auroc(own[:, c], truth[:, c], weights) for c in columns], told])

    if not columns:
        return {}
    value, draws = areas(np.ones(len(truth))), patient_bootstrap(patients, areas, resamples, 0)
    means = np.nanmean(draws, axis=2)
    rows = {
        names[c]: {"sentences": len(sentences[c]), "own": value[0, i], "told": value[1, i]}
        for i, c in enumerate(columns)
    }
    mean = [with_interval(np.asarray(value[i].mean()), means[:, i]) for i in (0, 1)]
    return {"findings": rows, "mean": mean}


def said_scores(
    truth: np.ndarray, claims: list[np.ndarray], patients: list[str], resamples: int
) -> list[dict[str, Any]]:
    """Of all (study, finding) pairs with the finding, the share whose report claims it, and of those without the share
    that does, for each list; None where no pair is known to be so."""
    rows = []
    for claimed in claims:
        cells: dict[str, dict[str, float | None]] = {}
        for name, value in (("said", 1), ("invented", 0)):
            there = truth == value

            def of(weights: np.ndarray, there: np.ndarray = there, claimed: np.ndarray = claimed) -> np.ndarray:
                known = (weights @ there).sum()
                return np.asarray((weights @ (there & claimed)).sum() / known if known else np.nan)

            if there.any():
                draws = patient_bootstrap(patients, of, resamples, 0)
                cells[name] = with_interval(of(np.ones(len(truth))), draws)
            else:
                cells[name] = {"value": None, "low": None, "high": None}
        rows.append(cells)
    return rows


def size_scores(write: Any, source: StudySource, own: list[Clue], count: int, reports: list[Report]) -> dict[str, Any]:
    """Seconds and unchanged findings for lists of `SIZES` clues."""
    rows = {}
    for size in SIZES:
        clues = [*own[:size], *nonsense(max(0, size - len(own)))]
        kept = {clue["name"] for clue in clues}
        clues = [{k: v for k, v in c.items() if k != "parent" or v in kept} for c in clues]
        seconds = []
        for number in (0, 1):
            start = time.perf_counter()
            write(images=source.open_image(number, 0), clues=clues, abstain=False)
            seconds.append(round(time.perf_counter() - start, 3))
        same = None  # of a part of the own list other findings are expected
        if size >= len(own):
            found = findings(write_reports(write, source, count, clues))
            same = float((found == findings(reports)).all(1).mean())
        rows[str(size)] = {"seconds": seconds, "same findings as the own list": same}
    return rows


def measure(
    write: Any, processor: Any, sources: dict[str, StudySource], count: int, resamples: int, told: list[Clue]
) -> dict[str, Any]:
    """All parts; see the top of this file. `told` is the list of `of_reports`, or empty."""
    model, own = write.model, processor.clues
    lists = [plain(own), reworded(own, 0), reworded(own, 1)]
    names = [clue["name"] for clue in lists[0]]
    mixed = [*own, *nonsense(len(WORDS["nonsense"]))]
    result: dict[str, Any] = {}
    for name, source in sources.items():
        n, patients = min(count, len(source.records)), patients_of(source, len(source.records))
        reports = write_reports(write, source, n, own)
        part: dict[str, Any] = {}
        part["nonsense"] = nonsense_scores(reports, write_reports(write, source, n, mixed), patients[:n], resamples)
        truth = truth_of(source, names)
        scores = read_scores(model, processor, source, lists)
        part["wordings"] = wording_scores(truth, scores, names, patients, resamples)
        if told:
            (in_reports,) = read_scores(model, processor, source, [told])
            places = [names.index(clue["name"]) for clue in told]
            part["reports"] = report_scores(truth, scores[0], in_reports, places, names, patients, resamples)
        place = [CHEXPERT_14.index(finding) for finding in names]
        claims = [findings(write_reports(write, source, n, clues))[:, place] for clues in lists]
        there = [column for column, finding in enumerate(names) if finding != "No Finding"]
        part["said"] = said_scores(truth[:n][:, there], [c[:, there] for c in claims], patients[:n], resamples)
        part["sizes"] = size_scores(write, source, own, n, reports)
        result[name] = part
    return result


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""

    def text(cell: dict[str, Any]) -> str:
        return f"{number_text(cell['value'])} {interval_text(cell)}".strip()

    lines = []
    for name, part in result.items():
        lines += [f"**{name}**", "", "| nonsense | |", "|---|---|"]
        lines += [f"| {row} | {text(cell)} |" for row, cell in part["nonsense"].items()]
        lines += ["", "| finding | own words | new words | other new words |", "|---|---|---|---|"]
        if part["wordings"]:
            for finding, values in part["wordings"]["findings"].items():
                lines.append(f"| {finding}, AUROC | {' | '.join(map(number_text, values))} |")
            lines.append(f"| mean AUROC | {' | '.join(map(text, part['wordings']['mean']))} |")
        for row in ("said", "invented"):
            lines.append(f"| {row} | {' | '.join(text(cells[row]) for cells in part['said'])} |")
        if words := part.get("reports"):
            lines += ["", "| finding, AUROC | own words | words of reports | sentences |", "|---|---|---|---|"]
            for finding, row in words["findings"].items():
                lines.append(
                    f"| {finding} | {number_text(row['own'])} | {number_text(row['told'])} | {row['sentences']} |"
                )
            lines.append(f"| mean | {' | '.join(map(text, words['mean']))} | |")
        lines += ["", "| clues | seconds, first study | second | same findings |", "|---|---|---|---|"]
        for size, row in part["sizes"].items():
            first, second = row["seconds"]
            lines.append(f"| {size} | {first} | {second} | {number_text(row['same findings as the own list'])} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the checkpoint's own code, not ours")
    parser.add_argument("--data", type=Path, help="folder of labelled studies, beside the phantoms")
    parser.add_argument("--split", default="validation", help="of --data")
    parser.add_argument(
        "--reports", type=Path, help="folder of studies, splits train and validation, for findings in words of reports"
    )
    parser.add_argument("--count", type=int, default=100, help="studies of each source that reports are written of")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0: no intervals")
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    options.bf16 = False
    processor, model = load(options, start_processes())
    if not model.config.uses_clue_encoder or model.config.clue_scoring != "pairwise":
        parser.error(f"{options.checkpoint}: it does not compare a claim with its denial; expected pairwise clues")
    write = RadiologyReportPipeline(model=model, processor=processor, device=model.device)
    sources: dict[str, StudySource] = {"phantoms (SYNTHETIC)": PhantomStudies(max(2, options.count), TEST_PHANTOM_SEED)}
    if options.data is not None:
        sources[str(options.data)] = Studies(options.data, options.split)
    told = of_reports(processor.clues, str(options.reports)) if options.reports else []
    result = measure(write, processor, sources, options.count, options.resamples, told)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "clue_lists.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "clue_lists.md").write_text(table(result), encoding="utf-8")
    print(f"{table(result)}\nNever for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
