"""The Space: the views of one study go in; report, clue table and heat maps come out. Never for clinical use.

TRRG_CHECKPOINT=demo/trrg-small python hub_cards/space/app.py
"""

import os
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import pipeline

MAX_VIEWS = 4
MAX_CHARACTERS = 2_000
NUM_HEAT_MAPS = 3
DISPLAY_SIDE = 640  # pixels
NOTICE = "**Research only, never for clinical use.** Upload no image that you have no right to share."

checkpoint = os.environ["TRRG_CHECKPOINT"]
write = pipeline("radiology-report", model=checkpoint, trust_remote_code=True)


def enlarge(picture: NDArray) -> NDArray:
    """`[h, w]` to `[640, 640]`, bilinear."""
    tensor = torch.from_numpy(np.array(picture, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(tensor, (DISPLAY_SIDE, DISPLAY_SIDE), mode="bilinear")[0, 0].numpy()


def heat_map(evidence: NDArray, score: float) -> NDArray:
    """One view's evidence `[h, w]` to an opacity `[640, 640]`: clear up to the median, 0.6 x score at the largest."""
    low, high = float(np.median(evidence)), float(evidence.max())
    return 0.6 * score * np.clip((enlarge(evidence) - low) / max(high - low, 1e-6), 0, 1)


def write_report(files: list[str] | None, indication: str, technique: str) -> tuple[str, list[list[Any]], Any]:
    """Report as Markdown, rows of the clue table, and the first view with the heat maps of the leading clues."""
    if not files or len(files) > MAX_VIEWS:
        raise gr.Error(f"Upload 1 to {MAX_VIEWS} views of one study; got {len(files or [])}.")
    for name, words in (("indication", indication), ("technique", technique)):
        if len(words) > MAX_CHARACTERS:
            raise gr.Error(f"The {name} has {len(words)} characters; at most {MAX_CHARACTERS} are read.")
    pictures = [Path(file).read_bytes() for file in files]  # a path would stand in an error
    study = {"images": pictures, "indication": indication.strip() or None, "technique": technique.strip() or None}
    try:
        report = write(study)
    except ValueError as error:  # an unreadable image; the message says which and why
        raise gr.Error(str(error)) from error

    doubted = [f"{said.text} *(no clue supports it)*" for said in report.sentences if said.support == "unsupported"]
    doubted += [f"{name} *(over its threshold, and not in the report)*" for name in report.left_out]
    check = "".join(f"\n- {line}" for line in doubted) or "\nnothing"
    words = f"### Findings\n{report.findings or 'none'}\n\n### Impression\n{report.impression or 'none'}"
    words += f"\n\n### Where report and clues differ{check}\n\n{NOTICE}"
    rows = [[">" if clue.selected else "", clue.name, round(clue.score, 2)] for clue in report.clues]
    picture = enlarge(write.image_processor.squares(pictures[:1])[0] / 255)
    seen = [clue for clue in report.clues if clue.selected and clue.name != "No Finding"][:NUM_HEAT_MAPS]
    annotations = [(heat_map(clue.evidence[0], clue.score), clue.name) for clue in seen]
    return words, rows, ((picture[..., None].repeat(3, axis=2) * 255).astype(np.uint8), annotations)


with gr.Blocks(title="TRRG") as space:
    gr.Markdown(f"# TRRG\nA chest X-ray goes in; a report comes out, with the disease clues behind it. {NOTICE}")
    with gr.Row():
        with gr.Column():
            views = gr.File(
                file_count="multiple", file_types=[".png", ".jpg", ".jpeg", ".dcm"], label="Views of one study"
            )
            indication = gr.Textbox(label="Indication", placeholder="Why was the study made?")
            technique = gr.Textbox(label="Technique", placeholder="Frontal view, two views ...")
            button = gr.Button("Write the report", variant="primary")
            report = gr.Markdown(label="Report")
        with gr.Column():
            picture = gr.AnnotatedImage(label="First view, with what supports the leading clues", height=DISPLAY_SIDE)
            table = gr.Dataframe(
                headers=["", "Clue", "Score"], label="Disease clues; > reached the language model", interactive=False
            )
    button.click(write_report, inputs=[views, indication, technique], outputs=[report, table, picture])

if __name__ == "__main__":
    space.queue(max_size=16).launch(max_file_size="32mb")
