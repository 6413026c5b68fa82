"""Write reports: a checkpoint and studies -> predictions.jsonl, what `score.py` and `truthfulness.py` read.

    python evaluation/generate.py --checkpoint DIR --data DIR --split validation --out RUN
    python evaluation/generate.py --checkpoint DIR --images FOLDER --out RUN
    python evaluation/generate.py --checkpoint DIR --phantoms 500 --out RUN
    accelerate launch --num_processes 2 evaluation/generate.py ...       every process has the whole model

`--data` is what training reads: a folder with studies.jsonl, or `datasets` shards. `--images` are images without
reports: a file of the folder is a study, a folder in it is a study with a file a view. The run may be killed at any
moment: the same command goes on where it ended, with any number of processes. A line a study:

    study_id, prediction, reference (null where the study has none), findings and impression of the prediction,
    complete (false: cut at the longest length), clue_scores (what the report was written from; null without clues),
    selected_clues (those that reached the language model), labels of the study, patient_id, has_prior (whether the
    model was told of an earlier study), synthetic, readable (false: the picture is none that the model can read, and
    the report says so; null of a model that was not fitted to tell)

Greedy or beam search, so the same input gives the same report; in bfloat16 only up to the rounding of other batches.
Never for clinical use.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

import modeling_trrg  # noqa: F401  registers the model with the Auto classes
from evaluation.predictions.prediction_parts import (
    PREDICTIONS,
    SKIPPED,
    PartFile,
    finished_studies,
    is_complete,
    merge_parts,
    open_run,
)
from evaluation.predictions.records import SECTIONS, section_text
from evaluation.predictions.study_sources import (
    CONTEXT_FIELDS,
    TEST_PHANTOM_SEED,
    ImageFolder,
    PhantomStudies,
    StudySource,
    in_batches,
    oracle_scores,
    record_fault,
    records_digest,
    shuffled,
)
from evaluation.reading.prior_comparisons import has_prior
from processing_trrg import RadiologyReportPipeline, Report, StudyBatch, StudyError, prepare_studies
from training.config.command_line import loading, run_command
from training.data.study import Studies
from training.data.workers import read_batches

Scores = dict[str, float]
Lines = Callable[[Sequence[int], StudyBatch], list[dict[str, Any]]]
"""A batch of studies, as indices into the source's records and as tensors -> a line of predictions.jsonl each."""


class PreparedBatches:
    """Batches of studies as tensors, so that other processes read the images.

    Args:
        processor: of the checkpoint.
        batches: indices into the source's records.
        scores: clue scores of every study by the caller's wish, or None for those that the model sees.
        options: `views` and `on_error` of the command.
    """

    def __init__(
        self,
        source: StudySource,
        processor: Any,
        batches: Sequence[Sequence[int]],
        scores: Sequence[Scores] | None,
        options: argparse.Namespace,
    ):
        self.source, self.processor, self.batches = source, processor, batches
        self.scores, self.options = scores, options

    def __call__(self, number: int) -> tuple[Sequence[int], Any]:
        indices = self.batches[number]
        studies = [self._study(index) for index in indices]
        return indices, prepare_studies(
            self.processor, studies, on_error=self.options.on_error, compares=not self.options.as_written
        )

    def _study(self, index: int) -> dict[str, Any]:
        record = self.source.records[index]
        study = {"study_id": record["study_id"], **{name: record.get(name) for name in CONTEXT_FIELDS}}
        if self.scores is not None:
            study["clue_scores"] = self.scores[index]
        views = range(len(record["images"][: self.options.views or self.processor.max_views]))
        return study | {"images": [self.source.open_image(index, view) for view in views] or None}


def prediction_line(record: dict[str, Any], report: Any, options: argparse.Namespace) -> dict[str, Any]:
    """A study's line of predictions.jsonl, or of skipped.jsonl where `report` is the error in its place."""
    if isinstance(report, StudyError):
        return _skipped(record["study_id"], report.reason)
    section = options.section
    parts = ("findings", "impression") if section == "report" else (section,)
    has_reference = any(record.get(part) for part in parts)
    return {
        "study_id": record["study_id"],
        "prediction": report.text if section == "report" else getattr(report, section) or "",
        "reference": section_text(record, section, f"study {record['study_id']!r}") if has_reference else None,
        "findings": report.findings,
        "impression": report.impression,
        "complete": report.complete,
        "readable": report.readable,
        **clue_fields(report, options),
        "labels": record.get("labels"),
        "patient_id": record["patient_id"],
        "has_prior": has_prior(record),
        "synthetic": bool(record.get("synthetic")),
    }


def clue_fields(report: Report, options: argparse.Namespace) -> dict[str, Any]:
    """`clue_scores` and `selected_clues` of a line; null where the report was written without clues."""
    if not report.clues or options.no_clues:
        return {"clue_scores": None, "selected_clues": None}
    return {
        "clue_scores": {clue.name: round(clue.score, 6) for clue in report.clues},
        "selected_clues": [clue.name for clue in report.clues if clue.selected],
    }


def _skipped(study_id: str, reason: str) -> dict[str, Any]:
    return {"study_id": study_id, "skipped": reason}


def reads_clues(processor: Any, config: Any) -> bool:
    """Whether a checkpoint takes clue scores that were given, into its prompt or beside its patches."""
    return processor.says_findings or (config.connector == "clue_interaction" and config.uses_clue_encoder)


def given_scores(options: argparse.Namespace, source: StudySource, processor: Any, config: Any) -> list[Scores] | None:
    """Clue scores of each study by the caller's wish; None for those that the model sees itself.

    Raises:
        ValueError: the checkpoint reads no clues, or the studies have no labels.
    """
    if not (options.oracle_clues or options.no_clues or options.shuffle_clues is not None):
        return None
    if not reads_clues(processor, config):
        raise ValueError(
            f"clues are given, but this checkpoint reads none (connector={config.connector!r}, "
            f"clue_source={config.clue_source!r}, prompt_style={processor.prompt_style!r})"
        )
    names = [clue["name"] for clue in processor.clues]
    if options.no_clues:
        return [dict.fromkeys(names, 0.0)] * len(source.records)
    scores = oracle_scores(source.records, names)
    return scores if options.oracle_clues else shuffled(scores, options.shuffle_clues)


def study_fault(record: dict[str, Any], takes_clues_only: bool) -> str | None:
    """Why a study cannot be reported at all, or None."""
    fault = record_fault(record)
    if fault is None and not record["images"] and not takes_clues_only:
        return "it has no image; give clues (--oracle-clues) to a checkpoint that can do without"
    return fault


def weight_files(checkpoint: str) -> dict[str, list[int]]:
    """Size and time of a local checkpoint's weights and settings, so that a run is not resumed with others."""
    files = sorted(file for end in ("safetensors", "json", "jinja") for file in Path(checkpoint).glob(f"*.{end}"))
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def run_settings(options: argparse.Namespace, source: StudySource) -> dict[str, Any]:
    """All that decides what stands in predictions.jsonl."""
    chosen = vars(options) | {name: str(vars(options)[name] or "") or None for name in ("data", "images")}
    for name in ("out", "restart", "batch_size", "workers"):
        del chosen[name]
    records = {"studies": len(source.records), "records": records_digest(source.records)}
    return chosen | records | {"weights": weight_files(options.checkpoint)}


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every command that asks a checkpoint about studies."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the checkpoint's own code, not ours")
    parser.add_argument("--data", type=Path, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", help="of --data")
    parser.add_argument("--max-studies", type=int, help="at most this number, from the start")
    parser.add_argument("--phantoms", type=int, metavar="N", help="N SYNTHETIC phantoms instead of --data")
    parser.add_argument("--seed", type=int, default=TEST_PHANTOM_SEED, help="of the phantoms; training's is 2408")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--restart", action="store_true", help="throw away what an earlier run left in --out")
    clues = parser.add_mutually_exclusive_group()
    clues.add_argument("--oracle-clues", action="store_true", help="clue scores from the studies' labels")
    clues.add_argument("--shuffle-clues", type=int, metavar="SEED", help="those scores, each study another one's")
    clues.add_argument("--no-clues", action="store_true", help="every clue scores 0")
    parser.add_argument("--views", type=int, help="most images of a study, the first ones (default: the model's)")
    parser.add_argument("--batch-size", type=int, default=16, help="studies, per process")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images, per process")
    parser.add_argument("--max-new-tokens", type=int, help="of a report (default: the checkpoint's own)")
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--as-written", action="store_true", help="neither revised by clues nor compared by rule")
    parser.add_argument("--bf16", action="store_true", help="weights and activations in bfloat16")
    parser.set_defaults(images=None, on_error="raise")
    return parser


def read_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a `run_parser`, checked."""
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    if [options.data, options.images, options.phantoms].count(None) != 2:
        parser.error("give one of --data, --images and --phantoms")
    if (options.data is None) != (options.split is None):
        parser.error("--data and --split go together")
    for name in ("max_studies", "phantoms", "views", "batch_size", "max_new_tokens", "num_beams"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if options.workers < 0:
        parser.error("--workers must be at least 0")
    return options


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options, checked."""
    parser = run_parser(__doc__)
    parser.add_argument("--images", type=Path, help="folder of images without reports, instead of --data")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at a study that can't be read")
    parser.add_argument("--operating-point", help="careful, balanced, sensitive or a false-negative rate, as 0.1")
    parser.add_argument("--never-abstain", action="store_true", help="report pictures that the model cannot read too")
    parser.add_argument("--section", choices=SECTIONS, default="report", help="what prediction and reference hold")
    return read_arguments(parser, arguments)


def start_processes() -> Accelerator:
    """The processes of a run."""
    # ranks wait for each other only at the ends of the run, so long that no real difference in speed matters
    patience = InitProcessGroupKwargs(timeout=timedelta(days=2))
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])


def load(options: argparse.Namespace, accelerator: Accelerator) -> tuple[Any, Any]:
    """Processor and model of the checkpoint, the model on this process's device."""
    logging.disable_progress_bar()
    with loading("--checkpoint", options.checkpoint), accelerator.main_process_first():  # unpacks its code once
        trusted = {"trust_remote_code": options.trust_remote_code}
        processor = AutoProcessor.from_pretrained(options.checkpoint, **trusted)
        dtype = torch.bfloat16 if options.bf16 else torch.float32
        model = AutoModelForImageTextToText.from_pretrained(options.checkpoint, dtype=dtype, **trusted)
    return processor, model.eval().to(accelerator.device)


def open_source(options: argparse.Namespace) -> StudySource:
    """The studies that the command names."""
    if options.phantoms is not None:
        return PhantomStudies(options.phantoms, options.seed)
    if options.data is not None:
        return Studies(options.data, options.split, options.max_studies)
    source = ImageFolder(options.images)
    if source.left_out:
        print(f"{options.images}: {source.left_out:,} files are no images by their endings and were left out")
    source.records = source.records[: options.max_studies]
    return source


def decoding(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `generate`: greedy or beam search."""
    length = {} if options.max_new_tokens is None else {"max_new_tokens": options.max_new_tokens}
    return {"num_beams": options.num_beams, "do_sample": False, **length}


def report_lines(options: argparse.Namespace, source: StudySource, processor: Any, model: Any) -> Lines:
    """Reports of a batch, as lines."""
    write = RadiologyReportPipeline(model=model, processor=processor, device=model.device)
    generate, point = decoding(options), options.operating_point
    if point is not None:
        generate["operating_point"] = float(point) if point[:1].isdigit() else point

    def lines(indices: Sequence[int], batch: StudyBatch) -> list[dict[str, Any]]:
        reports = write.write_batch(
            batch,
            on_error=options.on_error,
            abstain=not options.never_abstain,
            revise=not options.as_written,
            **generate,
        )
        records = [source.records[index] for index in indices]
        return [prediction_line(*pair, options) for pair in zip(records, reports, strict=True)]

    return lines


def write_lines(
    options: argparse.Namespace,
    accelerator: Accelerator,
    source: StudySource,
    processor: Any,
    model: Any,
    left: Sequence[int],
    part: PartFile,
    make_lines: Callable[[argparse.Namespace, StudySource, Any, Any], Lines],
) -> int:
    """Report this process's share of the studies `left`; returns the number of all processes' reports.

    Raises:
        ValueError: a study is bad and `on_error` is "raise"; names it.
    """
    scores = given_scores(options, source, processor, model.config)
    takes_clues_only = scores is not None and model.config.connector == "clue_interaction"
    faults = {i: fault for i in left if (fault := study_fault(source.records[i], takes_clues_only)) is not None}
    if faults and options.on_error == "raise":
        first = next(iter(faults))
        raise ValueError(
            f"{len(faults)} studies cannot be reported, first {source.records[first]['study_id']!r}: {faults[first]}; "
            "--on-error skip goes on without them"
        )
    if accelerator.is_main_process:
        part.append([_skipped(source.records[i]["study_id"], fault) for i, fault in faults.items()])
    mine = in_batches(source, [i for i in left if i not in faults], options.batch_size)
    mine = mine[accelerator.process_index :: accelerator.num_processes]
    batches = PreparedBatches(source, processor, mine, scores, options)
    lines = make_lines(options, source, processor, model)
    title = "generate" if accelerator.num_processes == 1 else f"process 0 of {accelerator.num_processes}"
    with tqdm(total=sum(map(len, mine)), desc=title, unit="report", disable=not accelerator.is_main_process) as bar:
        for indices, batch in read_batches(batches, range(len(mine)), options.workers):
            part.append(lines(indices, batch))
            bar.update(len(indices))
    return len(left) - len(faults)


def run(
    options: argparse.Namespace,
    make_lines: Callable[[argparse.Namespace, StudySource, Any, Any], Lines] = report_lines,
    source: StudySource | None = None,
    loaded: tuple[Any, Any] | None = None,
) -> None:
    """Write predictions.jsonl of a run, or what is left of it.

    Args:
        options: of `read_arguments`.
        make_lines: (options, source, processor, model) -> what writes the lines of a batch.
        source: the studies, by default those that the options name.
        loaded: processor and model, by default those of the checkpoint.
    """
    accelerator = start_processes()
    source = open_source(options) if source is None else source
    done_before = is_complete(options.out) and not options.restart
    if loaded is None and not done_before:  # before the run is opened: a checkpoint that cannot be loaded
        loaded = load(options, accelerator)  # leaves no settings behind
    if accelerator.is_main_process:
        open_run(options.out, run_settings(options, source), options.restart)
    accelerator.wait_for_everyone()
    if done_before or loaded is None:
        accelerator.print(f"{options.out / PREDICTIONS} is complete; --restart writes it anew")
        accelerator.end_training()
        return
    done = finished_studies(options.out)
    accelerator.wait_for_everyone()  # nobody writes before everybody has read
    left = [index for index, record in enumerate(source.records) if record["study_id"] not in done]
    start = time.perf_counter()
    with closing(PartFile(options.out, accelerator.process_index)) as part:
        count = write_lines(options, accelerator, source, *loaded, left, part, make_lines)
    accelerator.wait_for_everyone()
    seconds = time.perf_counter() - start
    if accelerator.is_main_process:
        written, skipped = merge_parts(options.out, [record["study_id"] for record in source.records])
        print(
            f"{count} reports in {seconds:.1f} s, {count / seconds:.2f} a second in "
            f"{accelerator.num_processes} process(es); {len(done)} studies were done before"
        )
        print(f"{written} predictions in {options.out / PREDICTIONS}. Never for clinical use.")
        if skipped:
            print(f"{skipped} studies skipped, see {options.out / SKIPPED}")
    accelerator.end_training()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    run(parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(run_command(main))
