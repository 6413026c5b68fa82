"""Stage 1 of a complete checkpoint, as pretrain.py writes it, so that stage 2 can be trained again without it.

python -m training.extract_stage1 hub_cards/trrg-small --out runs/trrg-small-stage1/model
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from processing_trrg import TRRGProcessor
from training.config.command_line import loading


def extract(checkpoint: Path, out: Path) -> None:
    """Write vision tower, clue encoder, projections and temperature of `checkpoint`, and its processor, to `out`.

    Raises:
        ValueError: the checkpoint cannot be loaded, is not complete, or has a query transformer, whose stage 1 has
            heads that it does not keep.
    """
    with loading("checkpoint", str(checkpoint)):
        whole = TRRGForConditionalGeneration.from_pretrained(checkpoint)
    if whole.config.connector == "query_transformer":
        raise ValueError(f"{checkpoint}: connector='query_transformer' keeps no heads of stage 1; run pretrain.py")
    stage1 = TRRGForContrastivePretraining(whole.config)
    weights = whole.state_dict()
    stage1.load_state_dict({name: weights[name] for name in stage1.state_dict()})
    stage1.save_pretrained(out)
    TRRGProcessor.from_pretrained(checkpoint).save_pretrained(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a complete checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of the stage-1 checkpoint")
    options = parser.parse_args(arguments)
    try:
        extract(options.checkpoint, options.out)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.out}: stage 1 of {options.checkpoint}")


if __name__ == "__main__":
    main()
