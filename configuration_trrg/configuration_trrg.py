# Copyright 2026 The TRRG package authors. Licensed under the Apache License, Version 2.0 (the "License"); you may not
# use this file except in compliance with the License. You may obtain a copy of the License at
# https://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
"""TRRGConfig: the axes on which TRRG, MAIRA-1 and RaDialog differ, as typed and checked fields."""

import copy
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict, validated_field
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto import CONFIG_MAPPING

from .presets_trrg import PRESETS, Preset

# The whole map stands on the config: a class registers itself for one auto class only.
AUTO_MAP = {
    "AutoConfig": "configuration_trrg.TRRGConfig",
    "AutoModel": "modeling_trrg.TRRGModel",
    "AutoModelForImageTextToText": "modeling_trrg.TRRGForConditionalGeneration",
    "AutoProcessor": "processing_trrg.TRRGProcessor",
}
CUSTOM_PIPELINES = {
    "radiology-report": {"impl": "pipeline_trrg.RadiologyReportPipeline", "pt": ["AutoModelForImageTextToText"]}
}

# What a size in a part's config is called -> the most that is taken, some ten times what the largest model has. Beyond,
# a file of a few bytes would fill the machine, or its model be built for hours. The first pattern that fits counts.
LARGEST = (
    (re.compile(r"layers?$|depth|blocks?$"), 2**10),
    (re.compile(r"vocab|position|token_id"), 2**24),
    (re.compile(r"image_size"), 2**13),
    (re.compile(r"size|dim$|dims$|embd$|inner$|width|channels|heads?$|labels|classes|tokens|experts"), 2**17),
)


def check_sizes(name: str, value: Any) -> None:
    """
    Args:
        name: what errors call it, as "text_config.vocab_size".
        value: as it was read from a file, before anything is made of it. Of a list of numbers the sum counts.

    Raises:
        ValueError: a size in it, at any depth, is larger than `LARGEST` says; names it.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_sizes(f"{name}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in [sum(value)] if all(isinstance(item, int) for item in value) else value:
            check_sizes(name, inner)
    elif isinstance(value, int):
        for pattern, most in LARGEST:
            if pattern.search(name.rsplit(".", 1)[-1]):
                if value > most:
                    raise ValueError(f"{name} is {value}; expected at most {most}.")
                return


def numbers(depth: int, *kinds: type) -> Any:
    """A field that is None or numbers in lists, `depth` deep: its type could say so, but is checked far more slowly."""

    def check(value: Any) -> None:
        found = [] if value is None else [value]
        for _ in range(depth):
            found = [item for row in found for item in (row if isinstance(row, list) else "?")]
        if any(isinstance(item, bool) or not isinstance(item, kinds) for item in found):
            raise TypeError(f"got {value!r:.80}; expected {' or '.join(k.__name__ for k in kinds)} in {depth} lists")

    return validated_field(check, default=None)


def _is_dial(row: list[float | int]) -> bool:
    legal = len(row) == len(TRRGConfig.OPERATING_POINTS) and all(0 <= threshold < 1 for threshold in row)
    return legal and row[0] >= row[1] and row[2:] == sorted(row[2:])


@strict
class TRRGConfig(PreTrainedConfig):  # trf-ignore: TRF057
    r"""
    Configuration of a radiology report generator with disease clues (TRRG, arXiv 2408.12141) and of the two systems it
    is measured with, MAIRA-1 (arXiv 2311.13668) and RaDialog (arXiv 2311.18681).

    Args:
        vision_config (`dict` or `PreTrainedConfig`):
            The chest X-ray encoder: any vision architecture of Transformers, or of timm by
            `model_type="timm_wrapper"`.
        text_config (`dict` or `PreTrainedConfig`): The language model: any decoder of Transformers with
            `embed_tokens` and a plain head (Llama, Mistral, Qwen, Phi ...).
        clue_config (`dict` or `PreTrainedConfig`, *optional*): The disease clue encoder: any text encoder. Required
            where `clue_source="zero_shot"` or `connector="clue_interaction"`.
        query_transformer_config (`dict` or `PreTrainedConfig`, *optional*):
            A `Blip2QFormerConfig`. Required where `connector="query_transformer"`.
        connector (`"clue_interaction"`, `"mlp"` or `"query_transformer"`): Makes image features of patches, and clues.
        interaction (`"parallel"` or `"cross"`): Of the clue interaction: whether clues and patches see each other.
        clue_source (`"zero_shot"`, `"classifier"` or `"none"`):
            Where the clue scores come from: similarity to clue sentences, sigmoid outputs of a findings classifier,
            or nowhere.
        clue_scoring (`"softmax"` or `"pairwise"`):
            Zero-shot scoring: softmax over the clues as published, or "there is X" against "there is no X".
        vision_hidden_size (`int`): Width `Dv` of the patches the vision tower returns.
        image_size (`int`): Side of the square input image, in pixels.
        patch_grid (`int`): Patches along each side of the image; `P = patch_grid ** 2`.
        num_prefix_tokens (`int`): Tokens (class, registers) the vision tower returns before the patches.
        vision_pooling (`"mean"`, `"cls"` or `"lse"`):
            How an image is compared with a sentence: by the mean of its patches, by the first prefix token, or patch
            by patch, the logits pooled by log-mean-exp (a smooth maximum, Pinheiro and Collobert 2015). With `"lse"`
            a small finding is not averaged away, and the evidence map is what the score is made of.
        projection_dim (`int`): Shared width `D` of image, clue and sentence vectors and of the clue interaction.
        num_query_tokens (`int`): Learned queries a view: half for clues and half for patches in the clue interaction,
            all of them in the query transformer. Unused by the MLP, which keeps every patch.
        num_interaction_heads (`int`): Attention heads of the clue interaction; divides `projection_dim`.
        num_selected_clues (`int`): The clues with the highest scores that are injected, or named in the prompt.
        clue_threshold (`float`): Clues that score this much or less are neither, in [0, 1).
        clue_calibration (`list[list[float]]`, *optional*):
            For each of the checkpoint's own clues, or outputs of its classifier, [scale, offset, threshold]: its score
            is the sigmoid of scale * logit + offset, its threshold stands in place of `clue_threshold`. Clues of
            another list keep their logit and `clue_threshold`. `training/calibrate.py` fits it on validation studies.
        clue_operating_points (`list[list[float]]`, *optional*):
            For each of the same clues the thresholds of `OPERATING_POINTS`, in that order, on calibrated scores:
            "careful" (false alarms are rare), "sensitive" (misses are rare), and one for each rate of `MISS_RATES`.
            `[]` for a clue with too few labels: it keeps its one threshold. `training/calibrate.py` fits them too.
        readable_weights (`list[float]`, *optional*):
            Bias and weights of what `SeenImages.summary` gives of a view: the logit of "this is an upright frontal
            chest X-ray". `training/fit_readable.py` fits them; without them a model never abstains.
        readable_threshold (`float`): A study whose best view scores less is not reported.
        num_classifier_labels (`int`): Outputs of the findings classifier.
        mlp_depth (`int`): Linear layers of the MLP connector.
        clue_loss_weight (`float`): Stage 1, weight of the clues' binary cross entropy beside the sentence contrast.
        consistency_kl_weight (`float`): Weight of the KL between the clue posteriors of image and report text.
        consistency_bce_weight (`float`):
            Weight of each posterior's binary cross entropy to the labels. Both weights 0: no consistency loss. The
            loss is a reconstruction (the paper's equation is not public); 1.0 and 0.1 are those of BiOTPrompt.
        max_views (`int`):
            The most views of one study the model was trained with; more are refused. Training writes its `data.views`.
        learned_dialogue (`bool`):
            Whether the model was trained on turns after the report (questions, corrections). Training writes it; a
            conversation with a model that was not warns once.
        image_token_id (`int`): The placeholder's token id. It may lie outside of the language model's vocabulary.
        clue_token_ids (`list[list[list[int]]]`, *optional*):
            The checkpoint's own clue sentences `[S][C]` as token ids of the clue tokenizer, for callers that pass no
            clues; S = 2 statements a clue ("there is X", "there is no X") where `clue_scoring` compares two.
        clue_parents (`list[int]`, *optional*):
            For each of these clues the index of the clue that it implies ("Left Pleural Effusion": that of "Pleural
            Effusion"), or -1. A parent scores at least as much as its highest child.
        pad_clue_token_id (`int`): Padding id of the clue tokenizer.

    Raises:
        StrictDataclassFieldValidationError, ValueError: a field is of a wrong type or value; the message names the
            field, the value and what is allowed.
    """

    model_type = "trrg"
    # What Trainer leaves out of its predictions: caches, under both of their names, and parts of the loss.
    keys_to_ignore_at_inference = [
        "past_key_values", "cache", "consistency_loss", "sentence_loss", "clue_loss", "matching_loss",
        "generation_loss",
    ]  # fmt: skip
    sub_configs = {
        "vision_config": AutoConfig,
        "text_config": AutoConfig,
        "clue_config": AutoConfig,
        "query_transformer_config": AutoConfig,
    }

    # The false-negative rates, 5 to 50 %, that a checkpoint stores thresholds for; and what a row of
    # `clue_operating_points` holds. "balanced" is the threshold of `clue_calibration`.
    MISS_RATES = tuple(step / 20 for step in range(1, 11))
    OPERATING_POINTS = ("careful", "sensitive", *MISS_RATES)

    # the first type that does not fit is told with its value, so a config that comes second is printed in full
    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    clue_config: PreTrainedConfig | dict | None = None
    query_transformer_config: PreTrainedConfig | dict | None = None

    connector: Literal["clue_interaction", "mlp", "query_transformer"] = "clue_interaction"
    interaction: Literal["parallel", "cross"] = "parallel"
    clue_source: Literal["zero_shot", "classifier", "none"] = "zero_shot"
    clue_scoring: Literal["softmax", "pairwise"] = "softmax"
    vision_pooling: Literal["mean", "cls", "lse"] = "mean"

    vision_hidden_size: int = 1024
    image_size: int = 224
    patch_grid: int = 7
    num_prefix_tokens: int = 0
    projection_dim: int = 1024
    num_query_tokens: int = 96
    num_interaction_heads: int = 8
    num_selected_clues: int = 8
    clue_threshold: float | int = 0.0
    num_classifier_labels: int = 14
    mlp_depth: int = 4
    clue_loss_weight: float | int = 1.0
    consistency_kl_weight: float | int = 1.0
    consistency_bce_weight: float | int = 0.1
    max_views: int = 4
    learned_dialogue: bool = False
    image_token_id: int = 32000
    pad_clue_token_id: int = 0
    clue_token_ids: list | None = numbers(3, int)
    clue_parents: list | None = numbers(1, int)
    clue_calibration: list | None = numbers(2, int, float)
    clue_operating_points: list | None = numbers(2, int, float)
    readable_weights: list | None = numbers(1, int, float)
    readable_threshold: float | int = 0.0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        check_sizes("config", kwargs)
        auto_map = kwargs.get("auto_map") or {}
        if not isinstance(auto_map, dict):
            raise ValueError(f"auto_map is {auto_map!r:.80}; expected an object of auto class: class.")
        for auto_class, reference in auto_map.items():
            if not re.fullmatch(r"\w+_trrg\.TRRG\w+", str(reference)):
                raise ValueError(
                    f"auto_map.{auto_class} is {reference!r}; expected a class of this project's own code."
                )
        for name in self.sub_configs:
            value = getattr(self, name)
            if isinstance(value, dict):
                check_sizes(name, value)
                model_type = value.get("model_type")
                if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
                    raise ValueError(
                        f"{name}.model_type is {model_type!r}; expected an architecture of Transformers, or "
                        "'timm_wrapper' for one of timm."
                    )
                setattr(self, name, CONFIG_MAPPING[model_type](**value))
        if self.text_config is not None:
            self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        super().__post_init__(**kwargs)
        # PreTrainedConfig must stay constructible without arguments (Transformers compares with the defaults when
        # saving), so the requirements between fields are checked once the sub-configs are there.
        if self.vision_config is not None or self.text_config is not None:
            self.check()
            # copies: Transformers writes into both
            self.auto_map, self.custom_pipelines = dict(AUTO_MAP), copy.deepcopy(CUSTOM_PIPELINES)

    @property
    def uses_clue_encoder(self) -> bool:
        """Whether clue sentences are encoded at all: for zero-shot scores, for injection, or for both."""
        return self.clue_source == "zero_shot" or (self.connector == "clue_interaction" and self.clue_source != "none")

    @property
    def num_patches(self) -> int:
        """P, patches a view."""
        return self.patch_grid**2

    @property
    def num_image_tokens(self) -> int:
        """N, image placeholders a view."""
        return self.num_patches if self.connector == "mlp" else self.num_query_tokens

    @property
    def uses_consistency_loss(self) -> bool:
        """Whether stage 2 adds the consistency loss: there are clues, and one of its two weights is above 0."""
        return self.clue_source != "none" and (self.consistency_kl_weight > 0 or self.consistency_bce_weight > 0)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in Transformers; a config that was made illegal after its construction is not saved. All of an installed
        package's source is saved beside it, so that the folder loads where the package is missing.

        Raises:
            ValueError: an illegal field, or `save_directory` links to source files, as hub_cards/trrg-small does.
        """
        if self.text_config is not None:
            self.check()
        folder = Path(save_directory)
        self.check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if __name__ == "configuration_trrg.configuration_trrg":  # else flat, beside what `auto_map` names
            for package in ("modeling_trrg", "processing_trrg", "configuration_trrg"):  # the last one holds no alias
                for source in (Path(__file__).parents[1] / package).glob("*_trrg.py"):
                    shutil.copyfile(source, folder / source.name)
        # Transformers names the class that it saves, which under FSDP2 is a wrapper that no file holds
        classes = {**AUTO_MAP, "AutoModelForPreTraining": "contrastive_trrg.TRRGForContrastivePretraining"}
        for name, reference in (getattr(self, "auto_map", None) or {}).items():
            if name in classes and not (folder / f"{reference.split('.')[0]}.py").exists():
                self.auto_map[name] = classes[name]
        super().save_pretrained(save_directory, *args, **kwargs)

    @staticmethod
    def check_folder(folder: Path) -> None:
        """
        Raises:
            ValueError: `folder` links to source files, which saving would write over.
        """
        if any(path.is_symlink() for path in folder.glob("*_trrg.py")):
            raise ValueError(f"{folder} links to source files, which saving would write over; save elsewhere.")

    def check(self) -> None:
        """
        Raises:
            ValueError: fields that do not fit together; also called when a model is built from the config.
        """
        for name, holds, expected in self._rules():
            if not holds:
                shown = getattr(self, name)
                if isinstance(shown, PreTrainedConfig):
                    shown = f"of type {shown.model_type!r}"
                elif name == "clue_token_ids":
                    shown = f"a list of {[len(statement) for statement in shown]} sentences"
                elif name == "readable_weights":
                    shown = f"a list of {len(shown)} numbers"
                raise ValueError(f"{name} is {shown}; expected {expected}.")

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        """Field, whether it is legal, and what is: each worked out after those before it were found true."""
        for name in ("vision_config", "text_config"):
            yield name, getattr(self, name) is not None, "the config of a model"
        for name, most in (
            ("vision_hidden_size", 2**17), ("image_size", 2**13), ("patch_grid", 2**8), ("projection_dim", 2**17),
            ("num_query_tokens", 2**14), ("mlp_depth", 64), ("num_interaction_heads", 1024), ("max_views", 64),
            ("num_selected_clues", 2**17), ("num_classifier_labels", 2**17),
        ):  # fmt: skip
            yield name, 1 <= getattr(self, name) <= most, f"at least 1 and at most {most}"
        for name in (
            "num_prefix_tokens", "image_token_id", "clue_loss_weight", "consistency_kl_weight",
            "consistency_bce_weight",
        ):  # fmt: skip
            yield name, 0 <= getattr(self, name) < 2**31, "0 or more, below 2**31"  # NaN is neither
        yield "clue_threshold", 0 <= self.clue_threshold < 1, "a value in [0, 1)"
        if self.uses_clue_encoder:
            because = f"connector={self.connector!r} with clue_source={self.clue_source!r}"
            yield "clue_config", self.clue_config is not None, f"the config of a clue encoder for {because}"
        if self.connector == "clue_interaction":
            heads, width = self.num_interaction_heads, self.projection_dim
            even = "an even number: half ask the clues, half the patches"
            yield "num_query_tokens", self.num_query_tokens % 2 == 0, even
            yield "num_interaction_heads", width % heads == 0, f"a divisor of projection_dim={width}"
        else:
            yield "interaction", self.interaction == "parallel", f"'parallel' with connector={self.connector!r}"
        if self.connector == "query_transformer":
            name, width = "query_transformer_config", self.vision_hidden_size
            inner = self.query_transformer_config
            yield name, inner is not None, "the config of a query transformer"
            yield name, inner.model_type == "blip_2_qformer", "model_type 'blip_2_qformer'"
            fits = f"encoder_hidden_size={width}, as vision_hidden_size"
            yield name, inner.encoder_hidden_size == width, fits
        if self.vision_pooling == "cls":
            yield "num_prefix_tokens", self.num_prefix_tokens >= 1, "at least 1 for vision_pooling='cls'"
        if self.clue_token_ids is not None:
            counts = [len(statement) for statement in self.clue_token_ids]
            rows = [row for statement in self.clue_token_ids for row in statement]
            statements = 2 if self.clue_scoring == "pairwise" else 1
            yield "clue_token_ids", bool(rows) and all(rows) and all(counts), "no empty list"
            as_many = f"{statements} statement(s) of as many clues"
            yield "clue_token_ids", len(counts) >= statements and len(set(counts)) == 1, as_many
        if self.clue_parents is not None:
            count = len((self.clue_token_ids or [[]])[0])
            legal = len(self.clue_parents) == count and all(-1 <= parent < count for parent in self.clue_parents)
            yield "clue_parents", legal, f"for each of the {count} clues of clue_token_ids the index of one, or -1"
        if self.clue_calibration is not None:
            known = len((self.clue_token_ids or [[]])[0])
            known = self.num_classifier_labels if self.clue_source == "classifier" else known
            finite = all(len(row) == 3 and math.isfinite(sum(row)) for row in self.clue_calibration)
            legal = len(self.clue_calibration) == known and finite and all(0 <= r[2] < 1 for r in self.clue_calibration)
            yield "clue_calibration", legal, f"[scale, offset, threshold in [0, 1)] for each of the {known} clues"
            alone = self.clue_scoring == "pairwise" or self.clue_source == "classifier"
            yield "clue_scoring", alone, "'pairwise' with clue_calibration, since a softmax shares one whole"
        if (points := self.clue_operating_points) is not None:
            count, width = len(self.clue_calibration or []), len(self.OPERATING_POINTS)
            legal = len(points) == count and all(not row or _is_dial(row) for row in points)
            expected = f"for each of the {count} clues of clue_calibration [] or {width} thresholds in [0, 1), careful "
            yield "clue_operating_points", legal, expected + "not under sensitive, those of the rates rising"
        yield "readable_threshold", math.isfinite(self.readable_threshold), "a number"
        if self.readable_weights is not None:
            count = 1 + 5 * self.vision_hidden_size
            legal = len(self.readable_weights) == count and math.isfinite(sum(self.readable_weights))
            yield "readable_weights", legal, f"{count} numbers, 1 + 5 * vision_hidden_size"

    @classmethod
    def from_preset(cls, preset: Preset, **overrides: Any) -> "TRRGConfig":
        """A published system at its published size, or a small one, which runs anywhere.

        Args:
            preset: One of `"trrg"`, `"maira1"`, `"radialog"`, `"trrg-small"`, `"radialog-small"`.
            overrides: Fields to change.

        Raises:
            ValueError: an unknown preset, or an override that is no field.
        """
        if preset not in get_args(Preset):
            raise ValueError(f"preset is {preset!r}; expected one of {', '.join(get_args(Preset))}.")
        unknown = sorted(set(overrides) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown fields for the preset {preset!r}: {', '.join(unknown)}.")
        return cls(**{**PRESETS[preset], **overrides})


# So that `save_pretrained` writes this file beside config.json, and the folder loads where the package is missing.
TRRGConfig.register_for_auto_class()
