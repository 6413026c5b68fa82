"""Reports of the small checkpoint on phantoms: batches, a dialogue's second turn, long clue lists; how cost grows.

Each is written once: revised by its clues, as the pipeline does it, it would be written up to four times.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import modeling_trrg  # noqa: F401  registers the model with the Auto classes
from evaluation.bench.model import build_trrg, clue_inputs, loop_rows
from evaluation.bench.turns import Row, by_turns, cpu_ms
from evaluation.clue_lists import nonsense
from processing_trrg import RadiologyReportPipeline
from training.phantoms.generate import generate_phantom

SMALL = Path(__file__).parents[2] / "hub_cards" / "trrg-small"
Curve = tuple[str, str, list[int], list[float]]
"""What grows, with what, its values and reports a second."""


def load() -> RadiologyReportPipeline:
    """The small checkpoint by the project's own classes."""
    from modeling_trrg import TRRGForConditionalGeneration
    from processing_trrg import TRRGProcessor

    model = TRRGForConditionalGeneration.from_pretrained(SMALL).eval()
    return RadiologyReportPipeline(model=model, processor=TRRGProcessor.from_pretrained(SMALL))


def images(count: int) -> list[dict[str, Any]]:
    """Studies of one phantom each."""
    return [{"images": generate_phantom(7, index, size=256).image} for index in range(count)]


def rows(quick: bool) -> Iterator[Row]:
    """Loop, batch, dialogue and clues."""
    seconds, tokens, count = (0, 4, 2) if quick else (4, 48, 16)
    write = load()
    studies = images(count)
    length: dict[str, Any] = {"max_new_tokens": tokens, "min_new_tokens": tokens, "revise": False}
    processor, model = write.processor, write.model
    with torch.no_grad():
        yield from loop_rows(model, processor(**studies[0], return_tensors="pt"), tokens, 7 if seconds else 1)
    together, single = (partial(write, studies, batch_size=size, **length) for size in (count, 1))
    row = Row("reports", f"one at a time, {count} studies", f"batch {count}", ">= 4",
              "a step of a batch reads the weights once for all its reports")  # fmt: skip
    yield row.by_turns(single, together, seconds, count, turns=3)
    yield second_turn(write, studies[0], seconds)
    lists = {size: nonsense(size) for size in (14, 100, 1000)}
    for size in (100, 1000):
        known, few = (partial(look, write, studies[0], lists[n]) for n in (size, 14))
        row = Row("reports", f"reading a study with {size:,} clues, known", "14 clues", "<= 1.2",
                  "a known list's vectors are kept; checking the list and one product a patch grow")  # fmt: skip
        yield row.by_turns(known, few, seconds / 2)
    yield encoding(write, nonsense(30 if quick else 256), seconds)


def look(write: Any, study: dict[str, Any], clues: list[dict[str, str]]) -> Any:
    """The study read with a clue list, from file to scores."""
    return write.model.read_study(**write.processor(**study, clues=clues, return_tensors="pt"))


def second_turn(write: Any, study: dict[str, Any], seconds: float) -> Row:
    """Time to the first token of an answer beside that of the report."""
    first = partial(write, study["images"], max_new_tokens=1, abstain=False, revise=False)
    row = Row("reports", "a question, to its first token", "the report, to its first token", "<= 0.2",
              "image and text are in the cache; only the question's own tokens are computed")  # fmt: skip
    pairs = []
    for _ in range(8 if seconds else 1):  # a question is a second turn once, and the next study frees its cache
        chat = write(study["images"], max_new_tokens=24, revise=False)
        pairs.append((cpu_ms(partial(chat.ask, "Is there an effusion?", max_new_tokens=1)), cpu_ms(first)))
    return row.measured(*map(list, zip(*pairs, strict=True)))


def encoding(write: Any, clues: list[dict[str, str]], seconds: float) -> Row:
    """A new list, milliseconds a clue, beside a list whose sentences are read one by one."""
    tensors = write.processor.clue_tensors(clues)
    model = write.model.model
    singles = list(
        zip(tensors["clue_input_ids"][0][:32, None], tensors["clue_attention_mask"][0][:32, None], strict=True)
    )

    def anew() -> None:
        model.eval().train(False)  # forgets what is encoded
        model.encode_clues(**tensors)

    def one_by_one() -> None:
        for ids, mask in singles:
            model.embed_sentences(ids[:, : int(mask.sum())], mask[:, : int(mask.sum())])

    row = Row("reports", f"encoding {len(clues):,} new clues, a sentence", "sentence by sentence", "<= 10 ms each",
              "in batches of 64 of about one length")  # fmt: skip
    with torch.no_grad():
        times = by_turns({"ours": anew, "theirs": one_by_one}, seconds / 4, turns=3)
    counts = {"ours": 2 * len(clues), "theirs": len(singles)}
    return row.measured(*([time / counts[name] for time in times[name]] for name in counts))


def growth(quick: bool) -> list[Curve]:
    """Reports a second against batch, views, clues and length."""
    write, tokens = load(), 4 if quick else 32
    studies = images(16)
    curves: list[Curve] = []

    def curve(name: str, unit: str, steps: list[int], work: Any, reports: Any) -> None:
        steps = steps[:2] if quick else steps
        least = [min(by_turns({"": partial(work, step)}, 0 if quick else 0.1, turns=2)[""]) for step in steps]
        rates = [1000 * reports(step) / time for step, time in zip(steps, least, strict=True)]
        curves.append((name, unit, steps, rates))

    length: dict[str, Any] = {"max_new_tokens": tokens, "min_new_tokens": tokens, "abstain": False, "revise": False}
    curve("batch", "studies", [1, 2, 4, 8, 16], lambda n: write(studies[:n], batch_size=n, **length), lambda n: n)
    curve("clues", "clues", [1, 10, 100, 1000],
          lambda n: write(studies[:2], clues=nonsense(n), batch_size=2, **length), lambda n: 2)  # fmt: skip
    curve("length", "tokens", [8, 32, 64, 128],
          lambda n: write(studies[:2], batch_size=2, **length | {"max_new_tokens": n, "min_new_tokens": n}),
          lambda n: 2)  # fmt: skip
    model = build_trrg(quick, num_query_tokens=32, max_views=4)  # the small checkpoint reads one view
    pixels, clues = torch.randn(1, 4, 3, 224, 224), clue_inputs()
    with torch.no_grad():
        curve("views, the look alone", "views", [1, 2, 3, 4],
              lambda n: model.get_image_features(pixels[:, :n], **clues), lambda n: 1)  # fmt: skip
    return curves
