#!/usr/bin/env bash
# One sweep on Slurm: a Ray cluster inside of the allocation, the sweep, and nothing left behind.
#   sbatch cluster/slurm.sh STUDY.yaml /absolute/folder/on/shared/storage
# Sent again with the same folder it goes on where it stopped; Slurm does so itself when it preempts the job (--requeue).
#SBATCH --job-name=pace-tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
# The sweep gets the signal to stop cleanly two minutes before the time is over.
#SBATCH --signal=B:TERM@120
set -euo pipefail

study=${1:?usage: sbatch slurm.sh STUDY.yaml OUTPUT}
output=${2:?usage: sbatch slurm.sh STUDY.yaml OUTPUT}

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# A token for this job alone, in a file that only you can read; other users of the nodes cannot reach the cluster without it.
umask 077
token_folder=$(mktemp -d "$HOME/.pace-tune-token-XXXXXX")
export RAY_AUTH_TOKEN_PATH=$token_folder/token
openssl rand -hex 32 >"$RAY_AUTH_TOKEN_PATH"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
steps=()
finish() {
  kill "${steps[@]}" 2>/dev/null || true
  rm -rf "$token_folder"
}
trap finish EXIT

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
  ray start --head --block --node-ip-address="$head" --port="$port" --dashboard-host=127.0.0.1 --disable-usage-stats &
steps+=($!)
for _ in $(seq 60); do
  ray health-check --address "$head:$port" 2>/dev/null && break
  sleep 2
done

others=$((SLURM_JOB_NUM_NODES - 1))
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --overlap --exclude="$head" ray start --block --address="$head:$port" --disable-usage-stats &
  steps+=($!)
fi

RAY_ADDRESS=$head:$port python -m pace_tune sweep "$study" --output "$output" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM
wait "$sweep" || wait "$sweep"
