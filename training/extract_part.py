"""A part of a complete checkpoint: its stage 1, as pretrain.py writes it, so that stage 2 can be trained again without
it, or its language model, for another system to start from (`model.language_model`).

python -m training.extract_part stage1 hub_cards/trrg-small --out runs/trrg-small-mean/model
python -m training.extract_part language_model hub_cards/trrg-small --out runs/trrg-small-language-model
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel

from modeling_trrg import TRRGForConditionalGeneration, TRRGForContrastivePretraining
from processing_trrg import TRRGProcessor
from training.config.command_line import loading


def extract(part: str, checkpoint: Path, out: Path) -> None:
    """Write a part of `checkpoint` to `out`: "stage1", vision tower, clue encoder, projections and temperature with the
    processor, or "language_model", a causal model of its own kind with its tokenizer.

    Raises:
        ValueError: the checkpoint cannot be loaded, is not complete, or has a query transformer, whose stage 1 has
            heads that it does not keep.
    """
    with loading("checkpoint", str(checkpoint)):
        whole = TRRGForConditionalGeneration.from_pretrained(checkpoint)
        processor = TRRGProcessor.from_pretrained(checkpoint)
    if part == "stage1":
        _stage1(whole, checkpoint).save_pretrained(out)
        processor.save_pretrained(out)
    else:
        _language_model(whole).save_pretrained(out)
        processor.tokenizer.save_pretrained(out)


def _stage1(whole: TRRGForConditionalGeneration, checkpoint: Path) -> PreTrainedModel:
    if whole.config.connector == "query_transformer":
        raise ValueError(f"{checkpoint}: connector='query_transformer' keeps no heads of stage 1; run pretrain.py")
    stage1 = TRRGForContrastivePretraining(whole.config).to(whole.dtype)
    weights = whole.state_dict()
    stage1.load_state_dict({name: weights[name] for name in stage1.state_dict()})
    return stage1


def _language_model(whole: TRRGForConditionalGeneration) -> PreTrainedModel:
    alone: PreTrainedModel = AutoModelForCausalLM.from_config(whole.config.text_config, dtype=whole.dtype)
    alone.get_decoder().load_state_dict(whole.model.language_model.state_dict())
    alone.get_output_embeddings().load_state_dict(whole.lm_head.state_dict())
    return alone


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("stage1", "language_model"))
    parser.add_argument("checkpoint", type=Path, help="folder of a complete checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder that the part is written to")
    options = parser.parse_args(arguments)
    try:
        extract(options.part, options.checkpoint, options.out)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.out}: {options.part} of {options.checkpoint}")


if __name__ == "__main__":
    main()
