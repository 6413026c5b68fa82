"""What a TRRG model is made of. Importing this package registers ``TRRGConfig`` with ``AutoConfig``."""

from transformers import AutoConfig

from configuration_trrg.configuration_trrg import TRRGConfig

__version__ = "0.1.0"  # of all three packages

AutoConfig.register("trrg", TRRGConfig, exist_ok=True)

__all__ = ["TRRGConfig", "__version__"]
