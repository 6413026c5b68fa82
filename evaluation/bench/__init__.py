"""Speed of everything beside its baseline: `python -m evaluation.bench`."""
