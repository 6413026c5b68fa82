"""Train the two tokenizers of a small model once, on the reports of its training set.

    python -m training.builders.train_tokenizers --data DIR [DIR ...] --out DIR

Writes `tokenizer/` (byte-level BPE, for reports) and `clue_tokenizer/` (WordPiece, for sentences and clues). Training
them is not reproducible to the last merge between machines, so a checkpoint keeps its own and they are never rebuilt.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from processing_trrg import report_text
from processing_trrg.prompt_trrg import REQUEST, default_clues
from training.data.sentences import sentences_of_labels
from training.data.study import Studies, target_text

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
IMAGE_TOKEN = "<image>"


def train_text_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so any text has tokens. Ids: <pad> 0, <s> 1, </s> 2, <image> 3, as the preset trrg-small expects.
    Digits stay single, and nothing is lower-cased: the report comes out as it is written."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS.values(), IMAGE_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **SPECIAL_TOKENS, clean_up_tokenization_spaces=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    return tokenizer


def train_clue_tokenizer(texts: Sequence[str], vocab_size: int, max_length: int = 64) -> PreTrainedTokenizerFast:
    """Lower-cased WordPiece with BERT's [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    pieces.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    )
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, pieces.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=max_length,
    )  # fmt: skip


def texts_for_reports(folders: Sequence[Path]) -> Iterator[str]:
    """Every training report as the model learns to write it, the indications, and the prompt's own words."""
    yield from (
        f"Human: <Img></Img> Indication: {request}\nAssistant:" for request in REQUEST.values() for _ in range(50)
    )
    for folder in folders:
        for record in Studies(folder, "train").records:
            if record.indication:
                yield record.indication
            if target_text(record):
                yield report_text(record.findings, record.impression)


def texts_for_clues(folders: Sequence[Path]) -> Iterator[str]:
    """Every training report, the clue sentences and what is said of labels in stage 1."""
    clues = default_clues()
    for value in (0, 1):
        yield from (s.text for s in sentences_of_labels([value] * len(clues), clues) for _ in range(50))
    for folder in folders:
        yield from (target_text(record) for record in Studies(folder, "train").records)


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with studies.jsonl; split train is read"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text-vocab", type=int, default=2048)
    parser.add_argument("--clue-vocab", type=int, default=1024)
    arguments = parser.parse_args()
    tokenizer = train_text_tokenizer(list(texts_for_reports(arguments.data)), arguments.text_vocab)
    tokenizer.save_pretrained(arguments.out / "tokenizer")
    clue_tokenizer = train_clue_tokenizer(list(texts_for_clues(arguments.data)), arguments.clue_vocab)
    clue_tokenizer.save_pretrained(arguments.out / "clue_tokenizer")
    print(f"{arguments.out}: {len(tokenizer):,} text tokens, {len(clue_tokenizer):,} clue tokens")


if __name__ == "__main__":
    main()
