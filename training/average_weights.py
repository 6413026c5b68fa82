"""The average of the weights of runs that went on from one checkpoint, put into it: a model soup (Wortsman et al. 2022,
arXiv 2203.05482, "uniform soup").

    python -m training.average_weights hub_cards/trrg-small runs/seed-1/model runs/seed-2/model --out runs/average

Runs of other seeds or augmentations err in other places, and where they began at the same weights their average errs
less than each of them at the cost of one. What the runs do not hold is the checkpoint's: its language model where they
are of stage 1. What was fitted on the scores and features before (calibration, thresholds, which pictures can be read)
is left out: `training.calibrate` and `training.fit_readable` come next. That the runs began at the checkpoint is only
seen by the names and shapes of their weights. Never for clinical use.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from processing_trrg import TRRGProcessor
from training.config.command_line import loading
from training.config.run_config import ModelSection
from training.run.initial_model import STAGES, build_config


def average(checkpoint: Path, runs: Sequence[Path]) -> PreTrainedModel:
    """The checkpoint's model, in its dtype, with the mean, weight by weight, of the runs. Sums are in 32 bits; batch
    norm's statistics are averaged as weights are.

    Raises:
        ValueError: fewer than two runs or one twice, a model that cannot be loaded, weights that the checkpoint does
            not have or has in another shape, or runs that do not hold the same ones.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError(f"runs: {', '.join(map(str, runs))}; expected each once")
    if len(runs) < 2:
        raise ValueError(f"runs: {len(runs)} given, expected two or more to average")
    model = _model("checkpoint", checkpoint)
    own: dict[str, Tensor] = model.state_dict()
    sums: dict[str, Tensor] = {}
    for run in tqdm(runs, desc="runs", unit="run"):
        weights = _model("run", run).state_dict()
        for name, tensor in weights.items():
            if name not in own:
                raise ValueError(f"{run}: {checkpoint} has no weight {name}; expected a run that went on from it")
            if tensor.shape != own[name].shape:
                shapes = f"{[*tensor.shape]}, in {checkpoint} {[*own[name].shape]}"
                raise ValueError(f"{run}: {name} is {shapes}; expected a run that went on from it")
        if sums and weights.keys() != sums.keys():
            name = min(weights.keys() ^ sums.keys())
            raise ValueError(f"{run}: {name} is in this run or in those before, not in both")
        for name, tensor in weights.items():
            sums[name] = sums[name] + tensor.float() if name in sums else tensor.float()
    model.load_state_dict({name: (total / len(runs)).to(own[name].dtype) for name, total in sums.items()}, strict=False)
    for fitted in ("clue_calibration", "clue_operating_points", "readable_weights"):
        setattr(model.config, fitted, None)
    return model


def _model(what: str, folder: Path) -> PreTrainedModel:
    with loading(what, str(folder)):
        config = build_config(ModelSection(checkpoint=str(folder)))
        return STAGES[config.architectures[0]].from_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder that all runs began at, complete or of stage 1")
    parser.add_argument("runs", type=Path, nargs="+", help="their model/ folders")
    parser.add_argument("--out", type=Path, required=True, help="folder that the checkpoint is written to")
    options = parser.parse_args(arguments)
    try:
        if options.out.resolve() in {folder.resolve() for folder in (options.checkpoint, *options.runs)}:
            raise ValueError(f"--out: {options.out} is one of the models that are read")
        model = average(options.checkpoint, options.runs)
        with loading("checkpoint", str(options.checkpoint)):
            processor = TRRGProcessor.from_pretrained(options.checkpoint)
        model.save_pretrained(options.out)
        processor.save_pretrained(options.out)
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{options.out}: the mean of {len(options.runs)} runs; training.calibrate and training.fit_readable come next"
    )


if __name__ == "__main__":
    main()
