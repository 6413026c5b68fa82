"""What Transformers demands of every model, of every one that generates, and of every configuration."""

import unittest

import torch
from transformers.models.auto import modeling_auto

from configuration_trrg import TRRGConfig
from modeling_trrg import TRRGForConditionalGeneration, TRRGModel
from tests.generation.test_utils import GenerationTesterMixin
from tests.helpers.models import TINY, TINY_BERT, TINY_TEXT
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor

# The tests look up there which class is a base without a loss, and which one takes labels.
modeling_auto.MODEL_MAPPING_NAMES["trrg"] = "TRRGModel"
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["trrg"] = "TRRGForConditionalGeneration"
OWN_CLUES = [[[5, 6], [5, 7], [5, 8]], [[6, 6], [6, 7], [6, 8]]]


class StudyTester:
    """A tiny TRRG and a batch for it: one view a study, the checkpoint's own clues."""

    batch_size, prompt_length, is_training = 3, 7, True
    num_hidden_layers, hidden_size = TINY_TEXT["num_hidden_layers"], TINY_TEXT["hidden_size"]
    num_attention_heads = TINY_TEXT["num_attention_heads"]
    vision_config = TINY["trrg"]["vision_config"]

    def __init__(self, parent):
        self.parent = parent
        self.num_image_tokens = self.get_config().num_image_tokens
        self.seq_length = self.encoder_seq_length = self.prompt_length + self.num_image_tokens

    def get_config(self):
        return TRRGConfig(**TINY["trrg"] | {"clue_config": TINY_BERT, "clue_token_ids": OWN_CLUES})

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length], config.text_config.vocab_size - 4) + 4
        input_ids[:, : self.num_image_tokens] = config.image_token_id
        inputs = {
            "pixel_values": floats_tensor([self.batch_size, 3, config.image_size, config.image_size]),
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
        }
        return config, inputs


class TestModel(ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (TRRGModel, TRRGForConditionalGeneration)
    all_generative_model_classes = (TRRGForConditionalGeneration,)
    _is_composite = True

    def setUp(self):
        self.model_tester = StudyTester(self)
        self.config_tester = ConfigTester(self, config_class=TRRGConfig, has_text_modality=False, **TINY["trrg"])

    def test_config(self):
        self.config_tester.run_common_tests()
