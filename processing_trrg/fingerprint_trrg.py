"""Is a tokenizer the one that a processor was saved with?"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(tokenizer) -> dict[str, Any]:
    """Number of tokens and SHA-256 of the sorted vocabulary."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {"size": len(tokenizer), "sha256": hashlib.sha256(vocabulary.encode()).hexdigest()}


def check_fingerprint(name: str, tokenizer, saved: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: `tokenizer`, called `name`, has another vocabulary than the `saved` fingerprint says.
    """
    found = fingerprint(tokenizer)
    if found != saved:
        raise ValueError(
            f"{name}: this is not the one the processor was saved with. It holds {found['size']:,} tokens "
            f"(hash {found['sha256'][:8]}), expected {saved['size']:,} (hash {saved['sha256'][:8]}); "
            f"its files are missing or were replaced"
        )
