"""Studies to talk about: the pipeline of a tiny model, and what it computes."""

from processing_trrg import RadiologyReportPipeline
from tests.helpers.models import build
from tests.helpers.tiny_processors import tiny_processor


def writer(tiny_config, system="trrg", **overrides):
    options = {"num_classifier_labels": 14} if system == "radialog" else {}
    config = tiny_config(system, **options, **overrides)
    processor = tiny_processor(system, size=32, num_image_tokens=config.num_image_tokens)
    return RadiologyReportPipeline(model=build(config), processor=processor, max_new_tokens=6)


class Watch:
    """Counts what the vision tower and the language model compute: `looks`, and tokens of each prefill."""

    def __init__(self, model):
        self.looks, self.prefilled = 0, []
        model.model.vision_tower.register_forward_hook(self.look)
        model.model.language_model.register_forward_pre_hook(self.read, with_kwargs=True)

    def look(self, *_):
        self.looks += 1

    def read(self, _, __, kwargs):
        if kwargs["inputs_embeds"].shape[1] > 1:
            self.prefilled.append(kwargs["inputs_embeds"].shape[1])
