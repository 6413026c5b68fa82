# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""The TRRG model: an X-ray study and disease clues in, report tokens out. Read this file first.

    vision tower -> patches, pooled            encoder_trrg.py
    clue bank -> scores -> injected clues      encoder_trrg.py, clue_trrg.py
    connector -> image features                connector_trrg.py
    language model -> logits, loss             here; generate() in generation_trrg.py

Stage 1 (sentence-level contrast) is in contrastive_trrg.py.
Shapes: B studies, V views, n views of all studies, N image placeholders a view, C clues, L clue tokens, T text tokens,
D shared width, Dv/Dc/Dt widths of vision, clue and text model.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel
from transformers.utils import can_return_tuple

from .clue_trrg import consistency_loss, inject_clues
from .configuration_trrg import TRRGConfig
from .connector_trrg import ClueInteraction, MLPConnector
from .contrastive_trrg import TRRGForContrastivePretraining
from .encoder_trrg import TRRGEncoder
from .generation_trrg import TRRGGenerationMixin, max_context, shows_study, with_signature
from .outputs_trrg import TRRGCausalLMOutputWithPast, TRRGModelOutputWithPast, TRRGStudyFeatures
from .pretrained_trrg import TRRGPreTrainedModel


class TRRGModel(TRRGEncoder):
    """Vision tower, clues, connector and language model, without a language modelling head."""

    main_input_name = "input_ids"
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\.", r"^report_projection\."]

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__(config)
        text_width = config.text_config.hidden_size
        if config.connector == "clue_interaction":  # CODEPATH: the presets "trrg" and "trrg-small"
            # CODEPATH: the presets have a clue encoder; with clue_source="none" there is none.
            self.clue_width = config.clue_config.hidden_size if config.clue_config else config.projection_dim
            self.multi_modal_projector: nn.Module = ClueInteraction(config, self.clue_width)
        elif config.connector == "mlp":  # CODEPATH: the preset "maira1"; below, "radialog"
            self.multi_modal_projector = MLPConnector(config)
        else:
            self.multi_modal_projector = nn.Linear(config.query_transformer_config.hidden_size, text_width)
        self.language_model = AutoModel.from_config(config.text_config)
        if not hasattr(self.language_model, "embed_tokens"):
            raise ValueError(
                f"text_config.model_type is {config.text_config.model_type!r}; expected a decoder with `embed_tokens` "
                "(Llama, Mistral, Qwen, Phi ...)."
            )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings, `[vocabulary, Dt]`."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        clue_scores: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> TRRGStudyFeatures:
        """The one door: what the language model reads of the images and the clues.

        Args:
            pixel_values: `[B, V, 3, H, W]` (or `[B, 3, H, W]`). None for studies known only by `clue_scores`.
            image_mask: `[B, V]` bool, False for views that only pad.
            clue_input_ids, clue_attention_mask: `[S, C, L]`, clue_parents: `[C]`; see `encode_clues`.
            clue_scores: `[B, C]`, see `look`.
            output_hidden_states, output_attentions: also return those of the vision tower.

        Raises:
            ValueError: see `look`; or a connector that needs the images that are missing.
        """
        if pixel_values is None and clue_scores is not None and self.config.connector != "clue_interaction":
            raise ValueError(
                "pixel_values is None; expected images, or clue_scores with connector='clue_interaction' (here "
                f"connector={self.config.connector!r}, clue_scores given)."
            )
        study = self.look(
            pixel_values, image_mask, clue_input_ids, clue_attention_mask, clue_parents, clue_scores,
            output_hidden_states=output_hidden_states, output_attentions=output_attentions,
        )  # fmt: skip
        return self.connect(study)

    def connect(self, study: TRRGStudyFeatures) -> TRRGStudyFeatures:
        """A study that was looked at, with what the language model reads of its patches and clues."""
        connector = self.multi_modal_projector
        if self.config.connector == "clue_interaction":  # CODEPATH: see __init__
            features = self._interact(study)
        elif self.config.connector == "mlp":  # CODEPATH: see __init__
            features = connector(study.last_hidden_state)
        else:
            queries = self.query_transformer(study.last_hidden_state)
            features = connector(queries.to(connector.weight.dtype))
        return TRRGStudyFeatures(**{**study, "pooler_output": features})  # anew, for its place in the tuple

    def _features(self, inputs: dict[str, Any]) -> TRRGStudyFeatures:
        return self.get_image_features(**inputs, return_dict=True)

    def _find_placeholders(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        """Where `[B, T, Dt]` holds the embedding of the image token: `[B, T]`."""
        token, size = self.config.image_token_id, self.config.text_config.vocab_size
        if token >= size:
            raise ValueError(
                f"inputs_embeds with images: image_token_id is {token}, which has no row among the {size} token "
                "embeddings; expected input_ids, or a model after resize_token_embeddings."
            )
        row = self.get_input_embeddings()(torch.tensor([token], device=inputs_embeds.device))
        return (inputs_embeds == row.to(inputs_embeds.device)).all(-1)

    def _check_placeholders(self, placeholder: torch.Tensor, study: TRRGStudyFeatures) -> None:
        """Study by study: equal totals alone could hand one patient's image to another patient's report."""
        width = self.config.text_config.hidden_size
        if study.pooler_output.shape[-1] != width:
            raise ValueError(
                f"study has features of width {study.pooler_output.shape[-1]}; this language model reads {width}: "
                "expected what its own get_image_features returns."
            )
        tokens = placeholder.sum(1).tolist()
        features = [views * study.pooler_output.shape[1] for views in study.image_mask.sum(1).tolist()]
        if tokens != features:
            raise ValueError(
                f"the texts of the batch have {tokens} image placeholders, their images {features} features "
                f"({self.config.num_image_tokens} a view); expected one for one."
            )

    def _interact(self, study: TRRGStudyFeatures) -> torch.Tensor:
        patches, batch = study.last_hidden_state, len(study.image_mask)
        if study.clue_bank is None:
            tokens = patches.new_zeros(batch, 0, self.clue_width)
            mask = torch.zeros(batch, 0, dtype=torch.bool, device=tokens.device)
        else:
            tokens, mask = inject_clues(study.clue_bank, study.clue_scores, study.selected_clues, study.clue_thresholds)
        return self.multi_modal_projector(patches, tokens, mask, study.image_mask.nonzero()[:, 0])

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        clue_scores: torch.Tensor | None = None,
        study: TRRGStudyFeatures | None = None,
        **kwargs: Any,
    ) -> TRRGModelOutputWithPast:
        """
        Args:
            input_ids: `[B, T]` with N placeholders (`config.image_token_id`) for each view; none in a text alone, whose
                row of image_mask is False.
            attention_mask: `[B, T]`.
            pixel_values, image_mask, clue_input_ids, clue_attention_mask, clue_parents, clue_scores: see
                `get_image_features`.
            study: what `get_image_features` or `read_study` made of them, in their place.
            inputs_embeds: `[B, T, Dt]` in place of `input_ids`; with images, placeholders are the rows that equal the
                image token's embedding.
            kwargs: of the language model, the cache among them; Transformers renamed `past_key_values` to `cache`
                in 5.24, so it passes under the name it comes with.

        Raises:
            ValueError: the number of placeholders differs from the number of image features; both are named.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds.")
        given = shows_study({"pixel_values": pixel_values, "image_mask": image_mask, "clue_scores": clue_scores})
        if given and study is not None:
            raise ValueError("pixel_values or clue_scores together with study, which stands for them: expected one.")
        if inputs_embeds is None:
            placeholder = input_ids == self.config.image_token_id
            # the placeholder's id may lie outside of the embedding table; its row is replaced anyway
            inputs_embeds = self.get_input_embeddings()(input_ids.masked_fill(placeholder, 0))
        elif given or study is not None:
            placeholder = self._find_placeholders(inputs_embeds)
        if given:
            study = self.get_image_features(
                pixel_values, image_mask, clue_input_ids, clue_attention_mask, clue_parents, clue_scores,
                return_dict=True,
            )  # fmt: skip
        if study is not None:
            features = study.pooler_output.to(inputs_embeds.device, inputs_embeds.dtype)
            self._check_placeholders(placeholder, study)
            inputs_embeds = inputs_embeds.masked_scatter(placeholder[..., None], features)
        elif input_ids is not None and input_ids.shape[1] > 1 and bool(placeholder.any()):  # no decoding step: a prompt
            raise ValueError(
                f"the text has {int(placeholder.sum())} image placeholders, but there is neither pixel_values "
                "with a view in image_mask nor clue_scores nor study."
            )
        context = max_context(self.config)
        if context is not None and inputs_embeds.shape[1] > context:
            length = inputs_embeds.shape[1]
            if attention_mask is not None and attention_mask.dim() == 2:
                length = int(attention_mask.sum(1).max())
            if length > context:
                raise ValueError(f"a text is {length} tokens long; the language model's context is {context}.")
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)  # left padding moves nothing
            position_ids = position_ids[:, -inputs_embeds.shape[1] :]

        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **kwargs,
        )
        return TRRGModelOutputWithPast(**outputs, study=study)


class TRRGForConditionalGeneration(TRRGPreTrainedModel, TRRGGenerationMixin):  # trf-ignore: TRF057
    """Writes the report: `TRRGModel` with a language modelling head, its loss and the consistency loss."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: TRRGConfig) -> None:
        super().__init__(config)
        self.model = TRRGModel(config)
        text = config.text_config
        for name in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
            if getattr(text, name, None) not in (None, 1.0):
                raise ValueError(
                    f"text_config.{name} is {getattr(text, name)}; the head is a plain linear layer and would lose it."
                )
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.report_projection = None
        if config.uses_consistency_loss and config.uses_clue_encoder:  # CODEPATH: the presets "trrg", "trrg-small"
            self.report_projection = nn.Linear(text.hidden_size, config.projection_dim)
        self.post_init()
        self.freeze_unused()

    def unused_weights(self) -> list[str]:
        """Patterns of the weights that serve stage 1 alone, or scores that no loss of stage 2 depends on."""
        config, compared = self.config, self.report_projection is not None
        injected = config.connector == "clue_interaction"
        scored = config.clue_source == "zero_shot" and (injected or compared)
        unused = [r"query_transformer\.(word|position)_embeddings", r"query_transformer\..*\d\.(intermediate|output)\."]
        unused += [] if scored else ["image_projection"]
        unused += [] if scored or compared else ["clue_projection", "logit_scale"]
        unused += [] if scored or injected else ["clue_encoder"]
        return unused if injected else [*unused, "classifier"]

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings, `[vocabulary, Dt]`."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language modelling head, `[vocabulary, Dt]`."""
        return self.lm_head

    def get_image_features(self, *args: Any, **kwargs: Any) -> TRRGStudyFeatures:  # trf-ignore: TRF057
        """See `TRRGModel.get_image_features`."""
        return self.model.get_image_features(*args, **kwargs)

    def read_study(self, **inputs: Any) -> TRRGStudyFeatures:
        """See `TRRGEncoder.read_study`."""
        return self.model.read_study(**inputs)

    @with_signature
    @can_return_tuple
    def forward(  # trf-ignore: TRF057
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        clue_input_ids: torch.Tensor | None = None,
        clue_attention_mask: torch.Tensor | None = None,
        clue_parents: torch.Tensor | None = None,
        clue_scores: torch.Tensor | None = None,
        study: TRRGStudyFeatures | None = None,
        clue_targets: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TRRGCausalLMOutputWithPast:
        """
        Args:
            labels: `[B, T]`, token ids of the report, -100 elsewhere.
            kwargs: `shift_labels` `[B, T]`, labels that stand at the token before, as pieces of a sequence need them,
                win over `labels`, as in Transformers. It is no argument of its own, since Trainer would ask for it.
            clue_targets: `[B, C]`, 1 present, 0 absent, anything else unknown; for the consistency loss, which a row
                of nothing but unknown ones does not have.
            logits_to_keep: compute the logits of only the last tokens (0: of all).
            num_items_in_batch: target tokens of the whole optimizer step over all ranks, so that accumulated steps
                weigh every token alike. Default: those of this batch. A study's consistency loss weighs as its tokens.
            The others: see `TRRGModel`.
        """
        shift_labels = kwargs.pop("shift_labels", None)
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, inputs_embeds=inputs_embeds,
            pixel_values=pixel_values, image_mask=image_mask, clue_input_ids=clue_input_ids,
            clue_attention_mask=clue_attention_mask, clue_parents=clue_parents, clue_scores=clue_scores, study=study,
            return_dict=True, **kwargs,
        )  # fmt: skip
        hidden, study = outputs.last_hidden_state, outputs.study
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else slice(None)
        logits = self.lm_head(hidden[:, keep if isinstance(logits_to_keep, int) else logits_to_keep])

        loss = consistency = None
        if labels is not None or shift_labels is not None:
            shift_labels = self._shifted_labels(labels, shift_labels, logits)
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.text_config.vocab_size,
                num_items_in_batch=num_items_in_batch,
                shift_labels=shift_labels,
            )
            if self.report_projection is not None and study is not None:
                seen = study.image_mask.any(1).to(hidden.device)  # a text alone has no clues to agree with
                consistency = self._consistency(study, hidden, shift_labels, clue_targets) * seen
                items = (shift_labels != -100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
                consistency = consistency.sum() / items
                loss = loss + consistency
        passed_on = {name: value for name, value in outputs.items() if name not in ("last_hidden_state", "study")}
        if study is not None:
            passed_on |= {name: study[name] for name in ("clue_scores", "clue_logits") if name in study}
            passed_on["image_hidden_states"] = study.pooler_output
        return TRRGCausalLMOutputWithPast(loss=loss, logits=logits, consistency_loss=consistency, **passed_on)

    def _shifted_labels(
        self, labels: torch.Tensor | None, shift_labels: torch.Tensor | None, logits: torch.Tensor
    ) -> torch.Tensor:
        """`[B, T]`: at each token the label of the next one, -100 for none and for placeholders."""
        for name, value in (("labels", labels), ("shift_labels", shift_labels)):
            if value is not None and value.shape != logits.shape[:2]:
                raise ValueError(
                    f"{name} has the shape {list(value.shape)}; expected one for each of the logits, "
                    f"{list(logits.shape[:2])}."
                )
        if shift_labels is None:
            shift_labels = nn.functional.pad(labels, (-1, 1), value=-100)
        return shift_labels.masked_fill(shift_labels == self.config.image_token_id, -100)

    def _consistency(
        self,
        study: TRRGStudyFeatures,
        hidden: torch.Tensor,
        shift_labels: torch.Tensor,
        clue_targets: torch.Tensor | None,
    ) -> torch.Tensor:
        """The report's clue posterior, read from the mean hidden state of its tokens, against the image's, times their
        number: `[B]`. The report is the first reply that is learned of a chat."""
        expected = list(study.clue_logits.shape)
        if clue_targets is not None and list(clue_targets.shape) != expected:
            raise ValueError(f"clue_targets has the shape {list(clue_targets.shape)}; expected [B, C] = {expected}.")
        hidden = hidden.to(self.report_projection.weight.dtype)  # a pretrained language model may have another
        said = nn.functional.pad(shift_labels, (1, -1), value=-100) != -100
        begins = said & ~nn.functional.pad(said, (1, -1))
        report = (said & (begins.cumsum(1) == 1)).to(hidden.dtype)[..., None]
        mean = (hidden * report).sum(1) / report.sum(1).clamp(min=1)
        report_vectors = nn.functional.normalize(self.report_projection(mean), dim=-1)
        loss = consistency_loss(
            study.clue_logits,
            self.model.similarity(report_vectors, study.clue_bank).to(study.clue_logits.device),
            clue_targets,
            study.clue_bank.valid,
            self.config.clue_scoring if self.config.clue_source == "zero_shot" else "pairwise",  # CODEPATH: "trrg*"
            self.config.consistency_kl_weight,
            self.config.consistency_bce_weight,
        )
        if clue_targets is not None:  # an answer to a question does not speak of all that the image shows
            loss = loss * ((clue_targets == 0) | (clue_targets == 1)).any(1).to(loss.device)
        return loss * report.sum((1, 2))


# So that `save_pretrained` writes the source beside the weights, whoever calls it: the folder loads anywhere.
TRRGModel.register_for_auto_class("AutoModel")
TRRGForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")

__all__ = ["TRRGForConditionalGeneration", "TRRGForContrastivePretraining", "TRRGModel"]
