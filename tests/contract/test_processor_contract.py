"""What Transformers demands of every processor. Its own pictures are coloured noise, no radiographs; these are grey."""

import tempfile
import unittest

from PIL import Image

from processing_trrg import TRRGProcessor
from tests.helpers.tiny_processors import radiograph, tiny_processor
from tests.test_processing_common import ProcessorTesterMixin


class TestProcessor(ProcessorTesterMixin, unittest.TestCase):
    processor_class = TRRGProcessor

    @staticmethod
    def prepare_processor_dict():
        return {"num_image_tokens": 4}

    @classmethod
    def _setup_from_components(cls):
        return tiny_processor()

    @classmethod
    def _setup_test_attributes(cls, processor):
        cls.image_token = processor.image_token

    def prepare_images_inputs(self, batch_size=None, nested=False):
        images = [Image.fromarray(radiograph(seed=seed)) for seed in range(batch_size or 1)]
        if batch_size is None:
            return images[0]
        return [[image] for image in images] if nested else images

    def _test_apply_chat_template(self, modality, batch_size, return_tensors, input_name, processor_name, input_data):
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(batch_size):
                Image.fromarray(radiograph(seed=seed)).save(f"{folder}/{seed}.png")
            files = [f"{folder}/{seed}.png" for seed in range(batch_size)]
            super()._test_apply_chat_template(modality, batch_size, return_tensors, input_name, processor_name, files)
