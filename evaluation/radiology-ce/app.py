"""The Space of radiology-ce: two reports go in, or a file of pairs; out come the labels of both with the words that
decided them, and every named convention with its signature. Never for clinical use.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

MAX_PAIRS = 1_000
MAX_CHARACTERS = 20_000
COLUMNS = ("prediction", "reference")
NUMBERS = ("value", "low", "high")
LABELS = {1: "present", 0: "absent", -1: "uncertain", None: "not mentioned"}
EXAMPLES = [
    ["Small left pleural effusion. No pneumothorax.", "Left pleural effusion. No pneumothorax."],
    ["The lungs are clear.", "Possible left lower lobe pneumonia."],
]

metric = evaluate.load("trrg/radiology-ce")


def score(pairs: list[list[str]]) -> list[list[Any]]:
    """Rows of the table: name, value, low, high and signature of every score of pairs (prediction, reference)."""
    if not 1 <= len(pairs) <= MAX_PAIRS:
        raise gr.Error(f"Give 1 to {MAX_PAIRS} pairs of reports; got {len(pairs)}.")
    longest = max(len(text or "") for pair in pairs for text in pair)
    if longest > MAX_CHARACTERS:
        raise gr.Error(f"A report has {longest} characters; at most {MAX_CHARACTERS} are read here.")
    predictions, references = map(list, zip(*pairs, strict=True))
    told = {} if len(pairs) > 1 else {"resamples": 0}  # drawn from itself alone, a pair has no interval
    scores = metric.compute(predictions=predictions, references=references, **told)["scores"]
    return [
        [name, *("" if row[key] is None else round(row[key], 4) for key in NUMBERS), row["signature"]]
        for name, row in scores.items()
    ]


def find(words: str | None, text: str) -> tuple[int, int] | None:
    """Where words stand in a text, whatever the blanks between them; None where they do not."""
    pattern = r"\s+".join(map(re.escape, (words or "").split()))
    found = re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) if pattern else None
    return None if found is None else found.span()


def mark(report: str, reasons: dict[str, dict[str, Any]]) -> list[tuple[str, str | None]]:
    """The report in pieces: the words that named a finding with "Edema: absent", those that decided its label with
    "decides", the others with None."""
    spans: dict[tuple[int, int], list[str]] = {}
    for name, reason in reasons.items():
        whole = find(reason["scope"], report) if reason["label"] is not None else None
        for words, label in ((reason["mention"], f"{name}: {LABELS[reason['label']]}"), (reason["cue"], "decides")):
            if whole and (found := find(words, report[slice(*whole)])):
                spans.setdefault((whole[0] + found[0], whole[0] + found[1]), []).append(label)
    pieces: list[tuple[str, str | None]] = []
    place = 0
    for (start, end), names in sorted(spans.items()):
        if start >= place:  # words inside of others stay with those
            pieces += [(report[place:start], None), (report[start:end], "; ".join(dict.fromkeys(names)))]
            place = end
    return [piece for piece in [*pieces, (report[place:], None)] if piece[0]]


def compare(prediction: str, reference: str) -> tuple[Any, Any, list[list[str]], list[list[Any]]]:
    """Both reports marked, a row for each label that one of them has, and the scores of the pair."""
    scores = score([[prediction, reference]])
    ours, theirs = metric.explain(prediction), metric.explain(reference)
    rows = []
    for name in ours:
        if ours[name]["label"] is not None or theirs[name]["label"] is not None:
            told = [text for reason in (theirs[name], ours[name]) for text in (LABELS[reason["label"]], reason["rule"])]
            rows.append([name, "same" if told[0] == told[2] else "differs", *told])
    return mark(prediction, ours), mark(reference, theirs), rows, scores


def score_file(path: str | None) -> list[list[Any]]:
    """The scores of a CSV file or of JSON lines with the columns prediction and reference."""
    if path is None:
        raise gr.Error("Upload a file first.")
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as lines:  # a quoted report may have several
            is_table = path.lower().endswith(".csv")
            rows = list(csv.DictReader(lines)) if is_table else [json.loads(line) for line in lines if line.strip()]
        pairs = [[row[column] or "" for column in COLUMNS] for row in rows]
        if not all(isinstance(text, str) for pair in pairs for text in pair):
            raise TypeError
    except (ValueError, KeyError, TypeError, csv.Error) as error:  # its words could name a path of the server
        raise gr.Error(
            "Expected a CSV file or JSON lines in UTF-8 with the columns prediction and reference."
        ) from error
    return score(pairs)


SCORES = {"headers": ["score", *NUMBERS, "signature"], "interactive": False, "wrap": True}
SCORES["column_widths"] = ["24%", "8%", "8%", "8%", "52%"]  # or a signature is one line, and its end out of sight
HEADERS = ["observation", "", "reference", "because", "prediction", "because"]

with gr.Blocks(title="radiology-ce") as space:
    gr.Markdown(f"# radiology-ce\n{metric.description}\nGive no text that you have no right to share.")
    with gr.Tab("Two reports"):
        with gr.Row():
            prediction = gr.Textbox(EXAMPLES[0][0], label="Generated report", lines=5, max_length=MAX_CHARACTERS)
            reference = gr.Textbox(EXAMPLES[0][1], label="Radiologist's report", lines=5, max_length=MAX_CHARACTERS)
        gr.Examples(EXAMPLES, inputs=[prediction, reference])
        button = gr.Button("Compare", variant="primary")
        with gr.Row():
            marked = [
                gr.HighlightedText(label=f"{whose}, with the words that decided", show_legend=True)
                for whose in ("Generated", "Radiologist's")
            ]
        labels = gr.Dataframe(headers=HEADERS, label="Labels", interactive=False, wrap=True)
        table = gr.Dataframe(label="Scores of this pair", **SCORES)
        button.click(compare, inputs=[prediction, reference], outputs=[*marked, labels, table])
    with gr.Tab("A file"):
        gr.Markdown(f"CSV or JSON lines, UTF-8, columns prediction and reference, at most {MAX_PAIRS} pairs.")
        file = gr.File(file_types=[".csv", ".jsonl"], label="Pairs of reports")
        score_it = gr.Button("Score the file", variant="primary")
        many = gr.Dataframe(label="Scores", **SCORES)
        score_it.click(score_file, inputs=file, outputs=many)

if __name__ == "__main__":
    space.queue(max_size=16).launch(max_file_size="32mb")
