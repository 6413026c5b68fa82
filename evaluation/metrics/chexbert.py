"""CheXbert as a labeler, from a checkpoint the user brings.

Smit et al., "CheXbert" (2020): BERT, and on its [CLS] vector one linear head for each observation (four classes: not
mentioned, present, absent, uncertain; two for No Finding). **The checkpoint is not free software**: Stanford's licence
allows internal, academic, non-commercial use and forbids passing it on, so nothing is downloaded here; obtain
`chexbert.pth` under that licence. It is read as tensors only (`safetensors` or `torch.load(weights_only=True)`).

torch and transformers are imported when a labeler is made, so that the metric needs numpy only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.reading.observations import CHEXPERT_14, LABEL_OF_CODE, NO_FINDING, Labels

# The order of the published heads, which is not the order of the CheXpert files.
HEADS = (*(name for name in CHEXPERT_14 if name != NO_FINDING), NO_FINDING)
MAX_TOKENS = 512


def read_state_dict(checkpoint: Path) -> dict[str, Any]:
    """Tensors by name, without the prefixes that training left on them. No pickled code is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its tensors are not those of CheXbert.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f"CheXbert checkpoint {checkpoint} not found; bring your own")
    if checkpoint.suffix == ".safetensors":
        from safetensors.torch import load_file

        stored: dict[str, Any] = load_file(checkpoint)
    else:
        import torch

        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): tensor for name, tensor in stored.get("model_state_dict", stored).items()}
    expected = {f"linear_heads.{head}.weight" for head in range(len(HEADS))} | {
        "bert.embeddings.word_embeddings.weight"
    }
    if missing := sorted(expected - state.keys()):
        raise ValueError(f"{checkpoint} is not a CheXbert checkpoint: it lacks {', '.join(missing)}")
    return state


class CheXbertLabeler:
    """Text -> {observation: 1, 0, -1, None} with CheXbert.

    Args:
        checkpoint: `chexbert.pth`, or the same tensors as `.safetensors`.
        tokenizer: folder or name of the tokenizer it was trained with (`bert-base-uncased`).
        batch_size: reports in one forward pass.
        device: of torch; the CPU is slow (about two reports a second a core) and works.
    """

    def __init__(self, checkpoint: Path | str, tokenizer: str, batch_size: int = 32, device: str = "cpu") -> None:
        from transformers import AutoTokenizer, BertConfig, BertModel

        state = read_state_dict(Path(checkpoint))
        words, width = state["bert.embeddings.word_embeddings.weight"].shape
        layers = {name.split(".")[3] for name in state if name.startswith("bert.encoder.layer.")}
        config = BertConfig(
            vocab_size=words,
            hidden_size=width,
            num_hidden_layers=len(layers),
            num_attention_heads=width // 64,
            intermediate_size=len(state["bert.encoder.layer.0.intermediate.dense.bias"]),
            max_position_embeddings=len(state["bert.embeddings.position_embeddings.weight"]),
        )
        self.bert = BertModel(config, add_pooling_layer=False).eval().to(device)
        bert = {name.removeprefix("bert."): tensor for name, tensor in state.items() if name.startswith("bert.")}
        missing, unexpected = self.bert.load_state_dict(bert, strict=False)
        unexpected = [name for name in unexpected if not name.startswith(("pooler.", "embeddings.position_ids"))]
        if missing or unexpected:
            raise ValueError(f"{checkpoint}: missing tensors {missing}, unexpected tensors {unexpected}")
        self.heads = [
            (state[f"linear_heads.{head}.weight"].to(device), state[f"linear_heads.{head}.bias"].to(device))
            for head in range(len(HEADS))
        ]
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        if len(self.tokenizer) != words:
            raise ValueError(f"tokenizer {tokenizer} has {len(self.tokenizer)} words; the checkpoint has {words}")
        self.max_tokens = min(MAX_TOKENS, config.max_position_embeddings)
        self.batch_size = batch_size
        self.device = device

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        """(rows, [CLS] vectors `[b, hidden]`) of batches of reports of like length."""
        import torch

        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            inputs = self.tokenizer(
                [" ".join(texts[row].split()) for row in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode():
                yield rows, self.bert(**inputs).last_hidden_state[:, 0]

    def __call__(self, texts: Sequence[str]) -> list[dict[str, int | None]]:
        """Labels of every report, in order. Reports longer than 512 tokens are cut, as published."""
        labels: list[Labels] = [dict.fromkeys(CHEXPERT_14) for _ in texts]
        for rows, vectors in self._batches(texts):
            for name, (weight, bias) in zip(HEADS, self.heads, strict=True):
                for row, code in zip(rows, (vectors @ weight.T + bias).argmax(dim=1).tolist(), strict=True):
                    labels[row][name] = LABEL_OF_CODE[code]
        return labels

    def embed(self, texts: Sequence[str]) -> Any:
        """[CLS] vectors `[N, hidden]` (float32), which RadCliQ compares by their cosine."""
        import torch

        vectors = {row: vector for rows, batch in self._batches(texts) for row, vector in zip(rows, batch, strict=True)}
        return torch.stack([vectors[row] for row in range(len(texts))])
