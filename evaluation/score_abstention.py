"""Does a model abstain where a picture is no chest X-ray that it can read, and only there?

    python -m evaluation.score_abstention --checkpoint M --data runs/small-data/nih runs/small-data/jsrt ... --out R

The checkpoint was fitted by `training/fit_readable.py`. Readable are the validation radiographs of --data of the
patients that its threshold was not set on, SYNTHETIC phantoms of a seed that training never draws, and with --raw the
frontal radiographs of sets that nothing was fitted on. Not readable are drawings, photographs
(`evaluation/other_pictures.py`), these radiographs and phantoms cut to a corner, turned and inverted, and with --raw
real lateral views. All go the way of every picture; what reading refuses already (noise, no contrast) is counted apart.

Writes abstention.json and abstention.md: of each readable source the false alarms, of each kind the share that the
model abstains from and the AUROC of its score against the radiographs of --data, with 95 % intervals by bootstrap over
patients (of drawings: over pictures). Never for clinical use.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np
import torch

from evaluation.generate import load, start_processes
from evaluation.metrics.classification import auroc
from evaluation.metrics.resampling import interval_text, number_text, patient_bootstrap, with_interval
from evaluation.other_pictures import CHANGED, DRAWN
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED, PhantomStudies
from processing_trrg import RadiographError, read_radiograph
from training.builders.builder import is_measured
from training.config.command_line import run_command
from training.data.study import Studies


class Picture(NamedTuple):
    """A picture to judge: what `read_radiograph` reads, and whose it is."""

    source: Any
    patient: str


def validation(folder: Path) -> list[Picture]:
    """First views of the validation studies whose patients are left for measuring."""
    studies = Studies(folder, "validation")
    rows = [row for row, study in enumerate(studies.records) if is_measured(study.patient_id)]
    return [Picture(studies.open_image(row, 0), str(studies.records[row].patient_id)) for row in rows]


def raw_sets(folder: Path) -> tuple[dict[str, list[Picture]], dict[str, list[Picture]]]:
    """(frontal, lateral) radiographs of covid_notes, vqa_rad and iu_xray as they are distributed, by set."""
    views: dict[bool, dict[str, list[Picture]]] = {True: defaultdict(list), False: defaultdict(list)}
    for line in (folder / "covid_notes" / "studies.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        views[row["view_position"] != "L"]["covid_notes"].append(
            Picture(folder / "covid_notes" / row["image"], row["patient_id"])
        )
    for row in json.loads((folder / "iu_xray" / "images.json").read_text(encoding="utf-8")):
        views[row["projection"] == "Frontal"]["iu_xray"].append(Picture(folder / "iu_xray" / row["image"], row["uid"]))
    for file in sorted((folder / "vqa_rad" / "images").iterdir()):
        views[True]["vqa_rad"].append(Picture(file, file.name))
    return dict(views[True]), dict(views[False])


def changed(pictures: Sequence[Picture], seed: int) -> dict[str, list[Picture]]:
    """Each of `CHANGED` made of each picture; what reading makes 8 bits of is changed, not the file."""
    grey = []
    for picture in pictures:
        values = read_radiograph(picture.source).values
        low, high = int(values.min()), int(values.max())
        grey.append(((values.astype(np.float32) - low) * (255 / (high - low))).astype(np.uint8))
    rng = np.random.default_rng(seed)
    return {
        kind: [Picture(change(square, rng), p.patient) for square, p in zip(grey, pictures, strict=True)]
        for kind, change in CHANGED.items()
    }


@torch.inference_mode()
def judge(model: Any, processor: Any, pictures: Sequence[Picture]) -> tuple[np.ndarray, list[str], int]:
    """Scores `[n]` of the pictures that can be read, their patients, and how many cannot."""
    squares, patients = [], []
    for picture in pictures:
        try:
            squares.append(processor.image_processor.square(read_radiograph(picture.source)))
            patients.append(picture.patient)
        except RadiographError:
            continue
    scores = []
    for start in range(0, len(squares), 32):
        pixels = processor.image_processor.normalise(np.stack(squares[start : start + 32]))[:, None].to(model.device)
        seen = model.model.encode_images(pixels).readability(model.config)
        scores.append(seen["readable_scores"].cpu().numpy())
    return np.concatenate(scores) if scores else np.zeros(0), patients, len(pictures) - len(squares)


def rate(below: np.ndarray, patients: Sequence[str], resamples: int) -> dict[str, float | None]:
    """The share that is true, of bool `[n]`."""
    draws = patient_bootstrap(patients, lambda w: w @ below / w.sum(), resamples, 0)
    return with_interval(np.asarray(below.mean()), draws)


def area(
    radiographs: tuple[np.ndarray, list[str]], others: tuple[np.ndarray, list[str]], resamples: int
) -> dict[str, float | None]:
    """AUROC of the scores `[n]` of radiographs against those `[m]` of other pictures."""
    scores = np.concatenate([radiographs[0], others[0]])
    labels = np.repeat([1, 0], [len(radiographs[0]), len(others[0])])
    patients = [*radiographs[1], *others[1]]
    draws = patient_bootstrap(patients, lambda w: np.asarray(auroc(scores, labels, w)), resamples, 0)
    return with_interval(np.asarray(auroc(scores, labels)), draws)


def measure(
    model: Any,
    processor: Any,
    readable: dict[str, list[Picture]],
    others: dict[str, list[Picture]],
    reference: Sequence[str],
    resamples: int,
) -> dict[str, Any]:
    """The figures of each source and kind; `reference` names the sources that AUROC compares with."""
    threshold = model.config.readable_threshold
    result: dict[str, Any] = {"threshold": threshold, "readable": {}, "others": {}}
    judged = {name: judge(model, processor, pictures) for name, pictures in readable.items()}
    for name, (scores, patients, refused) in judged.items():
        alarms = rate(scores < threshold, patients, resamples)
        result["readable"][name] = {"pictures": len(scores), "refused": refused, "false_alarms": alarms}
    scores = np.concatenate([judged[name][0] for name in reference])
    radiographs = scores, [patient for name in reference for patient in judged[name][1]]
    for name, pictures in others.items():
        scores, patients, refused = judge(model, processor, pictures)
        row: dict[str, Any] = {"pictures": len(scores), "refused": refused}
        if len(scores):
            row["abstained"] = rate(scores < threshold, patients, resamples)
            row["auroc"] = area(radiographs, (scores, patients), resamples)
        result["others"][name] = row
    return result


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""

    def text(cell: dict[str, Any] | None) -> str:
        return "-" if cell is None else f"{number_text(cell['value'])} {interval_text(cell)}"

    lines = ["| radiographs | read | refused by reading | false alarms |", "|---|---|---|---|"]
    for name, row in result["readable"].items():
        lines.append(f"| {name} | {row['pictures']} | {row['refused']} | {text(row['false_alarms'])} |")
    lines += ["", "| other pictures | read | refused by reading | abstained | AUROC |", "|---|---|---|---|---|"]
    for name, row in result["others"].items():
        cells = [row["pictures"], row["refused"], text(row.get("abstained")), text(row.get("auroc"))]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the checkpoint's own code, not ours")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of real, frontal studies")
    parser.add_argument("--raw", type=Path, help="folder of covid_notes, vqa_rad and iu_xray as they are distributed")
    parser.add_argument("--count", type=int, default=100, help="phantoms, and pictures of each kind")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0: no intervals")
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    for folder in [*options.data, *([options.raw] if options.raw else [])]:
        if not folder.exists():
            parser.error(f"{folder} does not exist")
    options.bf16 = False
    processor, model = load(options, start_processes())
    if model.config.readable_weights is None:
        parser.error(f"{options.checkpoint}: it never abstains (readable_weights); fit it with training.fit_readable")
    phantoms = PhantomStudies(options.count, TEST_PHANTOM_SEED)
    drawn = [Picture(phantoms.open_image(n, 0), s.study_id) for n, s in enumerate(phantoms.records)]
    readable = {str(folder): validation(folder) for folder in options.data}
    names, real = list(readable), [picture for some in readable.values() for picture in some]
    readable["phantoms (SYNTHETIC)"] = drawn
    others = {
        kind: [Picture(make(np.random.default_rng(n)), f"{kind} {n}") for n in range(options.count)]
        for kind, make in DRAWN.items()
    }
    some = [real[row] for row in np.random.default_rng(0).permutation(len(real))[: options.count]]
    others |= {f"radiograph, {kind}": pictures for kind, pictures in changed(some, 0).items()}
    others |= {f"phantom, {kind}": pictures for kind, pictures in changed(drawn, 1).items()}
    if options.raw:
        frontal, lateral = raw_sets(options.raw)
        readable |= {f"{name}, frontal": pictures for name, pictures in frontal.items()}
        others |= {f"{name}, lateral": pictures for name, pictures in lateral.items()}
    result = measure(model, processor, readable, others, names, options.resamples)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "abstention.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "abstention.md").write_text(table(result), encoding="utf-8")
    print(f"{table(result)}\nNever for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
