"""The Space of radiology-ce: pairs of reports go in, every named convention comes out. Never for clinical use."""

from typing import Any

import evaluate
import gradio as gr

MAX_PAIRS = 1_000
MAX_CHARACTERS = 20_000
EXAMPLE = [
    ["Small left pleural effusion. No pneumothorax.", "Left pleural effusion. No pneumothorax."],
    ["The lungs are clear.", "Left lower lobe pneumonia."],
]

metric = evaluate.load("trrg/radiology-ce")


def score(pairs: list[list[str]]) -> list[list[Any]]:
    """Rows of the table: name, value, low, high and signature of every score."""
    pairs = [pair for pair in pairs if any(pair)]
    if not 1 <= len(pairs) <= MAX_PAIRS:
        raise gr.Error(f"Give 1 to {MAX_PAIRS} pairs of reports; got {len(pairs)}.")
    longest = max(len(text or "") for pair in pairs for text in pair)
    if longest > MAX_CHARACTERS:
        raise gr.Error(f"A report has {longest} characters; at most {MAX_CHARACTERS} are read here.")
    predictions, references = map(list, zip(*pairs, strict=True))
    scores = metric.compute(predictions=predictions, references=references)["scores"]
    numbers = ("value", "low", "high")
    return [[name, *(round(row[key], 4) for key in numbers), row["signature"]] for name, row in scores.items()]


with gr.Blocks(title="radiology-ce") as space:
    gr.Markdown(f"# radiology-ce\n{metric.description}\nGive no text that you have no right to share.")
    reports = gr.Dataframe(EXAMPLE, headers=["prediction", "reference"], datatype="str", type="array", wrap=True)
    button = gr.Button("Score", variant="primary")
    table = gr.Dataframe(headers=["score", "value", "low", "high", "signature"], interactive=False)
    button.click(score, inputs=reports, outputs=table)

if __name__ == "__main__":
    space.queue(max_size=16).launch()
