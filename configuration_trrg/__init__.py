"""What a TRRG model is made of. Importing this package registers ``TRRGConfig`` with ``AutoConfig``."""

from transformers import AutoConfig

from configuration_trrg.configuration_trrg import TRRGConfig

AutoConfig.register("trrg", TRRGConfig, exist_ok=True)

__all__ = ["TRRGConfig"]
