#!/usr/bin/env bash
# RaDialog (arXiv 2311.18681) on MIMIC-CXR: findings of frontal images, alignment, LoRA, scores. Run it with .venv
# active, on a machine with eight GPUs. Never run by us: there was no GPU and no MIMIC-CXR.
#   bash training/recipes/radialog.sh mimic-cxr-jpg/2.1.0 mimic-cxr-reports
set -euo pipefail
cd "$(dirname "$0")/../.."
jpg=${1:?folder of MIMIC-CXR-JPG} reports=${2:?folder of the unpacked mimic-cxr-reports.zip}

python -m training.builders.mimic --jpg "$jpg" --reports "$reports" --findings-only --frontal-only --out data/mimic-cxr-findings --workers 8

# stage 1, one GPU: the alignment module and the findings classifier, which the prompt is written from
python training/pretrain.py --config training/configs/radialog-stage1-mimic.yaml

# stage 2: LoRA on an 8-bit language model
accelerate launch --config_file training/accelerate/ddp_8gpu.yaml training/finetune.py --config training/configs/radialog-stage2-mimic.yaml

accelerate launch --config_file training/accelerate/ddp_8gpu.yaml evaluation/generate.py --checkpoint runs/radialog-stage2-mimic/model --data data/mimic-cxr-findings --split test --section findings --views 1 --bf16 --out runs/radialog-reports
python evaluation/score.py runs/radialog-reports/predictions.jsonl --out runs/radialog-reports/scores --conventions radialog --treatments lower ptb
python hub_cards/publish.py runs/radialog-stage2-mimic/model --out runs/radialog-published
