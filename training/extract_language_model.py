"""The language model of a complete checkpoint, for another system to start from (`model.language_model`).

python -m training.extract_language_model hub_cards/trrg-small --out runs/trrg-small-language-model
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForCausalLM

from modeling_trrg import TRRGForConditionalGeneration
from processing_trrg import TRRGProcessor
from training.config.command_line import loading


def extract(checkpoint: Path, out: Path) -> None:
    """Write the language model of `checkpoint` as a causal model of its own kind, and its tokenizer, to `out`.

    Raises:
        ValueError: it cannot be loaded, or is no complete checkpoint.
    """
    with loading("checkpoint", str(checkpoint)):
        whole = TRRGForConditionalGeneration.from_pretrained(checkpoint)
    alone = AutoModelForCausalLM.from_config(whole.config.text_config, dtype=whole.dtype)
    alone.get_decoder().load_state_dict(whole.model.language_model.state_dict())
    alone.get_output_embeddings().load_state_dict(whole.lm_head.state_dict())
    alone.save_pretrained(out)
    TRRGProcessor.from_pretrained(checkpoint).tokenizer.save_pretrained(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a complete checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of the language model")
    options = parser.parse_args(arguments)
    try:
        extract(options.checkpoint, options.out)
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.out}: language model of {options.checkpoint}")


if __name__ == "__main__":
    main()
