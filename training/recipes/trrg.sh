#!/usr/bin/env bash
# TRRG (arXiv 2408.12141) on MIMIC-CXR: data, both stages, scores. Run it with .venv active, on a machine with eight GPUs.
# Never run by us: there was no GPU and no MIMIC-CXR. training/README.md has the estimate of memory and time.
#   bash training/recipes/trrg.sh mimic-cxr-jpg/2.1.0 mimic-cxr-reports
set -euo pipefail
cd "$(dirname "$0")/../.."
jpg=${1:?folder of MIMIC-CXR-JPG} reports=${2:?folder of the unpacked mimic-cxr-reports.zip}

python -m training.builders.mimic --jpg "$jpg" --reports "$reports" --out data/mimic-cxr --workers 8

# stage 1 on four GPUs, as in the author code: 4 x 160 studies
accelerate launch --config_file training/accelerate/ddp_8gpu.yaml --num_processes 4 training/pretrain.py --config training/configs/trrg-stage1-mimic.yaml
python -m training.measure.clues --config training/configs/trrg-stage1-mimic.yaml

# stage 2; on one GPU of 24 GiB: training/configs/trrg-stage2-mimic-qlora.yaml
accelerate launch --config_file training/accelerate/ddp_8gpu.yaml training/finetune.py --config training/configs/trrg-stage2-mimic.yaml

accelerate launch --config_file training/accelerate/ddp_8gpu.yaml evaluation/generate.py --checkpoint runs/trrg-stage2-mimic/model --data data/mimic-cxr --split test --views 2 --bf16 --out runs/trrg-reports
python evaluation/score.py runs/trrg-reports/predictions.jsonl --out runs/trrg-reports/scores --treatments r2gen_mimic ptb
python hub_cards/publish.py runs/trrg-stage2-mimic/model --out runs/trrg-published
