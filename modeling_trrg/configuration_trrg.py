"""Alias, so that `from .configuration_trrg import TRRGConfig` holds here and in the flat folder of a Hub checkpoint."""

from configuration_trrg.configuration_trrg import TRRGConfig as TRRGConfig
