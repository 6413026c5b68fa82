#!/usr/bin/env bash
# MAIRA-1 (arXiv 2311.13668) on MIMIC-CXR: findings of frontal images, paraphrases, one stage, scores. Run it with .venv
# active, on a machine with eight GPUs. Never run by us: there was no GPU and no MIMIC-CXR.
#   bash training/recipes/maira1.sh mimic-cxr-jpg/2.1.0 mimic-cxr-reports CHAT_MODEL
set -euo pipefail
cd "$(dirname "$0")/../.."
jpg=${1:?folder of MIMIC-CXR-JPG} reports=${2:?folder of the unpacked mimic-cxr-reports.zip} chat_model=${3:?a chat model that rewrites reports}

python -m training.builders.mimic --jpg "$jpg" --reports "$reports" --findings-only --frontal-only --out data/mimic-cxr-findings --workers 8
python -m training.builders.paraphrases --data data/mimic-cxr-findings --model "$chat_model" --out data/mimic-cxr-paraphrases.jsonl

# all weights of a 7B: they have to be sharded
accelerate launch --config_file training/accelerate/fsdp2_8gpu.yaml training/finetune.py --config training/configs/maira1-mimic.yaml

accelerate launch --config_file training/accelerate/ddp_8gpu.yaml evaluation/generate.py --checkpoint runs/maira1-mimic/model --data data/mimic-cxr-findings --split test --section findings --views 1 --bf16 --out runs/maira1-reports
python evaluation/score.py runs/maira1-reports/predictions.jsonl --out runs/maira1-reports/scores --conventions maira f1chexbert --treatments ptb
python hub_cards/publish.py runs/maira1-mimic/model --out runs/maira1-published
