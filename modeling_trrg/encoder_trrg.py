"""The vision tower, the clue encoder, and the clue scores between them. Both training stages share it."""

from typing import Any

import torch
from torch import nn

from .clue_trrg import (
    ClueBank,
    Fitted,
    ProjectionHead,
    embed_by_length,
    fitted,
    log_mean_exp,
    mean_by_study,
    own_clues,
    own_fitted,
    scores_from_logits,
    tell,
    thresholds_at,
)
from .configuration_trrg import TRRGConfig
from .connector_trrg import QueryTransformer
from .outputs_trrg import SeenImages, TRRGStudyFeatures
from .pretrained_trrg import TRRGPreTrainedModel, build_tower

# What the processor returns beside images and clues; `read_study(**inputs)` has no use for it.
TEXT_INPUTS = {"input_ids", "attention_mask", "labels", "clue_targets"}
MAX_KEPT_BANKS = 8

try:
    from accelerate.utils import align_module_device
except ImportError:  # then nothing is offloaded either
    align_module_device = None


def check_seen(image_mask: torch.Tensor) -> None:
    """Raises: ValueError: a study of `[B, V]` has no view."""
    if not bool(image_mask.any(dim=1).all()):
        blind = (~image_mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"image_mask leaves no view to the studies {blind} of the batch; expected at least one.")


class TRRGEncoder(TRRGPreTrainedModel):
    """Vision tower, clue encoder and clue scores, without a language model.

    Shapes: B studies, V views, n views of all studies, P patches, C clues, L clue tokens, D shared width.
    """

    main_input_name = "pixel_values"

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__(config)
        config.check()
        self.vision_tower = build_tower(config.vision_config)
        self.clue_encoder = self.image_projection = self.clue_projection = None
        self.classifier = self.query_transformer = None
        if config.uses_clue_encoder:
            self.clue_encoder = build_tower(config.clue_config)
            self.clue_projection = ProjectionHead(config.clue_config.hidden_size, config.projection_dim)
            self.image_projection = ProjectionHead(config.vision_hidden_size, config.projection_dim)
        compares = config.uses_clue_encoder or config.connector == "query_transformer"
        self.logit_scale = nn.Parameter(torch.tensor([2.6592])) if compares else None  # FSDP2 shards no scalars
        if config.clue_source == "classifier":
            self.classifier = nn.Linear(config.vision_hidden_size, config.num_classifier_labels)
        if config.connector == "query_transformer":
            self.query_transformer = QueryTransformer(config)
        self._banks: dict[Any, ClueBank] = {}
        encoder = [self.clue_encoder, self.clue_projection] if config.uses_clue_encoder else []
        self._num_clue_parameters = sum(1 for module in encoder for _ in module.parameters())
        if type(self) is TRRGEncoder:
            self.post_init()

    def get_input_embeddings(self) -> nn.Module | None:
        """None: the encoder reads no text tokens of the language model."""
        return None

    def train(self, mode: bool = True) -> "TRRGEncoder":
        """As in PyTorch, but a frozen vision tower stays in eval mode, since batch norm would lose its statistics. The
        encoded clue lists are forgotten: their weights may change now."""
        self._banks.clear()
        super().train(mode)
        self.vision_tower.train(mode and any(weight.requires_grad for weight in self.vision_tower.parameters()))
        return self

    # --- images ---

    def encode_images(
        self, pixel_values: torch.Tensor, image_mask: torch.Tensor | None = None, **tower_options: bool | None
    ) -> SeenImages:
        """
        Args:
            pixel_values: `[B, V, 3, H, W]`, or `[B, 3, H, W]` for one view each.
            image_mask: `[B, V]` bool, False for views that only pad; they are never computed. A row without any view
                is a text alone.

        Raises:
            ValueError: wrong shape, a study with more than `config.max_views`, or a tower that returns another number
                of patches than the config promises.
        """
        if pixel_values.dim() == 4:
            pixel_values = pixel_values[:, None]
        size = self.config.image_size
        if pixel_values.dim() != 5 or pixel_values.shape[2:] != (3, size, size):
            raise ValueError(
                f"pixel_values has the shape {list(pixel_values.shape)}; expected [B, V, 3, {size}, {size}]."
            )
        if image_mask is None:
            image_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        if image_mask.shape != pixel_values.shape[:2]:
            raise ValueError(
                f"image_mask has the shape {list(image_mask.shape)}; pixel_values has [B, V] = "
                f"{list(pixel_values.shape[:2])}."
            )
        image_mask = image_mask.bool()
        if (
            image_mask.shape[1] > self.config.max_views
            and (most := int(image_mask.sum(1).max())) > self.config.max_views
        ):
            raise ValueError(f"a study has {most} views; the model was trained with at most {self.config.max_views}.")
        # channels last: convolutions run up to twice as fast, on CPUs as on GPUs; transformers do not mind
        pixels = pixel_values[image_mask]
        if not len(pixels):
            check_seen(image_mask)
        pixels = pixels.to(self.vision_tower.dtype, memory_format=torch.channels_last)
        asked = {name: value for name, value in tower_options.items() if value is not None}
        outputs = self.vision_tower(pixels, return_dict=True, **asked)
        hidden = outputs.last_hidden_state
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        prefix, expected = self.config.num_prefix_tokens, self.config.num_patches
        if hidden.shape[1:] != (prefix + expected, self.config.vision_hidden_size):
            raise ValueError(
                f"the vision tower returned {hidden.shape[1]} tokens of width {hidden.shape[2]}; the config promises "
                f"{prefix} prefix tokens + {expected} patches of width {self.config.vision_hidden_size}."
            )
        patches = hidden[:, prefix:]
        pooled = hidden[:, 0] if self.config.vision_pooling == "cls" else patches.mean(1)
        return SeenImages(patches, pooled, image_mask.nonzero()[:, 0], image_mask, outputs)

    def embed_images(self, seen: SeenImages) -> torch.Tensor:
        """Unit image vectors `[B, D]`: the mean over a study's views, normalised."""
        vectors = mean_by_study(self.image_projection(seen.pooled), seen.study_index, len(seen.image_mask))
        return nn.functional.normalize(vectors, dim=-1)

    def sentence_logits(self, seen: SeenImages, sentences: torch.Tensor) -> torch.Tensor:
        """How well each study fits sentences with the unit vectors `[S, D]`: `[B, S]`."""
        if self.config.vision_pooling == "lse":
            logits = log_mean_exp(self.scale * self.image_projection(seen.patches) @ sentences.T)
            return mean_by_study(logits, seen.study_index, len(seen.image_mask))
        return self.scale * self.embed_images(seen) @ sentences.T

    # --- clues ---

    def embed_sentences(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sentences `[S, L]` to token states `[S, L, Dc]` and unit vectors `[S, D]` of their first token."""
        hidden = self.clue_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden, self.clue_projection(hidden[:, 0])

    def encode_clues(
        self,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        device: torch.device | None = None,
    ) -> ClueBank:
        """The clue bank. In eval mode and without gradient the last few lists stay encoded until the weights change;
        weights written through `.data` go unseen, and `train()` forgets them.

        Args:
            clue_input_ids, clue_attention_mask: `[S, C, L]`, S = 1: "there is X", 2: that and "there is no X", which
                pairwise scoring compares it with. A row of the mask without any True is padding. Without them the
                checkpoint's own clues (`config.clue_token_ids`) are taken.
            clue_parents: `[C]`, see `ClueBank`.
            device: where the checkpoint's own clues are made; by default that of the weights.

        Raises:
            ValueError: no clues anywhere, another shape, no negative ones where they are needed.
        """
        if clue_input_ids is None:
            if self.config.clue_token_ids is None:
                raise ValueError(
                    "no clues: pass clue_input_ids (the processor makes them) or set clue_token_ids in the config."
                )
            clue_input_ids, clue_attention_mask, clue_parents = own_clues(self.config, device or self.device)
        mask = torch.ones_like(clue_input_ids) if clue_attention_mask is None else clue_attention_mask
        if clue_input_ids.dim() != 3 or mask.shape != clue_input_ids.shape:
            raise ValueError(
                f"clue_input_ids has the shape {list(clue_input_ids.shape)}, its mask {list(mask.shape)}; expected "
                "[S, C, L] of both."
            )
        needed = 2 if self.config.clue_scoring == "pairwise" else 1
        if len(clue_input_ids) < needed:
            raise ValueError(
                f"clue_input_ids holds {len(clue_input_ids)} statement a clue; clue_scoring='pairwise' compares 'there "
                "is X' with 'there is no X': give each clue its negative sentence too."
            )
        clue_input_ids, mask = clue_input_ids[:needed], mask[:needed].bool()
        present = mask.any(2)
        if not torch.equal(present[0], present[-1]):
            raise ValueError(
                f"{int(present[0].sum())} clues have a positive sentence and {int(present[-1].sum())} a negative one; "
                "expected padding in the same rows."
            )
        count = mask.shape[1]
        if clue_parents is not None and (clue_parents.shape != (count,) or not bool((clue_parents < count).all())):
            raise ValueError(
                f"clue_parents is {clue_parents.tolist()}; expected, for each of {count} clues, the index of one or -1."
            )
        if not bool(present[0].any()):
            raise ValueError("clue_attention_mask leaves no clue; expected at least one row that is not padding.")
        key = self._bank_key(clue_input_ids, mask, clue_parents)
        if key not in self._banks:
            bank = self._encode_clues(clue_input_ids, mask, clue_parents)
            if key is None:
                return bank
            while len(self._banks) >= MAX_KEPT_BANKS:
                del self._banks[next(iter(self._banks))]
            self._banks[key] = bank
        return self._banks[key]

    def _bank_key(self, clue_input_ids: torch.Tensor, mask: torch.Tensor, parents: torch.Tensor | None) -> Any:
        """What an encoded list depends on, or None where it must not be kept."""
        parameters = [*self.clue_encoder.parameters(), *self.clue_projection.parameters()]
        if (
            self.training
            or torch.is_grad_enabled()
            or torch.is_inference_mode_enabled()  # what is made there can never take part in a gradient
            or any(parameter.is_meta for parameter in parameters)  # offloaded: a change of the weights would go unseen
            or torch.is_autocast_enabled(parameters[0].device.type)
            or any(parameter.is_inference() for parameter in parameters)
            # adapters bring parameters of their own, and can be switched off without a change of any
            or len(parameters) != self._num_clue_parameters
        ):
            return None
        weights = tuple((parameter.data_ptr(), parameter.dtype, parameter._version) for parameter in parameters)
        given = (None if rows is None else rows.cpu().numpy().tobytes() for rows in (clue_input_ids, mask, parents))
        return (clue_input_ids.shape, *given, weights)

    def _encode_clues(self, clue_input_ids: torch.Tensor, mask: torch.Tensor, parents: torch.Tensor | None) -> ClueBank:
        readable = mask.clone()
        readable[..., 0] = True  # a padding row must not turn into NaN; it is masked below
        encoded = [embed_by_length(self.embed_sentences, *s) for s in zip(clue_input_ids, readable.long(), strict=True)]
        calibration, points = own_fitted(self.config, clue_input_ids[0], mask[0])
        return ClueBank(
            tokens=encoded[0][0],
            token_mask=mask[0],
            vectors=encoded[0][1],
            negative_vectors=encoded[1][1] if len(encoded) > 1 else None,
            valid=mask[0].any(1),
            parents=parents,
            calibration=calibration,
            operating_points=points,
        )

    def fitted(self, bank: ClueBank | None) -> Fitted:
        """Calibration and operating points of the clues of a bank, or of the classifier's."""
        if self.config.clue_source == "classifier":
            return fitted(self.config, self.device)
        return (None, None) if bank is None else (bank.calibration, bank.operating_points)

    # --- clue scores ---

    @property
    def scale(self) -> torch.Tensor:
        """The temperature of similarities, `[1]`, at most 100."""
        if not self.logit_scale.is_meta:
            return self.logit_scale.clamp(max=4.6052).exp()
        with align_module_device(self):  # Accelerate's offloading brings weights for `forward` alone
            return self.logit_scale.clamp(max=4.6052).exp()

    def similarity(self, vectors: torch.Tensor, bank: ClueBank) -> torch.Tensor:
        """Unit vectors `[..., D]` to clue logits `[..., C]`, on the device of the vectors."""
        return self.scale.to(vectors.device) * vectors @ bank.directions().T.to(vectors.device)

    def score_clues(self, seen: SeenImages, bank: ClueBank | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Clue logits and scores `[B, C]`, the mean of a study's views.

        Raises:
            ValueError: a classifier with another number of labels than there are clues.
        """
        num_studies = len(seen.image_mask)
        pools_logits = self.config.vision_pooling == "lse"
        logits = self.clue_logits(seen.patches if pools_logits else seen.pooled, bank)
        logits = mean_by_study(log_mean_exp(logits) if pools_logits else logits, seen.study_index, num_studies)
        if (calibration := self.fitted(bank)[0]) is not None:
            scale, offset, _ = calibration.T.to(logits.device, logits.dtype)
            logits = scale * logits + offset
        if self.config.clue_source == "classifier":
            if bank is not None and len(bank.valid) != logits.shape[1]:
                raise ValueError(
                    f"{len(bank.valid)} clues for a classifier of {logits.shape[1]} labels; expected one clue a label."
                )
            return logits, logits.sigmoid()
        return logits, scores_from_logits(logits, self.config.clue_scoring, bank)

    def clue_logits(self, features: torch.Tensor, bank: ClueBank | None) -> torch.Tensor:
        """Patches or pooled images `[..., Dv]` to `[..., C]`."""
        if self.config.clue_source == "classifier":
            return self.classifier(features)
        return self.similarity(self.image_projection(features), bank)

    def evidence_maps(self, patches: torch.Tensor, image_mask: torch.Tensor, bank: ClueBank | None) -> torch.Tensor:
        """Similarity of every patch `[n, P, Dv]` to every clue, `[B, V, C, h, w]`; zero in masked views."""
        grid = self.config.patch_grid
        maps = self.clue_logits(patches, bank).transpose(1, 2).unflatten(-1, (grid, grid))
        result = maps.new_zeros((*image_mask.shape, *maps.shape[1:]))
        result[image_mask] = maps
        return result

    def look(
        self,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        clue_scores: torch.Tensor | None = None,
        **tower_options: bool | None,
    ) -> TRRGStudyFeatures:
        """Patches, clue scores and selected clues of a batch of studies. Shapes as in `encode_images`, `encode_clues`.

        Args:
            clue_scores: `[B, C]` in [0, 1], clues given by the caller (corrected, or read from a reference report)
                instead of those seen in the image, taken as they are. `pixel_values` may be None then.
            tower_options: `output_hidden_states`, `output_attentions`.

        Raises:
            ValueError: neither pixels nor scores, or scores of a wrong shape or range.
        """
        config = self.config
        if pixel_values is None and clue_scores is None:
            raise ValueError(
                "pixel_values and clue_scores are None; a study is known by its images, its clues or both."
            )
        device = (clue_scores if pixel_values is None else pixel_values).device
        bank = None
        if config.uses_clue_encoder:
            bank = self.encode_clues(clue_input_ids, clue_attention_mask, clue_parents, device)
        seen = None if pixel_values is None else self.encode_images(pixel_values, image_mask, **tower_options)
        if bank is not None:
            bank = bank.to(device if seen is None else seen.patches.device)
        logits, told = None, {}
        if clue_scores is not None:
            clue_scores = self._checked_scores(clue_scores, bank, seen)
            certain = clue_scores.float().clamp(1e-4, 1 - 1e-4)
            logits = certain.log() if config.clue_scoring == "softmax" else certain.logit()
        elif config.clue_source != "none":
            logits, clue_scores = self.score_clues(seen, bank)
            clue_scores = clue_scores * seen.image_mask.any(1, keepdim=True).to(clue_scores.device)  # text alone: 0
        if clue_scores is not None:
            found = self.fitted(bank)
            told = tell(config, found, clue_scores, thresholds_at(config, found, clue_scores))
            image_mask = clue_scores.new_ones(len(clue_scores), 1, dtype=torch.bool)  # without images: one view each
        return TRRGStudyFeatures(
            last_hidden_state=None if seen is None else seen.patches,
            image_mask=image_mask if seen is None else seen.image_mask,
            clue_scores=clue_scores,
            clue_logits=logits,
            **told,
            clue_bank=bank,
            hidden_states=None if seen is None else seen.outputs.get("hidden_states"),
            attentions=None if seen is None else seen.outputs.get("attentions"),
            **({} if seen is None else seen.readability(config)),
        )

    def _checked_scores(
        self, clue_scores: torch.Tensor, bank: ClueBank | None, seen: SeenImages | None
    ) -> torch.Tensor:
        if self.config.clue_source == "none":
            raise ValueError("clue_scores are given to a model that knows no clues (clue_source='none').")
        studies = clue_scores.shape[0] if seen is None else len(seen.image_mask)
        expected = [studies, self.config.num_classifier_labels if bank is None else len(bank.valid)]
        if list(clue_scores.shape) != expected:
            raise ValueError(f"clue_scores has the shape {list(clue_scores.shape)}; expected [B, C] = {expected}.")
        if not bool(((clue_scores >= 0) & (clue_scores <= 1)).all()):
            raise ValueError("clue_scores holds values outside of [0, 1] (or NaN).")
        return clue_scores if bank is None else clue_scores.to(bank.vectors.dtype) * bank.valid

    @torch.no_grad()
    def read_study(self, **inputs: Any) -> TRRGStudyFeatures:
        """Look at a batch of studies once, with evidence maps: `study = model.read_study(**processor(...))`.

        Args:
            inputs: what `look` takes; texts and labels, which the processor also returns, are not read.

        Raises:
            TypeError: an input that is neither.
            ValueError: see `look`.
        """
        study = self._features({name: value for name, value in inputs.items() if name not in TEXT_INPUTS})
        check_seen(study.image_mask)
        if self.config.clue_source != "none" and study.last_hidden_state is not None:
            study.evidence_maps = self.evidence_maps(study.last_hidden_state, study.image_mask, study.clue_bank)
        return study

    def _features(self, inputs: dict[str, Any]) -> TRRGStudyFeatures:
        return self.look(**inputs)
