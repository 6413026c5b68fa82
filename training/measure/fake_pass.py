"""One training pass of a model that has shapes and no data: the bytes it keeps for the backward pass, and its FLOPs.

PyTorch's fake tensors run the real layers; what autograd would save is counted, storage by storage. The model's own
`forward` looks into its masks, which fake tensors do not have, so the layers are called here one after the other.

Shapes: B studies, V views, n = B * V, C clues, L clue tokens, T text tokens, Dt width of the text model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.modeling_layers import GradientCheckpointingLayer

from modeling_trrg import TRRGForConditionalGeneration
from modeling_trrg.clue_trrg import ClueBank
from modeling_trrg.encoder_trrg import SeenImages
from training.run.trained_parts import checkpoint_layers


@dataclass
class Sizes:
    """What a forward pass reads.

    Attributes:
        text_tokens: prompt and report of a study, image placeholders apart.
        sentences: stage 1, all of the pass.
        sentence_tokens: of a sentence, or of a report for the query transformer.
    """

    studies: int
    views: int
    text_tokens: int
    sentences: int
    sentence_tokens: int
    clues: int
    clue_tokens: int


@dataclass
class Pass:
    """Bytes kept for the backward pass, without and with gradient checkpointing; the largest tensor among them; and the
    floating-point operations of forward and backward pass, recomputation counted where it is on."""

    saved: int
    saved_with_checkpointing: int
    largest: int
    flops: int


def fake_pass(model: Any, sizes: Sizes, dtype: torch.dtype, checkpointing: bool) -> Pass:
    """Run forward and backward pass of a model on the meta device. dtype: that of the computation."""
    mode = FakeTensorMode()
    with mode:
        _from_meta(model, dtype)
    known = {_key(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}
    by_layer: dict[int, int] = {}
    inputs: dict[int, int] = {}
    inside: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        key = _key(tensor)
        if key not in known and key not in saved:
            saved[key] = tensor.untyped_storage()
            if inside:
                by_layer[inside[-1]] = by_layer.get(inside[-1], 0) + saved[key].nbytes()
        return tensor

    def enter(layer: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        inside.append(id(layer))
        tensors = [t for t in (*arguments, *named.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
        inputs[id(layer)] = sum(t.numel() * t.element_size() for t in tensors)

    handles = []
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(layer.register_forward_hook(lambda *_: inside.pop() and None))
    with mode, _default_dtype(dtype):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            _loss(model, sizes)
        for handle in handles:
            handle.remove()
        if checkpointing:
            checkpoint_layers(model)
        with FlopCounterMode(display=False) as counter:
            _loss(model, sizes).backward()
    total = sum(storage.nbytes() for storage in saved.values())
    recomputed = {layer: kept for layer, kept in by_layer.items() if inputs[layer]}
    kept_inputs = sum(inputs[layer] for layer in recomputed)
    low = total - sum(recomputed.values()) + kept_inputs + max(recomputed.values(), default=0)
    largest = max((storage.nbytes() for storage in saved.values()), default=0)
    return Pass(total, min(low, total), largest, counter.get_total_flops())


def _loss(model: Any, sizes: Sizes) -> torch.Tensor:
    seen = _see(model.model, sizes)
    bank = _bank(model.model, sizes) if model.config.uses_clue_encoder else None
    if isinstance(model, TRRGForConditionalGeneration):
        return _language_loss(model, sizes, seen, bank)
    return _contrastive_loss(model, sizes, seen, bank)


def _see(encoder: Any, sizes: Sizes) -> SeenImages:
    size, n = encoder.config.image_size, sizes.studies * sizes.views
    outputs = encoder.vision_tower(torch.empty(n, 3, size, size))
    hidden = outputs.last_hidden_state
    if hidden.dim() == 4:
        hidden = hidden.flatten(2).transpose(1, 2)
    patches = hidden[:, encoder.config.num_prefix_tokens :]
    index = torch.zeros(n, dtype=torch.long)
    image_mask = torch.ones(sizes.studies, sizes.views, dtype=torch.bool)
    return SeenImages(patches, patches.mean(1), index, image_mask, outputs)


def _bank(encoder: Any, sizes: Sizes) -> ClueBank:
    ids = torch.zeros(sizes.clues, sizes.clue_tokens, dtype=torch.long)
    hidden, vectors = encoder.embed_sentences(ids, None)
    pairwise = encoder.config.clue_scoring == "pairwise"
    negative: Any = encoder.embed_sentences(ids, None)[1] if pairwise else None
    return ClueBank(hidden, ids.bool(), vectors, negative, torch.ones(sizes.clues, dtype=torch.bool))


def _language_loss(model: Any, sizes: Sizes, seen: SeenImages, bank: ClueBank | None) -> torch.Tensor:
    encoder, config, studies = model.model, model.config, sizes.studies
    connector = encoder.multi_modal_projector
    if config.connector == "clue_interaction":
        chosen = min(config.num_selected_clues, sizes.clues) * sizes.clue_tokens if bank is not None else 0
        width = connector.clue_in.weight.shape[1]
        tokens = torch.empty(studies, chosen, width)
        if bank is not None:
            _, scores = encoder.score_clues(seen, bank)
            tokens = tokens + bank.tokens.flatten(0, 1)[:chosen] * scores.mean()
        mask = torch.ones(studies, chosen, dtype=torch.bool)
        features = connector(seen.patches, tokens, mask, seen.study_index)
    elif config.connector == "mlp":
        features = connector(seen.patches)
    else:
        features = connector(encoder.query_transformer(seen.patches))
    words = encoder.get_input_embeddings()(torch.zeros(studies, sizes.text_tokens, dtype=torch.long))
    embeds = torch.cat([features.reshape(studies, -1, words.shape[-1]).to(words.dtype), words], dim=1)
    hidden = encoder.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    labels = torch.zeros(embeds.shape[:2], dtype=torch.long)
    loss = model.loss_function(logits=model.lm_head(hidden), labels=labels, vocab_size=config.text_config.vocab_size)
    if model.report_projection is not None and bank is not None:
        loss = loss + (model.report_projection(hidden.mean(1)) @ bank.directions().T).mean()
    return loss


def _contrastive_loss(model: Any, sizes: Sizes, seen: SeenImages, bank: ClueBank | None) -> torch.Tensor:
    encoder, config = model.model, model.config
    ids = torch.zeros(sizes.sentences, sizes.sentence_tokens, dtype=torch.long)
    parts = []
    if encoder.query_transformer is not None:
        former, mask = encoder.query_transformer, torch.ones_like(ids)
        text = former(None, ids, mask, mode="text")
        pairs = model.query_projection(former(seen.patches)) @ model.text_projection(text[:, 0]).T
        patches, thrice = seen.patches.repeat(3, 1, 1), torch.zeros(3 * len(ids), ids.shape[1], dtype=torch.long)
        matched = former(patches, thrice, torch.ones_like(thrice), mode="matching")[:, : former.num_queries]
        written = former(seen.patches, ids, mask, mode="generation")[:, former.num_queries :]
        words = model.generation_head(written) @ former.word_embeddings.weight.T
        parts += [pairs.logsumexp(1).mean(), model.matching_head(matched).mean()]
        parts.append(F.cross_entropy(words.flatten(0, 1), ids.flatten()))
    elif encoder.clue_encoder is not None:
        vectors = encoder.embed_sentences(ids, None)[1]
        parts.append(encoder.sentence_logits(seen, vectors).logsumexp(1).mean())
    if config.clue_source == "classifier" or (bank is not None and config.clue_scoring == "pairwise"):
        parts.append(F.softplus(encoder.score_clues(seen, bank)[0]).mean())
    return torch.stack([part.float() for part in parts]).sum()


def _from_meta(model: nn.Module, dtype: torch.dtype) -> None:
    """Put fake CPU tensors in place of meta ones: only on a device are the kernels chosen that a real run uses."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in made:
                fake = torch.empty(parameter.shape, dtype=dtype, device="cpu")
                made[id(parameter)] = nn.Parameter(fake, parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            kept = dtype if buffer.is_floating_point() and "inv_freq" not in name else buffer.dtype
            setattr(module, name, torch.empty(buffer.shape, dtype=kept, device="cpu"))


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
