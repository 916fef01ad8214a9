#!/usr/bin/env bash
#SBATCH --job-name=kinetics100 --gres=gpu:1 --cpus-per-task=8 --mem=64G --time=48:00:00
#
# Kinetics-100 (64/12/24 classes, 100 videos each): from the raw videos to the rows of the paper's Tables 1 and 3.
#
#   bash examples/kinetics100.sh KINETICS [WORKSPACE]
#   sbatch examples/kinetics100.sh KINETICS [WORKSPACE]
#
# Every line is skipped where it is done, so the same command goes on after a limit of time or a failure.
#
# Videos     KINETICS/air drumming/-VtLx-mcPds_000012_000022.mp4, the 100 classes alone:
#            every clip that lies there is decoded.
# Split      built in: the class names of CMN's lists (10,000 videos: 6,400 base, 1,200 validation, 2,400 novel).
#            SPLIT=lists/kinetics100 takes lists of class/video instead.
# Coverage   whatever the copy holds: videos leave YouTube every year. With SPLIT the check and every result count
#            what is missing of the 10,000; a class that has lost half of its videos is worth a mirror.
# Disk       about 146 GB: 3.0 million frames (10,000 × 10 s × 30 frames/s),
#            of which frames 72, depth 60, features 14.
#            As measured on published clips at 256×256: 24 kB a frame as JPEG, 20 kB as disparity, and
#            8 KiB a frame and view for both streams' features (2 streams × 2048 × float16). Base videos keep
#            three views (--views 2) of 80 frames (--runs 5 of 4 in each of 4 segments), validation videos one view of
#            them, novel videos one of up to 40 frames.
# Recipe     paper; RECIPE=official does as the public code, RECIPE=tuned as we would (see `amefu init`).
#            Anything else goes into WORKSPACE/amefu.toml.

set -euo pipefail

videos=${1:?the folder that holds CLASS/CLIP}
export AMEFU_WORKSPACE=${2:-kinetics100-workspace}
options=(--preset kinetics100 --recipe "${RECIPE:-paper}")

run() { amefu "$@" || [ $? -eq 3 ]; }  # 3: done, but some videos failed (failures.jsonl); go on without them

# What is missing, misspelt or double. The split as it should be becomes the workspace's, which all other lines use.
amefu split check "$videos" --split "${SPLIT:-kinetics100}" --repair "$AMEFU_WORKSPACE/split.json"

run depth "$videos" "${options[@]}"                  # frames.zarr, depth.zarr
amefu pretrain --modality rgb "${options[@]}"        # rgb.safetensors
amefu pretrain --modality depth "${options[@]}"      # depth.safetensors
run features --runs 5 "${options[@]}"                # features.zarr

# Every row on the same 10,000 episodes for K = 1..5: ablation/tables.md, with the paper's figures beside ours.
amefu ablate --tables 1,3 --shots 1-5 "${options[@]}"
