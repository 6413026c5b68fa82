"""How studies become tensors and tensors become reports. Importing this package registers the processors."""

from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from configuration_trrg import TRRGConfig, __version__
from processing_trrg.batch_trrg import StudyBatch, StudyError
from processing_trrg.chat_trrg import unpadded
from processing_trrg.conversation_trrg import TalkedStudy
from processing_trrg.corrected_trrg import kept_but_for
from processing_trrg.grey_trrg import GreyRange, stretch
from processing_trrg.grounding_trrg import FindingBox, GroundedSentence, box_text, evidence_boxes, read_grounded
from processing_trrg.image_processing_trrg import Placement, PreparedView, TRRGImageProcessor
from processing_trrg.image_trrg import Radiograph, list_views, read_radiograph
from processing_trrg.picture_trrg import RadiographError
from processing_trrg.pipeline_trrg import RadiologyReportPipeline, prepare_studies
from processing_trrg.processing_trrg import TRRGProcessor
from processing_trrg.prompt_trrg import (
    CHEXPERT_14,
    PromptError,
    check_clues,
    correction_request,
    follow_up,
    report_messages,
    seen_findings,
)
from processing_trrg.report_trrg import (
    Change,
    ClueScore,
    Correction,
    Report,
    compare_reports,
    report_text,
    split_report,
)
from processing_trrg.revised_trrg import revise_reports
from processing_trrg.statements_trrg import Statement, look_up

AutoImageProcessor.register(
    TRRGConfig, image_processor_classes=dict.fromkeys(("pil", "torchvision"), TRRGImageProcessor), exist_ok=True
)
AutoProcessor.register(TRRGConfig, TRRGProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "radiology-report", pipeline_class=RadiologyReportPipeline, pt_model=AutoModelForImageTextToText
)

__all__ = [
    "CHEXPERT_14",
    "Change",
    "ClueScore",
    "Correction",
    "FindingBox",
    "GreyRange",
    "GroundedSentence",
    "Placement",
    "PreparedView",
    "PromptError",
    "Radiograph",
    "RadiographError",
    "RadiologyReportPipeline",
    "Report",
    "Statement",
    "StudyBatch",
    "StudyError",
    "TRRGImageProcessor",
    "TRRGProcessor",
    "TalkedStudy",
    "__version__",
    "box_text",
    "check_clues",
    "compare_reports",
    "correction_request",
    "evidence_boxes",
    "follow_up",
    "kept_but_for",
    "list_views",
    "look_up",
    "prepare_studies",
    "read_grounded",
    "read_radiograph",
    "report_messages",
    "report_text",
    "revise_reports",
    "seen_findings",
    "split_report",
    "stretch",
    "unpadded",
]
