#!/usr/bin/env bash
# The small RaDialog, from its data to its scores: stage 1 took 80 minutes, stage 2 50 on two CPU cores that other work
# shared. The real sets come from $TRRG_DATA. Run it with .venv active. Research only, never for clinical use.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=runs/radialog-small-stage2/model

# data: synthetic phantoms, NIH images with labels, Indiana University reports
python -m training.builders.small_data --out runs/small-data

# the language model that stage 2 starts from; its tokenizer is stage 1's too
python -m training.extract_part language_model hub_cards/trrg-small --out runs/trrg-small-language-model

# stage 1: tower, findings classifier, alignment module; then the classifier's thresholds, which stage 2 inherits
python training/pretrain.py --config training/configs/radialog-small-stage1.yaml
python -m training.measure.clues --config training/configs/radialog-small-stage1.yaml
python -m training.calibrate runs/radialog-small-stage1/model --data runs/small-data/nih runs/small-data/nih_128 runs/small-data/phantoms --image-cache runs/small-data/cache --write

# stage 2: reports and the turns after them, with the findings in the prompt
accelerate launch --config_file training/accelerate/cpu_2.yaml training/finetune.py --config training/configs/radialog-small-stage2.yaml

# scores: reports of phantoms and of unseen NIH patients; questions and corrections beside the classifier alone
python -m evaluation.score_phantoms --checkpoint "$model"
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/radialog-small-nih
python -m evaluation.score_labels runs/radialog-small-nih/predictions.jsonl --out runs/radialog-small-nih
python -m evaluation.metrics.truthfulness runs/radialog-small-nih/predictions.jsonl --out runs/radialog-small-nih
python evaluation/dialogue.py --checkpoint "$model" --phantoms 120 --tasks binary_qa complete_qa synthetic_correction --out runs/radialog-small-dialogue-phantoms
python evaluation/dialogue.py --checkpoint "$model" --data runs/small-data/nih --split validation --train-split train --tasks binary_qa complete_qa correction --out runs/radialog-small-dialogue-nih

# the Hub folder
python hub_cards/publish.py "$model" --out runs/radialog-small-published
