"""Rewards for reinforcement learning with TRL (GRPO, RLOO): does a report say what the reference and the clues say, at
its length?

    from evaluation.metrics.reward import report_reward

    trainer = GRPOTrainer(..., reward_funcs=report_reward(labels=0.6, clues=0.3, length=0.1))

The data set has the columns `reference` (the radiologist's report) and, for the clues, `clue_scores` ({name: 0..1}, as
`generate.py` writes them). Each reward is from 0 to 1:

| reward | of a completion |
|---|---|
| `label_reward` | F1 of what it says (one of the 14 labels and its value) against what the reference says |
| `clue_reward` | positive findings that a clue supports and confident clues that it names, out of all of either, as |
| | `truthfulness.py` defines them; 1 where there are none |
| `length_reward` | words of the shorter of completion and reference / words of the longer |

The length is there because label rewards alone shorten reports: what is left out costs nothing once the labels agree.
All of it comes from the rule labeler: no model, about 1,800 completions a second. TRL is not needed to import this.
Never for clinical use.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.metrics.classification import precision_recall_f1
from evaluation.metrics.truthfulness import study_truth
from evaluation.reading.labeler import label_report
from processing_trrg.report_trrg import report_text

Completion = str | list[dict[str, Any]]
"""A text, or the messages of a conversation: the text of the last one counts."""
Reward = Callable[..., list[float]]


def completion_text(completion: Completion) -> str:
    """The text that TRL hands to a reward, of either form. Of an answer that was cut before its end, the tokenizer's
    response template gives the sections and no content.

    Raises:
        TypeError: it is neither a text nor a list of messages.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list) or not completion or "content" not in completion[-1]:
        raise TypeError(f"a completion is {completion!r:.80}; expected text or a list of messages")
    content, sections = completion[-1]["content"], [completion[-1].get(name) for name in ("findings", "impression")]
    if not content and any(sections):
        return report_text(*sections)
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _column(values: Sequence[Any] | None, name: str, kind: type, n: int) -> Sequence[Any]:
    if values is None:
        raise ValueError(f"the data set has no column {name!r}, which this reward needs")
    for row, value in enumerate(values):
        if not isinstance(value, kind):
            raise ValueError(f"{name}[{row}] is {value!r:.80}; expected {kind.__name__}")
    if len(values) != n:
        raise ValueError(f"{len(values)} values of {name} for {n} completions; expected one for one")
    return values


def label_reward(completions: Sequence[Completion], reference: Sequence[str] | None = None, **_: Any) -> list[float]:
    """Label agreement, 0 to 1 for each completion; a report without any label has 0 unless the reference has none.

    Raises:
        ValueError: the column `reference` is missing, or a value of it.
    """
    references = _column(reference, "reference", str, len(completions))
    rewards = []
    for completion, text in zip(completions, references, strict=True):
        said, expected = (
            {(name, value) for name, value in label_report(report).items() if value is not None}
            for report in (completion_text(completion), text)
        )
        both = len(said & expected)
        f1 = precision_recall_f1(both, len(said) - both, len(expected) - both)["f1"]
        rewards.append(float(f1) if said or expected else 1.0)
    return rewards


def clue_reward(
    completions: Sequence[Completion], clue_scores: Sequence[Mapping[str, float | None]] | None = None, **_: Any
) -> list[float]:
    """Clue agreement, 0 to 1 for each completion. A score of None is no clue: `datasets` gives every row every name.

    Raises:
        ValueError: the column `clue_scores` is missing, or a value of it.
    """
    rewards = []
    columns = _column(clue_scores, "clue_scores", dict, len(completions))
    for completion, scores in zip(completions, columns, strict=True):
        known = {name: score for name, score in scores.items() if score is not None}
        truth = study_truth(completion_text(completion), known, None)
        promises = len(truth.positive) + len(truth.confident)
        broken = len(truth.unsupported) + len(truth.left_out)
        rewards.append(1 - broken / promises if promises else 1.0)
    return rewards


def length_reward(completions: Sequence[Completion], reference: Sequence[str] | None = None, **_: Any) -> list[float]:
    """Length agreement, 0 to 1 for each completion; 1 where both are empty.

    Raises:
        ValueError: the column `reference` is missing, or a value of it.
    """
    references = _column(reference, "reference", str, len(completions))
    counts = [
        (len(completion_text(completion).split()), len(text.split()))
        for completion, text in zip(completions, references, strict=True)
    ]
    return [min(pair) / max(pair) if any(pair) else 1.0 for pair in counts]


def report_reward(labels: float, clues: float, length: float) -> Reward:
    """The weighted sum of the three rewards as one function of TRL's form; a reward of weight 0 is not computed and
    needs no column. (To see each in the logs give `GRPOTrainer` the three functions and `reward_weights`.)

    Raises:
        ValueError: a weight is negative, or all are 0.
    """
    weights: dict[Reward, float] = {label_reward: labels, clue_reward: clues, length_reward: length}
    if min(weights.values()) < 0 or not any(weights.values()):
        raise ValueError(f"weights {labels}, {clues}, {length}: expected numbers from 0, not all of them 0")

    def report_reward(completions: Sequence[Completion], **columns: Any) -> list[float]:
        parts = [
            [weight * value for value in reward(completions, **columns)] for reward, weight in weights.items() if weight
        ]
        return [sum(values) for values in zip(*parts, strict=True)]

    return report_reward
