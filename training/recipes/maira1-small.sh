#!/usr/bin/env bash
# MAIRA-1 at the size of the small checkpoint, from its data to its scores; training took half an hour of one CPU core. The
# real sets come from $TRRG_DATA. Run it with .venv active. Research only, never for clinical use.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=runs/maira1-small/model

# data: synthetic phantoms, X-rays with labels, Indiana University reports, and these in other words (by rules)
python -m training.builders.small_data --out runs/small-data
python -m training.builders.paraphrases --data runs/small-data/iu --swap-sentences --count 10 --out runs/maira1-small-paraphrases.jsonl

# the vision tower of the small checkpoint in the place of RAD-DINO, its language model in the place of Vicuna
python -m training.extract_part stage1 hub_cards/trrg-small --out runs/maira1-small-stage1
python -m training.extract_part language_model hub_cards/trrg-small --out runs/trrg-small-language-model

# the one stage of MAIRA-1
python training/finetune.py --config training/configs/maira1-small.yaml data.paraphrases=runs/maira1-small-paraphrases.jsonl

# scores: phantoms, unseen NIH patients
python -m evaluation.score_phantoms --checkpoint "$model"
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/maira1-small-nih
python -m evaluation.score_labels runs/maira1-small-nih/predictions.jsonl --out runs/maira1-small-nih

# the Hub folder
python hub_cards/publish.py "$model" --out runs/maira1-small-published
