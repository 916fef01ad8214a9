#!/usr/bin/env bash
#SBATCH --job-name=ucf101 --gres=gpu:1 --cpus-per-task=8 --mem=64G --time=48:00:00
#
# UCF101 (70/10/21 classes): from the raw videos to the rows of the paper's Tables 2 and 3.
#
#   bash examples/ucf101.sh UCF-101 [WORKSPACE]
#   sbatch examples/ucf101.sh UCF-101 [WORKSPACE]
#
# Every line is skipped where it is done, so the same command goes on after a limit of time or a failure.
#
# Videos     UCF-101/Archery/v_Archery_g01_c01.avi, as the published archive unpacks.
# Split      built in: the class names of ARN's lists (13,320 videos: 9,154 base, 1,421 validation, 2,745 novel).
#            SPLIT=lists/ucf101 takes lists of class/video instead.
# Coverage   all 13,320 videos; the lists name every clip of the archive.
# Disk       about 127 GB: 2.4 million frames (27 hours at 25 frames/s),
#            of which frames 58, depth 49, features 20.
#            As measured on published clips at 256×256: 24 kB a frame as JPEG, 20 kB as disparity, and
#            8 KiB a frame and view for both streams' features (2 streams × 2048 × float16). Base videos keep
#            three views (--views 2) of 80 frames (--runs 5 of 4 in each of 4 segments), validation videos one view of
#            them, novel videos one of up to 40 frames.
# Recipe     paper; RECIPE=official does as the public code, RECIPE=tuned as we would (see `amefu init`).
#            Anything else goes into WORKSPACE/amefu.toml.

set -euo pipefail

videos=${1:?the folder that holds CLASS/CLIP}
export AMEFU_WORKSPACE=${2:-ucf101-workspace}
options=(--preset ucf101 --recipe "${RECIPE:-paper}")

run() { amefu "$@" || [ $? -eq 3 ]; }  # 3: done, but some videos failed (failures.jsonl); go on without them

# What is missing, misspelt or double. The split as it should be becomes the workspace's, which all other lines use.
amefu split check "$videos" --split "${SPLIT:-ucf101}" --repair "$AMEFU_WORKSPACE/split.json"

run depth "$videos" "${options[@]}"                  # frames.zarr, depth.zarr
amefu pretrain --modality rgb "${options[@]}"        # rgb.safetensors
amefu pretrain --modality depth "${options[@]}"      # depth.safetensors
run features --runs 5 "${options[@]}"                # features.zarr

# Every row on the same 10,000 episodes for K = 1..5: ablation/tables.md, with the paper's figures beside ours.
amefu ablate --tables 2,3 --shots 1-5 "${options[@]}"
