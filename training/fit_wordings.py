"""Teach a clue encoder other people's words for the clues that it knows, from text alone.

    python -m training.fit_wordings CHECKPOINT --reports runs/small-data/iu [--write]

Stage 1 shows the encoder each clue in few wordings, and by these it knows it. Here a sentence that states clues learns
the vector that their own sentences have: sentences of the training reports, as the labeler reads them, and the wordings
of `data/clue_wordings.py`. The clues' own sentences are held where they are, with their token states, and so are
sentences that state nothing and nonsense, so that scores and reports by the clues' own words hardly change (do it
before `training.calibrate`). Tower, projections and language model stay as they are. Prints, of validation sentences
that are new word for word, how many are nearest to a statement that they make, before and after, and how far the clues'
own have moved. --write puts the weights into CHECKPOINT. Our addition; the paper has no such step. Never for clinical
use.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from processing_trrg import TRRGProcessor
from training.config.command_line import loading
from training.config.run_config import ModelSection
from training.data.clue_wordings import nonsense_sentences, wordings, wordings_by_terms
from training.data.statements import Stated, Statement, training_and_new
from training.run.initial_model import STAGES, build_config

STATING, OTHERS = 48, 16
"""Sentences of a step: that state clues, and that state none."""
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 5e-4, 0.05, 50
BALANCE = 0.7
"""A sentence is drawn in proportion to (count of its rarest statement)^-0.7."""
NEAREST, TEMPERATURE = 0.2, 0.05
"""Weight and temperature of telling a sentence's statements from all others."""
LEFT_OUT = 0.2
"""Share of the tokens that a sentence of a step loses, so that none is known by heart; one that denies keeps all."""
KEPT, OWN, OWN_STATES = 0.5, 10.0, 20.0
"""Weights of what has to stay: vectors of other sentences; vectors and token states of the clues' own."""


class WordingFit:
    """The clue encoder of a model, and what its sentences are to mean.

    Attributes:
        bank: statement -> the unit vector `[D]` of its own sentence, as the encoder had it at first.
    """

    def __init__(self, model: Any, processor: TRRGProcessor):
        self.model, self.tokenizer, self.device = model.model, processor.clue_tokenizer, model.device
        self.length = model.config.clue_config.max_position_embeddings
        keys = (("positive", 1), ("negative", 0))
        own = {(clue["name"], value): clue[key] for clue in processor.clues for key, value in keys if key in clue}
        self.own = list(own.values())
        with torch.no_grad():
            self.own_states, self.own_vectors = self.encode(self.own)
        self.bank = dict(zip(own, self.own_vectors, strict=True))

    def encode(self, texts: Sequence[str], drop: Sequence[float] = (0.0,)) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states `[S, L, Dc]` and unit vectors `[S, D]`, each sentence without a share `drop` of its tokens."""
        told = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        mask = told["attention_mask"]
        mask = mask * (torch.rand(mask.shape) >= torch.tensor(drop)[:, None])
        mask[:, 0] = 1  # its state is the sentence's
        found: tuple[torch.Tensor, torch.Tensor] = self.model.embed_sentences(
            told["input_ids"].to(self.device), mask.to(self.device)
        )
        return found

    @torch.no_grad()
    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """`[S, D]`."""
        return torch.cat([self.encode(texts[i : i + 64])[1] for i in range(0, len(texts), 64)])

    def right(self, sentences: Stated) -> list[float]:
        """Share of the sentences whose nearest statement of the bank is one that they make: of those that claim
        something, and of those that only deny."""
        every, shares = [*self.bank], []
        nearest = (self.vectors([*sentences]) @ torch.stack([*self.bank.values()]).T).argmax(1).tolist()
        for claims in (True, False):
            told = [
                (every[i], made) for i, made in zip(nearest, sentences.values(), strict=True) if _claims(made) == claims
            ]
            shares.append(float(np.mean([one in made for one, made in told])) if told else float("nan"))
        return shares

    @torch.no_grad()
    def moved(self) -> float:
        """Lowest cosine of one of the clues' own sentences with what it was at first."""
        return float((self.encode(self.own)[1] * self.own_vectors).sum(1).min())

    def fit(
        self,
        stating: Stated,
        others: Sequence[str],
        steps: int,
        seed: int,
    ) -> None:
        """Train the clue encoder.

        Args:
            stating: sentences with what they state, each at least one statement of the bank.
            others: sentences that state none.
        """
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        texts, encoder = [*stating], self.model.clue_encoder.requires_grad_(True)
        bank = torch.stack([*self.bank.values()])
        shares = torch.tensor([[float(s in told) / len(told) for s in self.bank] for told in stating.values()]).to(bank)
        targets = torch.stack([F.normalize(sum(self.bank[s] for s in stating[text]), dim=0) for text in texts])
        count = Counter(statement for told in stating.values() for statement in told)
        weights = np.array([min(count[s] for s in stating[text]) ** -BALANCE for text in texts])
        weights /= weights.sum()
        kept = self.vectors(others)
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / WARMUP) * max(0.01, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        )
        encoder.train()
        for _ in tqdm(range(steps), desc="wordings", unit="step"):
            drawn = rng.choice(len(texts), STATING, p=weights).tolist()
            beside = rng.choice(len(others), OTHERS).tolist()
            drop = [LEFT_OUT * all(value for _, value in stating[texts[i]]) for i in drawn] + [LEFT_OUT] * OTHERS
            _, vectors = self.encode([*(texts[i] for i in drawn), *(others[i] for i in beside)], drop)
            states, own = self.encode(self.own)
            loss = (
                _apart(vectors[:STATING], targets[drawn])
                + NEAREST * F.cross_entropy(vectors[:STATING] @ bank.T / TEMPERATURE, shares[drawn])
                + KEPT * _apart(vectors[STATING:], kept[beside])
                + OWN * _apart(own, self.own_vectors)
                + OWN_STATES * F.mse_loss(states, self.own_states)
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            decay.step()
        encoder.eval()


def _claims(told: frozenset[Statement]) -> bool:
    return any(value for _, value in told)


def _apart(vectors: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (1 - (vectors * targets).sum(-1)).mean()


def fit_checkpoint(checkpoint: Path, reports: str, steps: int, seed: int) -> tuple[Any, list[str]]:
    """The model with its fitted clue encoder, and a table.

    Raises:
        ValueError: it cannot be loaded or reads no clue sentences, or a split of the reports states nothing.
    """
    with loading("checkpoint", str(checkpoint)):
        config = build_config(ModelSection(checkpoint=str(checkpoint)))
        model = STAGES[config.architectures[0]].from_pretrained(checkpoint).eval()
        processor = TRRGProcessor.from_pretrained(checkpoint)
    if config.clue_source != "zero_shot":
        raise ValueError(
            f"{checkpoint}: clue_source is {config.clue_source!r}; expected a model that reads clue sentences"
        )
    model.requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
    fitted = (model.model.clue_encoder, model.model.clue_projection)
    dtype = model.dtype
    for part in fitted:
        part.float()
    fit = WordingFit(model, processor)
    read_reports = training_and_new(reports, processor.clues)
    stating, new = (
        {text: told for text, told in read.items() if told and told <= fit.bank.keys()} for read in read_reports
    )
    if not stating or not new:
        raise ValueError(f"{reports}: {len(stating)} sentences that state a clue to learn, {len(new)} to measure on")
    for statement in fit.bank:
        made = (*wordings(*statement), *wordings_by_terms(*statement))
        stating |= {text: frozenset((statement,)) for text in made if text not in stating}
    others = [text for text, told in read_reports[0].items() if not told]
    before = fit.right(new)
    fit.fit(stating, [*others, *nonsense_sentences()], steps, seed)
    for part in fitted:
        part.to(dtype)
    after = fit.right(new)
    claims = sum(map(_claims, new.values()))
    return model, [
        "| new sentences of validation reports | n | nearest to what they state: before | after |",
        "|---|---|---|---|",
        f"| that claim a clue | {claims} | {before[0]:.3f} | {after[0]:.3f} |",
        f"| that only deny | {len(new) - claims} | {before[1]:.3f} | {after[1]:.3f} |",
        f"the clues' own sentences: cosine with what they were {fit.moved():.4f} or more",
    ]


def write_weights(model: Any, checkpoint: Path) -> None:
    """Put the model's weights into its folder, each file at once: what reads one meanwhile has the one before.

    Raises:
        ValueError: the folder's weights lie in other files than they would be saved in, so both would be there.
    """
    with tempfile.TemporaryDirectory(dir=checkpoint) as folder:
        model.save_pretrained(folder)
        new, old = ({file.name for file in Path(where).glob("*.safetensors*")} for where in (folder, checkpoint))
        if new != old:
            raise ValueError(f"{checkpoint}: its weights are {sorted(old)}, and would be saved as {sorted(new)}")
        for name in sorted(new):
            Path(folder, name).replace(checkpoint / name)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint, of stage 1 or complete")
    parser.add_argument("--reports", required=True, help="folder of studies with reports, splits train and validation")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the weights into the checkpoint")
    options = parser.parse_args(arguments)
    try:
        model, table = fit_checkpoint(options.checkpoint, options.reports, options.steps, options.seed)
        print("\n".join(table))
        if options.write:
            write_weights(model, options.checkpoint)
            print(f"written into {options.checkpoint}")
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
