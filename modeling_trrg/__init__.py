"""What TRRG computes. Importing this package registers its models with the auto classes."""

from transformers import AutoModel, AutoModelForImageTextToText, AutoModelForPreTraining

from configuration_trrg import TRRGConfig, __version__
from modeling_trrg.contrastive_trrg import TRRGForContrastivePretraining
from modeling_trrg.modeling_trrg import TRRGForConditionalGeneration, TRRGModel

AutoModel.register(TRRGConfig, TRRGModel, exist_ok=True)
AutoModelForImageTextToText.register(TRRGConfig, TRRGForConditionalGeneration, exist_ok=True)
AutoModelForPreTraining.register(TRRGConfig, TRRGForContrastivePretraining, exist_ok=True)

__all__ = ["TRRGForConditionalGeneration", "TRRGForContrastivePretraining", "TRRGModel", "__version__"]
