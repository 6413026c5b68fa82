#!/usr/bin/env bash
# The small checkpoint, from its data to its scores: some three hours and a quarter on two CPU cores (data 3 minutes, stage
# 1 40 and 15 more, stage 2 two hours, by the pace of 2,000 steps; scores 20), or ten minutes on a GPU. Each command that is
# stopped goes on where it was. The real sets come from $TRRG_DATA. Run it with .venv active. Research only, never for clinical use.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=runs/trrg-small-stage2/model

# data: synthetic phantoms, also followed over time; X-rays with labels of three sources; Indiana University reports
python -m training.builders.small_data --out runs/small-data

# stage 1, then three times more by other seeds, and their mean: what is on the image, what a score means, clues in other words, over which
# score one is told. To train stage 2 again alone, take stage 1 out of the shipped checkpoint instead:
#   python -m training.extract_part stage1 hub_cards/trrg-small --out runs/trrg-small-mean/model
python training/pretrain.py --config training/configs/trrg-small-stage1.yaml
python training/pretrain.py --config training/configs/trrg-small-stage1-more.yaml run.seed=7 run.output_dir=runs/trrg-small-stage1-7
python training/pretrain.py --config training/configs/trrg-small-stage1-more.yaml run.seed=10 run.output_dir=runs/trrg-small-stage1-10
python training/pretrain.py --config training/configs/trrg-small-stage1-more.yaml run.seed=11 run.output_dir=runs/trrg-small-stage1-11
python -m training.average_weights runs/trrg-small-stage1/model runs/trrg-small-stage1-7/model runs/trrg-small-stage1-10/model runs/trrg-small-stage1-11/model --out runs/trrg-small-mean/model
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml run.output_dir=runs/trrg-small-mean
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml run.output_dir=runs/trrg-small-mean 'data.validation=[{path: runs/small-data/nih_128, kind: image, split: validation}]'
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml run.output_dir=runs/trrg-small-mean 'data.validation=[{path: runs/small-data/jsrt, kind: image, split: validation}]'
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml run.output_dir=runs/trrg-small-mean 'data.validation=[{path: runs/small-data/wingspan_ctr, kind: image, split: validation}]'
python -m training.measure.clues --config training/configs/trrg-small-stage1.yaml run.output_dir=runs/trrg-small-mean 'data.validation=[{path: runs/small-data/phantoms, kind: image, split: validation}]'
python -m training.fit_wordings runs/trrg-small-mean/model --reports runs/small-data/iu --write
python -m training.calibrate runs/trrg-small-mean/model --data runs/small-data/nih runs/small-data/nih_128 runs/small-data/phantoms --image-cache runs/small-data/cache --plot runs/trrg-small-mean/dials.png --write

# stage 2: how it is said and talked about; which pictures it cannot read
accelerate launch --config_file training/accelerate/cpu_2.yaml training/finetune.py --config training/configs/trrg-small-stage2.yaml
python -m training.fit_readable "$model" --data runs/small-data/nih runs/small-data/jsrt runs/small-data/wingspan_ctr runs/small-data/phantoms --image-cache runs/small-data/cache --write

# scores: phantoms, unseen NIH patients, IU reports from oracle clues, shuffled clues and none
python -m evaluation.score_phantoms --checkpoint "$model"
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-nih
python -m evaluation.score_labels runs/trrg-small-nih/predictions.jsonl --out runs/trrg-small-nih
python -m evaluation.metrics.truthfulness runs/trrg-small-nih/predictions.jsonl --out runs/trrg-small-nih
python -m evaluation.subgroups runs/trrg-small-nih/predictions.jsonl --data runs/small-data/nih --out runs/trrg-small-nih
python -m evaluation.examples runs/trrg-small-nih/predictions.jsonl --data runs/small-data/nih --out runs/trrg-small-examples
python -m evaluation.nearest_neighbour --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-nearest
python -m evaluation.score_labels runs/trrg-small-nearest/predictions.jsonl --out runs/trrg-small-nearest
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --oracle-clues --out runs/trrg-small-oracle
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --shuffle-clues 0 --out runs/trrg-small-shuffled
python evaluation/generate.py --checkpoint "$model" --data runs/small-data/iu --split validation --no-clues --out runs/trrg-small-none
python evaluation/score.py runs/trrg-small-oracle/predictions.jsonl --out runs/trrg-small-oracle/scores --conventions r2gen --treatments r2gen_iu
python evaluation/score.py runs/trrg-small-shuffled/predictions.jsonl --out runs/trrg-small-shuffled/scores --conventions r2gen --treatments r2gen_iu
python evaluation/score.py runs/trrg-small-none/predictions.jsonl --out runs/trrg-small-none/scores --conventions r2gen --treatments r2gen_iu

# does the image matter; context, change, clue lists, sentences, boxes, pictures it cannot read, questions and corrections
python evaluation/image_matters.py --checkpoint "$model" --data runs/small-data/nih --split validation --max-studies 60 --out runs/trrg-small-image
python evaluation/context_matters.py --checkpoint "$model" --data runs/small-data/nih --split validation --contexts runs/small-data/iu --out runs/trrg-small-context
python -m evaluation.score_change --checkpoint "$model" --out runs/trrg-small-change
python -m evaluation.clue_lists --checkpoint "$model" --data runs/small-data/nih --reports runs/small-data/iu --out runs/trrg-small-lists
python -m evaluation.score_sentences --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-sentences
python -m evaluation.score_grounding --checkpoint "$model" --data runs/small-data/nih --split validation --out runs/trrg-small-boxes
python -m evaluation.score_abstention --checkpoint "$model" --data runs/small-data/nih runs/small-data/jsrt runs/small-data/wingspan_ctr --out runs/trrg-small-abstention
python evaluation/dialogue.py --checkpoint "$model" --phantoms 120 --tasks binary_qa complete_qa synthetic_correction --out runs/trrg-small-dialogue

# the Hub folder; for the numbers of its card, and of what else tells them (--pages):
#   python -m hub_cards.card_scores runs/phantom-scores/phantom_scores.json runs/trrg-small-nih/label_scores.json runs/trrg-small-nih/truthfulness.json runs/trrg-small-oracle/scores/metrics.json --pages README.md
python hub_cards/publish.py "$model" --out runs/trrg-small-published
