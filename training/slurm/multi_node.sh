#!/bin/bash
# Two nodes of eight GPUs: sbatch training/slurm/multi_node.sh finetune.py training/configs/trrg-stage2-mimic.yaml
# Slurm sends SIGTERM two minutes before the time limit; the run saves, ends, and goes on when it is requeued.
#SBATCH --job-name=trrg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?run this script with sbatch from the repository root}"
stage=${1:?usage: sbatch training/slurm/multi_node.sh pretrain.py|finetune.py CONFIG [key.path=value ...]}
config=${2:?usage: sbatch training/slurm/multi_node.sh pretrain.py|finetune.py CONFIG [key.path=value ...]}
shift 2
MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_ADDRESS STAGE=$stage CONFIG=$config
# $SLURM_NODEID must be read on each node, so the quotes are single.
srun bash -c '.venv/bin/accelerate launch --config_file training/accelerate/ddp_2nodes.yaml \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN_ADDRESS" --main_process_port 29500 \
  "training/$STAGE" --config "$CONFIG" "$@"' launch "$@"
