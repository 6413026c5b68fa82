"""Disease clues: their vectors, their scores on a study, their injection, and the consistency of image and report.

Shapes: B studies, n views of all studies, P patches, C clues, L clue tokens, k injected clues, D shared width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_trrg import TRRGConfig

SENTENCES_AT_ONCE = 64  # of a long clue list, in order of their length


class ProjectionHead(nn.Module):
    """Into the shared image-text space: linear, GELU, linear, residual, LayerNorm (as in the public author code)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.residual = nn.Linear(out_features, out_features)
        self.norm = nn.LayerNorm(out_features)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`[..., in_features]` to unit vectors `[..., D]`."""
        projected = self.linear(hidden_states)
        projected = self.norm(projected + self.residual(F.gelu(projected)))
        return F.normalize(projected, dim=-1)


@dataclass
class ClueBank:
    """Encoded clue sentences.

    Attributes:
        tokens: `[C, L, Dc]`, hidden states of "there is X".
        token_mask: `[C, L]` bool.
        vectors: `[C, D]`, unit sentence vectors of "there is X".
        negative_vectors: `[C, D]`, those of "there is no X", or None.
        valid: `[C]` bool, False where a clue is padding.
        parents: `[C]`, the index of the clue that each one implies ("Left Pleural Effusion": that of "Pleural
            Effusion"), -1 for none; None where no clue has a parent.
        calibration: `[C, 3]`, scale, offset and threshold of each clue (`config.clue_calibration`); None without.
        operating_points: `[C, R]`, the thresholds of `TRRGConfig.OPERATING_POINTS`, NaN for a clue that has none; None
            without.
    """

    tokens: torch.Tensor
    token_mask: torch.Tensor
    vectors: torch.Tensor
    negative_vectors: torch.Tensor | None
    valid: torch.Tensor
    parents: torch.Tensor | None = None
    calibration: torch.Tensor | None = None
    operating_points: torch.Tensor | None = None

    def to(self, device: torch.device) -> "ClueBank":
        """The bank on `device`: itself where it is there already."""
        if self.tokens.device == device:
            return self
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return ClueBank(**{name: None if value is None else value.to(device) for name, value in tensors.items()})

    def directions(self) -> torch.Tensor:
        """`[C, D]`, what a vector is compared with: "there is X", minus "there is no X" in pairwise scoring."""
        return self.vectors if self.negative_vectors is None else self.vectors - self.negative_vectors


def embed_by_length(
    embed: Callable[..., tuple[torch.Tensor, torch.Tensor]], input_ids: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`embed` (see `TRRGEncoder.embed_sentences`) of a clue list `[C, L]`. A long one is read in batches of about equal
    length, so that its longest sentence is not paid for by all; states that are padding in them are 0."""
    if len(input_ids) <= SENTENCES_AT_ONCE:
        return embed(input_ids, mask)
    ends = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)
    order, states, vectors = ends.argsort(stable=True), [], []
    for rows in order.split(SENTENCES_AT_ONCE):
        end = int(ends[rows[-1]])
        hidden, found = embed(input_ids[rows, :end], mask[rows, :end])
        states.append(F.pad(hidden, (0, 0, 0, mask.shape[1] - end)))
        vectors.append(found)
    places = order.argsort()
    return torch.cat(states)[places], torch.cat(vectors)[places]


Fitted = tuple[torch.Tensor | None, torch.Tensor | None]
"""Calibration `[C, 3]` and operating points `[C, R]`, see `ClueBank`."""


def fitted(config: TRRGConfig, device: torch.device, places: list[int] | None = None) -> Fitted:
    """Of the clues at `places` of the config, -1 for a foreign one, or of all of the config's own.

    A foreign one has scale 1, offset 0, `clue_threshold` and no operating points.
    """
    if config.clue_calibration is None:
        return None, None
    rows = [*config.clue_calibration, [1.0, 0.0, float(config.clue_threshold)]]
    points = [row or [math.nan] * len(config.OPERATING_POINTS) for row in [*(config.clue_operating_points or []), []]]
    places = list(range(len(rows) - 1)) if places is None else places
    lines, dials = ([some[place] for place in places] if len(some) > 1 else None for some in (rows, points))
    return torch.tensor(lines, device=device), None if dials is None else torch.tensor(dials, device=device)


def own_fitted(config: TRRGConfig, input_ids: torch.Tensor, mask: torch.Tensor) -> Fitted:
    """`fitted` of the sentences `[C, L]`: the checkpoint's own clue with the same one, or a foreign one."""
    if config.clue_calibration is None or config.clue_source == "classifier":
        return None, None
    own = {tuple(ids): place for place, ids in enumerate(config.clue_token_ids[0])}
    places = [own.get(tuple(ids[keep].tolist()), -1) for ids, keep in zip(input_ids, mask, strict=True)]
    return fitted(config, input_ids.device, places)


def thresholds_at(
    config: TRRGConfig, found: Fitted, clue_scores: torch.Tensor, operating_point: str | float | None = None
) -> torch.Tensor:
    """What a clue has to score more than, `[B, C]` as `clue_scores`.

    Args:
        config, found: of the model and of the clues.
        operating_point: "balanced" (the default), "careful", "sensitive", or the false-negative rate that is wanted:
            the next lower one of `TRRGConfig.MISS_RATES` is taken. A clue that has none keeps its threshold.

    Raises:
        ValueError: another value, or no clue has operating points.
    """
    calibration, points = found
    device, like = clue_scores.device, torch.ones_like(clue_scores, dtype=torch.float32)
    kept = like * (config.clue_threshold if calibration is None else calibration[:, 2].to(device))
    if operating_point in (None, "balanced"):
        return kept
    column = _column(operating_point)
    if points is None or bool(points.isnan().all()):
        raise ValueError(
            f"operating_point is {operating_point!r}, but these clues have none (config.clue_operating_points); "
            "expected 'balanced', or a checkpoint that `python -m training.calibrate --write` was run on."
        )
    moved = points[:, column].to(device)
    return torch.where(moved.isnan(), kept, moved)


def _column(operating_point: str | float) -> int:
    names, rates = TRRGConfig.OPERATING_POINTS[:2], TRRGConfig.MISS_RATES
    if isinstance(operating_point, str) and operating_point in names:
        return names.index(operating_point)
    number = isinstance(operating_point, (int, float)) and not isinstance(operating_point, bool)
    wanted = float(operating_point) if number else -1.0
    if not rates[0] <= wanted <= rates[-1]:
        raise ValueError(
            f"operating_point is {operating_point!r}; expected 'careful', 'balanced', 'sensitive' or a false-negative "
            f"rate from {rates[0]} to {rates[-1]}."
        )
    return len(names) - 1 + sum(rate <= wanted + 1e-9 for rate in rates)


def answers(found: Fitted, clue_scores: torch.Tensor) -> torch.Tensor | None:
    """The three answers `[B, C]`: 1 present (over the threshold of "careful"), 0 absent (not over that of "sensitive"),
    -1 indeterminate, -100 for a clue that has no operating points; None where none has."""
    if found[1] is None:
        return None
    careful, sensitive, *_ = found[1].T.to(clue_scores.device)
    told = torch.where(clue_scores > careful, 1, torch.where(clue_scores > sensitive, -1, 0))
    return torch.where(careful.isnan(), -100, told)


def tell(
    config: TRRGConfig, found: Fitted, clue_scores: torch.Tensor, thresholds: torch.Tensor
) -> dict[str, torch.Tensor | None]:
    """What follows from the scores `[B, C]`, as fields of `TRRGStudyFeatures`."""
    selected = select_clues(clue_scores, config.num_selected_clues, thresholds)
    return {"selected_clues": selected, "clue_thresholds": thresholds, "clue_answers": answers(found, clue_scores)}


def own_clues(config: TRRGConfig, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The checkpoint's own clues: ids and mask `[S, C, L]`, parents `[C]`."""
    token_ids, pad = config.clue_token_ids, config.pad_clue_token_id
    length = max(len(row) for statement in token_ids for row in statement)
    ids = [[row + [pad] * (length - len(row)) for row in statement] for statement in token_ids]
    mask = [[[1] * len(row) + [0] * (length - len(row)) for row in statement] for statement in token_ids]
    tensors = [None if x is None else torch.tensor(x, device=device) for x in (ids, mask, config.clue_parents)]
    return tensors[0], tensors[1], tensors[2]


def mean_by_study(values: torch.Tensor, study_index: torch.Tensor, num_studies: int) -> torch.Tensor:
    """Mean over the views of each study: `[n, ...]` and `[n]` to `[B, ...]`; zero for a study without a view."""
    total = values.new_zeros((num_studies, *values.shape[1:])).index_add(0, study_index, values)
    count = values.new_zeros(num_studies).index_add(0, study_index, values.new_ones(len(study_index)))
    return total / count.clamp(min=1).view(-1, *[1] * (values.dim() - 1))


def log_mean_exp(logits: torch.Tensor) -> torch.Tensor:
    """A smooth maximum over patches: `[n, P, K]` to `[n, K]`, summed in 32 bits."""
    return logits.float().logsumexp(1) - math.log(logits.shape[1])


def scores_from_logits(logits: torch.Tensor, scoring: str, bank: ClueBank) -> torch.Tensor:
    """Clue logits `[B, C]` to scores in [0, 1], zero for padding clues: softmax over the clues, or sigmoid of each.

    With the sigmoid a parent scores at least as much as its highest child; a softmax shares one whole among the clues.
    """
    if scoring == "softmax":
        return logits.masked_fill(~bank.valid, torch.finfo(logits.dtype).min).softmax(-1) * bank.valid
    scores = logits.sigmoid() * bank.valid
    return scores if bank.parents is None else raise_parents(scores, bank.parents.to(scores.device))


def raise_parents(scores: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
    """Scores `[B, C]` where each parent has at least the score of its highest child; `parents` as in `ClueBank`."""
    child = parents >= 0
    index = parents[child].expand(len(scores), -1)
    for _ in parents:  # grandparents too, whatever the order of the clues
        raised = scores.scatter_reduce(1, index, scores[:, child], "amax")
        if torch.equal(raised, scores):
            break
        scores = raised
    return scores


def select_clues(clue_scores: torch.Tensor, num_selected: int, threshold: torch.Tensor) -> torch.Tensor:
    """The clues that the language model hears of: `[B, C]` to `[B, C]` bool.

    Args:
        clue_scores: `[B, C]`, 0 for padding clues.
        num_selected: k, the highest. Clues that tie with the k-th are taken too, so that their order never decides.
        threshold: clues that score this much or less are left out, `[B, C]`.
    """
    last = clue_scores.topk(min(num_selected, clue_scores.shape[1]), dim=1).values[:, -1:]
    return (clue_scores >= last) & (clue_scores > threshold)


def inject_clues(
    bank: ClueBank, clue_scores: torch.Tensor, selected: torch.Tensor, threshold: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of the selected clues of each study, weighted by their scores, as published. With a calibration a clue
    weighs from a half, at its own threshold, to one: just over the threshold of a rare finding it would be too faint.

    Args:
        bank: C encoded clues.
        clue_scores: `[B, C]`.
        selected, threshold: `[B, C]`, see `select_clues`.

    Returns:
        Weighted tokens `[B, K, Dc]` and their mask `[B, K]`, K the most of a study; none of them is a clue's padding.
    """
    count = max(int(selected.sum(1).max()), 1)
    if bank.calibration is not None:
        threshold = threshold.to(clue_scores.dtype)
        clue_scores = 0.5 + 0.5 * (clue_scores - threshold) / (1 - threshold)
    scores, index = (clue_scores * selected).topk(count, dim=1)
    mask = (bank.token_mask[index] & selected.gather(1, index)[:, :, None]).flatten(1)
    order = mask.int().argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
    clue, place = order // bank.tokens.shape[1], order % bank.tokens.shape[1]
    tokens = bank.tokens[index.gather(1, clue), place]
    return tokens * scores.gather(1, clue)[..., None].to(tokens.dtype), mask.gather(1, order)


def consistency_loss(
    image_logits: torch.Tensor,
    report_logits: torch.Tensor,
    clue_targets: torch.Tensor | None,
    valid: torch.Tensor,
    scoring: str,
    kl_weight: float,
    bce_weight: float,
) -> torch.Tensor:
    """The disease-aware consistency loss, one value a study. A reconstruction: the paper's equation is not public.

    The clue posterior seen in the image and the one read from the report's hidden states are pulled together by a KL
    divergence, and each towards the study's labels by a binary cross entropy where labels exist.

    Args:
        image_logits, report_logits: `[B, C]`.
        clue_targets: `[B, C]`, 1 present, 0 absent; anything else (uncertain, unknown) is left out.
        valid: `[C]` bool, False for padding clues.
        scoring: `"softmax"` (one categorical posterior) or `"pairwise"` (one Bernoulli posterior a clue).
        kl_weight, bce_weight: weights of the two terms.

    Returns:
        `[B]`.
    """
    image_logits, report_logits = image_logits.float(), report_logits.float()
    if scoring == "softmax":
        low = torch.finfo(image_logits.dtype).min
        image_log = image_logits.masked_fill(~valid, low).log_softmax(-1)
        report_log = report_logits.masked_fill(~valid, low).log_softmax(-1)
        divergence = (image_log.exp() * (image_log - report_log)).masked_fill(~valid, 0).sum(-1)
    else:
        posterior = image_logits.sigmoid()
        present = posterior * (F.logsigmoid(image_logits) - F.logsigmoid(report_logits))
        absent = (1 - posterior) * (F.logsigmoid(-image_logits) - F.logsigmoid(-report_logits))
        divergence = ((present + absent) * valid).sum(-1) / valid.sum().clamp(min=1)
    loss = kl_weight * divergence
    if clue_targets is not None:
        labelled = ((clue_targets == 0) | (clue_targets == 1)) & valid
        target = clue_targets.clamp(min=0).float()
        for logits in (image_logits, report_logits):
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * labelled
            loss = loss + bce_weight * entropy.sum(-1) / labelled.sum(-1).clamp(min=1)
    return loss
