#!/usr/bin/env bash
# From videos to few-shot accuracy on a Slurm cluster. Every step is an ordinary amefu command: a task of an array
# takes its share of the videos by itself (--shard auto), and a step that was killed is submitted again as it is.
#
#   export AMEFU_WORKSPACE=/scratch/$USER/actions
#   first=$(sbatch --parsable --array=0-15 examples/slurm.sh prepare ./videos)
#   second=$(sbatch --parsable --dependency=afterany:$first --array=0-1 --gres=gpu:1 examples/slurm.sh pretrain)
#   third=$(sbatch --parsable --dependency=afterok:$second --array=0-3 --gres=gpu:1 examples/slurm.sh features)
#   sbatch --dependency=afterok:$third --gres=gpu:1 examples/slurm.sh evaluate
#
# An array starts at 0 and has no gaps. Its length may differ from run to run: what is done stays done.

#SBATCH --job-name=amefu
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120  # amefu ends cleanly two minutes before its time is up

set -euo pipefail

# --signal reaches job steps, not this shell, so every command is a step. srun does not take the job's cores by itself.
step() {
    srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$@"
}

# Exit code 3 is "finished, but some videos failed": `amefu status --failed` lists them, the others go on.
step_or_some_failed() {
    step "$@" || [ $? -eq 3 ]
}

case "${1:?prepare VIDEOS, pretrain, features or evaluate}" in
prepare) # a share of the frames, then the disparity of that share
    step_or_some_failed amefu frames "${2:?the folder of videos}" --jobs "${SLURM_CPUS_PER_TASK:-1}"
    step_or_some_failed amefu depth --no-upstream
    ;;
pretrain) # task 0: the RGB stream; task 1: the depth stream
    modalities=(rgb depth)
    step amefu pretrain --no-upstream --modality "${modalities[${SLURM_ARRAY_TASK_ID:?an array 0-1}]}"
    ;;
features) # a share of the features of both streams
    step_or_some_failed amefu features --no-upstream
    ;;
evaluate)
    step amefu meta-train --no-upstream
    step amefu evaluate --no-upstream --way 5 --shot 1
    ;;
*)
    echo "unknown step $1" >&2
    exit 2
    ;;
esac
