"""What a call may ask beside its studies: in part by the habits of Transformers' processors."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from transformers.processing_utils import AudioKwargs, ImagesKwargs, ProcessingKwargs, VideosKwargs

NO_PADDING, NO_CUTTING = (False, "do_not_pad"), (None, False, "do_not_truncate")
# What callers of Transformers' processors pass by habit: the values it can have here, and why no other.
HABITS: dict[str, tuple[tuple, str]] = {
    "padding": ((None, True, "longest", "max_length", *NO_PADDING), "expected True, 'longest', 'max_length' or False"),
    "truncation": ((True, "longest_first", *NO_CUTTING), "expected True or False"),
    "add_special_tokens": ((None, False), "special tokens are written by the chat template only"),
    "return_tensors": (("pt",), "expected 'pt'"),
    "videos": ((None,), "a study has images only"),
    "audio": ((None,), "a study has images only"),
}
TEXT_OPTIONS = {
    "max_length", "padding_side", "pad_to_multiple_of", "return_mm_token_type_ids", "return_offsets_mapping",
    "return_text_replacement_offsets", "sanitize_control_tokens",
}  # fmt: skip


class TRRGProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]  # a TypedDict
    """Rarer arguments of `TRRGProcessor`, beside those that Transformers' processors share.

    Of these: `padding` (default True), `truncation` with `max_length` (default: the processor's own), `padding_side`
    (default left without `report` and right with it), `pad_to_multiple_of`, `return_offsets_mapping` (of `text`, (0, 0)
    for padding and `report`), `return_mm_token_type_ids`, and the settings of `TRRGImageProcessor`.

    Attributes:
        predicted_findings, likely_findings, possible_findings: of a study, names of findings, which the prompt of the
            style "radialog" names.
        compares: True to leave prior report and comparison out of the prompt of a study that has a prior report, where
            the report is compared with it afterwards (`revised_trrg`). It stays among the words of the batch, as
            `compared_with`.
        turns: of a study, pairs of a reply and the user's next request, behind the prompt, in the tokens that a
            `TalkedStudy` reads; `report` is the answer to the last one.
        study_ids: what errors call the studies.
        on_error: "raise" stops at the first bad study and names it; "skip" leaves bad studies out and lists them in
            `skipped` of the result. Then no study may be left: check `kept`.
    """

    predicted_findings: Sequence[Any] | None
    likely_findings: Sequence[Any] | None
    possible_findings: Sequence[Any] | None
    compares: bool
    turns: Sequence[Any] | None
    study_ids: Sequence[str] | None
    on_error: Literal["raise", "skip"]


# Transformers before 5.23 looks for it; a TypedDict inherits no attribute and takes none in its body.
TRRGProcessorKwargs._defaults = {}


def read_options(kwargs: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The rarer arguments of a call, flat; those of Transformers' nested groups (`text_kwargs`) too. What is said of
    videos or of sound has no effect.

    Args:
        kwargs: of the call.
        defaults: of the tokenizer; its padding and truncation hold where the call says nothing.

    Raises:
        TypeError: an unknown one.
        ValueError: one that is given twice, or a value that would be ignored (`HABITS`).
    """
    flat = {name: value for name, value in kwargs.items() if not name.endswith("_kwargs")}
    for group in kwargs.keys() - flat.keys():
        twice = sorted(kwargs[group].keys() & kwargs.keys())
        if twice and group != "common_kwargs":
            raise ValueError(f"{', '.join(twice)}: given twice, the second time in {group}")
        flat |= kwargs[group]
    known = TRRGProcessorKwargs.__annotations__.keys() | HABITS | TEXT_OPTIONS
    for shared in (ImagesKwargs, VideosKwargs, AudioKwargs):
        known |= shared.__annotations__.keys()
    if unknown := sorted(flat.keys() - known):
        raise TypeError(f"unknown arguments: {', '.join(unknown)}")
    flat = {name: defaults[name] for name in ("padding", "truncation", "max_length") if name in defaults} | flat
    for name, (legal, reason) in HABITS.items():
        if name in flat and not any(flat[name] is value or flat[name] == value for value in legal):
            raise ValueError(f"{name}: {reason}, got {flat[name]!r:.80}")
    if flat.get("on_error", "raise") not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {flat['on_error']!r}")
    for name in ("max_length", "pad_to_multiple_of"):
        if flat.get(name) is not None and not (isinstance(flat[name], int) and flat[name] > 0):
            raise ValueError(f"{name}: expected a positive number of tokens, got {flat[name]!r}")
    if flat.get("on_error") == "skip" and flat.get("return_offsets_mapping"):
        raise ValueError("on_error: 'skip' leaves rows out, so offsets would be those of other texts; expected 'raise'")
    if flat.get("padding") == "max_length" and flat.get("max_length") is None:
        raise ValueError("padding: 'max_length' needs max_length")
    return flat
