#!/usr/bin/env bash
# A manifest over an array of jobs: sbatch deploy/batch/slurm.sh VOICE MANIFEST OUT
#
# Every job takes its share of the lines. Files are whole or absent and finished ones are passed over, so a job that was killed is
# simply submitted again. Files are the same whatever the number of jobs.
#SBATCH --job-name=vitstream
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --requeue
set -euo pipefail
exec vitstream batch "$1" "$2" "$3" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --jobs "$SLURM_CPUS_PER_TASK"
