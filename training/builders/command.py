"""What the commands of all data builders share: their arguments, and the way from a tree to shards."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from processing_trrg import RadiographError
from training.builders.builder import StudySet, TreeError, check_set, clean_targets, need_images, read_skips
from training.builders.shards import write_set


def builder_arguments(doc: str | None, reports: bool = True) -> argparse.ArgumentParser:
    """Arguments that all builders have. reports: the set has reports."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards; a build cut short goes on there")
    parser.add_argument("--size", type=int, default=518, help="longer side in pixels; larger images are made smaller")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--skip-file", type=Path, help="list of image paths to leave out, one a line")
    if reports:
        parser.add_argument("--findings-only", action="store_true", help="the target is the findings, as in MAIRA-1")
        parser.add_argument("--frontal-only", action="store_true", help="leave out lateral and unnamed views")
        parser.add_argument(
            "--as-written", action="store_true",
            help="keep reports whole, as published test references are: blanks, dates, names, messages, comparisons",
        )  # fmt: skip
        parser.add_argument(
            "--no-comparisons", action="store_true",
            help="rewrite reports of studies without a prior so that they compare with none",
        )  # fmt: skip
    else:
        parser.set_defaults(as_written=True)
    return parser


def build(arguments: argparse.Namespace, read: Callable[[], StudySet]) -> None:
    """Read the set, check its images, write its shards, print the manifest. A wrong tree or an unreadable image ends
    the command with one line that names the path."""
    try:
        found = read()
        if not arguments.as_written:
            clean_targets(found, not arguments.no_comparisons)
            found.choices["no_comparisons"] = arguments.no_comparisons
        check_set(found)
        skipped = read_skips(arguments.skip_file, found)
        need_images(found, skipped)
        manifest = write_set(found, arguments.out, arguments.size, arguments.workers, skipped)
    except (TreeError, RadiographError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(manifest, indent=1))
