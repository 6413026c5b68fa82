#!/usr/bin/env bash
# The small checkpoint, from its data to its scores: about an hour on two CPU cores. The real sets come from $TRRG_DATA.
# Run it with .venv active. Research only, never for clinical use.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=runs/trrg-small-stage2/model

# data: synthetic phantoms, NIH images with labels, Indiana University reports
python -m training.builders.small_data --out runs/small-data

# stage 1: what is on the image. To train stage 2 alone again, take stage 1 out of the shipped checkpoint instead:
#   python -m training.extract_stage1 hub_cards/trrg-small --out runs/trrg-small-stage1/model
python training/pretrain.py --config training/configs/trrg-small-stage1.yaml
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml

# stage 2: how it is said
python training/finetune.py --config training/configs/trrg-small-stage2.yaml

# scores: phantoms, unseen NIH patients, IU reports from oracle clues, shuffled clues and none
python -m evaluation.score_phantoms --checkpoint "$model"
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-nih
python -m evaluation.score_labels runs/trrg-small-nih/predictions.jsonl --out runs/trrg-small-nih
python -m evaluation.nearest_neighbour --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-nearest
python -m evaluation.score_labels runs/trrg-small-nearest/predictions.jsonl --out runs/trrg-small-nearest
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --oracle-clues --out runs/trrg-small-oracle
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --shuffle-clues 0 --out runs/trrg-small-shuffled
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --no-clues --out runs/trrg-small-none
python evaluation/score.py runs/trrg-small-oracle/predictions.jsonl --out runs/trrg-small-oracle/scores --conventions r2gen --treatments r2gen_iu
python evaluation/score.py runs/trrg-small-shuffled/predictions.jsonl --out runs/trrg-small-shuffled/scores --conventions r2gen --treatments r2gen_iu
python evaluation/score.py runs/trrg-small-none/predictions.jsonl --out runs/trrg-small-none/scores --conventions r2gen --treatments r2gen_iu

# the Hub folder
python hub_cards/publish.py "$model" --out runs/trrg-small-published
