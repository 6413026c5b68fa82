"""The line that goes with every number, so that two numbers can be known to be comparable."""

VERSION = "0.1.0"
LABELER = "rules-0.3.0"
"""The built-in labeler; another number where its labels change."""


def signature(metric: str, **fields: object) -> str:
    """How a number was made, in the manner of sacreBLEU: `metric|field:value|...|version:X`."""
    return "|".join([metric, *(f"{name}:{value}" for name, value in fields.items()), f"version:{VERSION}"])
