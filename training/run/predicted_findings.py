"""What the frozen clues see in each training image: the findings that RaDialog's prompt names at inference."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device
from tqdm import tqdm

from processing_trrg import TRRGProcessor, seen_findings
from training.config.run_config import ConfigError, FinetuneConfig
from training.data.clue_labels import Seen
from training.data.collate import pad_views
from training.data.examples import SourceData
from training.run.trained_parts import part_of

SCORED_BY = ("vision_tower", "clue_encoder", "image_projection", "clue_projection", "classifier", "logit_scale")


def check_predictions(config: FinetuneConfig, model: Any, processor: TRRGProcessor) -> None:
    """
    Raises:
        ConfigError: `data.predicted_findings` with a model that sees no findings, trains what sees them, or whose
            prompt names none.
    """
    source, trained = model.config.clue_source, [part for part in config.trained if part in SCORED_BY]
    for holds, said in (
        (source != "none", f"the model has no classifier and no clues (clue_source={source!r})"),
        (processor.says_findings, f"the prompt style {processor.prompt_style!r} names no findings"),
        (not trained, f"what is seen would change, since {', '.join(trained)} is trained"),
    ):
        if not holds:
            raise ConfigError(f"data.predicted_findings: {config.data.predicted_findings}, but {said}")


@torch.no_grad()
def predict_findings(
    accelerator: Accelerator, model: Any, sources: Sequence[SourceData], processor: TRRGProcessor, batch_size: int
) -> None:
    """Fill `SourceData.predicted` of the sources with images.

    The main process looks at every image once, without augmentation, and tells the others, so that all of them, however
    many, have the same. A resumed run looks again.
    """
    model.eval()
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if part_of(name) in SCORED_BY:  # a quantised language model must not be moved
            weight.data = weight.data.to(accelerator.device)
    looked: dict[Any, list[Seen]] = {}  # the same studies are often a source of two kinds
    for source in sources:
        if source.images is not None:
            key = (source.source.path, source.source.split, source.source.max_studies)
            if key not in looked:
                found = [_predicted(model, source, processor, batch_size) if accelerator.is_main_process else None]
                looked[key] = broadcast_object_list(found)[0]
            source.predicted = looked[key]


def _predicted(model: Any, source: SourceData, processor: TRRGProcessor, batch_size: int) -> list[Seen]:
    assert source.images is not None
    clues = processor.clue_tensors() if model.config.uses_clue_encoder else {}
    found: list[Seen] = []
    for start in tqdm(range(0, len(source.studies), batch_size), desc=f"look {source.source.path}", unit="batch"):
        indices = range(start, min(start + batch_size, len(source.studies)))
        pixels, mask = pad_views([source.images.get(index) for index in indices], processor.image_processor)
        inputs = send_to_device({"pixel_values": pixels, "image_mask": mask, **clues}, model.device)
        look = model.model.look(**inputs)
        chances = (torch.logit(look.clue_scores.float(), 1e-4) - torch.logit(look.clue_thresholds, 1e-4)).sigmoid()
        for findings, row in zip(seen_findings(look, source.names), chances.tolist(), strict=True):
            found.append(Seen(findings, dict(zip(source.names, row, strict=True))))
    return found
