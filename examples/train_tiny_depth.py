"""Train the `tiny` depth network on rendered scenes with known depth, and judge it on held-out ones.

    python examples/train_tiny_depth.py [--steps 4000] [--scenes 2600] [--seed 0] [--out FILE]

Half of the scenes are the demonstration's rooms with an acting figure, half are rooms filled at random with
boxes, balls and posts, seen from anywhere. No figure does what is a novel class of the demonstration, whose
accuracies would else rest on true depth of novel actions. Writes amefu_cli/artefacts/files/data/tiny_depth.safetensors
and prints the Spearman rank correlation of its disparity with the true inverse depth on scenes of other seeds: of the
actions it was trained with, and of the novel ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor

from amefu_cli.demo.actions import ACTIONS, WORLD_SPLIT
from amefu_cli.demo.clips import render_clip
from amefu_cli.demo.render import render
from amefu_cli.demo.scene import ROOM_MATERIALS, Scene, draw_clutter, draw_light, draw_materials, draw_room, looking_at
from amefu_cli.method.depth.tiny import TINY_SIZE, TinyDepth

OUT = Path(__file__).parent.parent / "amefu_cli" / "artefacts" / "files" / "data" / "tiny_depth.safetensors"
NOVEL = WORLD_SPLIT["test"]
SEEN = sorted(ACTIONS.keys() - {*NOVEL})
FRAMES = 4  # of one scene
BATCH = 24
Disparity = npt.NDArray[np.floating]
Scenes = tuple[npt.NDArray[np.uint8], Disparity]


def action_scene(rng: np.random.Generator, actions: Sequence[str]) -> Scenes:
    """A figure that does one of these actions: pictures (FRAMES, height, width, 3) and disparity, 1 / metres."""
    action = actions[rng.integers(len(actions))]
    clip = render_clip(action, frames=FRAMES, height=TINY_SIZE, width=TINY_SIZE, rng=rng)
    return clip.rgb, 1 / clip.depth


def cluttered_scene(rng: np.random.Generator) -> Scenes:
    """A room full of things, some of them in mid-air, seen by a camera that turns about within it."""
    count = int(rng.integers(4, 24))
    places = np.stack([rng.uniform(-3, 3, count), np.zeros(count), rng.uniform(-2, 5, count)], axis=1)
    places[:, 1] = rng.uniform(0, 2, count) * (rng.random(count) < 0.3)
    eye = np.array([rng.uniform(-1, 1), rng.uniform(0.4, 2.1), -rng.uniform(2.5, 4.5)])
    across = rng.uniform(-1, 1, size=(FRAMES, 1)) * np.array([0.6, 0.3, 0.6])
    target = np.array([rng.uniform(-2, 2), rng.uniform(0.2, 1.4), rng.uniform(0, 2)])
    size = TINY_SIZE
    camera = looking_at(eye + across, target - across, focal=rng.uniform(0.7, 1.6) * size, height=size, width=size)
    capsules, boxes = draw_clutter(FRAMES, places.astype(np.float32), ROOM_MATERIALS, rng)
    scene = Scene(
        room=draw_room(camera.position, rng),
        capsules=capsules,
        boxes=boxes,
        materials=draw_materials(ROOM_MATERIALS + count, rng),
        light=draw_light(rng),
        ambient=rng.uniform(0.35, 0.65),
        exposure=rng.uniform(0.7, 1.3),
        noise=rng.uniform(0, 0.04),
    )
    pictures, depth = render(scene, camera, rng)
    return pictures, 1 / depth


def render_scenes(count: int, seed: int, actions: Sequence[str] = SEEN) -> Scenes:
    """Pictures (count·FRAMES, height, width, 3) and disparity float16, clutter and acting figures in turn; every scene
    from its own seed."""
    states = (np.random.default_rng([seed, index]) for index in range(count))
    made = [action_scene(rng, actions) if index % 2 else cluttered_scene(rng) for index, rng in enumerate(states)]
    disparity = [disparity.astype(np.float16) for _, disparity in made]
    return np.concatenate([pictures for pictures, _ in made]), np.concatenate(disparity)


def varied(pictures: Tensor, disparity: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch under another crop, mirrored, blurred and in other colours."""
    size = int(rng.integers(88, TINY_SIZE + 1))
    top, left = rng.integers(TINY_SIZE - size + 1, size=2)
    pictures = pictures[:, :, top : top + size, left : left + size]
    disparity = disparity[:, top : top + size, left : left + size]
    if rng.random() < 0.5:
        pictures, disparity = pictures.flip(3), disparity.flip(2)
    coarse = int(rng.integers(72, TINY_SIZE + 1))
    pictures = torch.nn.functional.interpolate(pictures, size=(coarse, coarse), mode="bilinear")
    pictures = torch.nn.functional.interpolate(pictures, size=(TINY_SIZE, TINY_SIZE), mode="bilinear")
    disparity = torch.nn.functional.interpolate(disparity[:, None], size=(TINY_SIZE, TINY_SIZE))[:, 0]
    colour = torch.from_numpy(rng.uniform(0.75, 1.25, size=(len(pictures), 3, 1, 1))).float()
    gamma = float(rng.uniform(0.75, 1.35))
    return (pictures * colour).clamp(0, 1).pow(gamma), disparity


def aligned(disparity: Tensor) -> Tensor:
    """Disparity (n, h, w) less its median, over the mean distance from it (Ranftl et al. 2020, eqs. 5, 6)."""
    flat = disparity.flatten(1)
    flat = flat - flat.median(dim=1, keepdim=True).values
    return (flat / flat.abs().mean(dim=1, keepdim=True).clamp(min=1e-4)).view_as(disparity)


def loss_of(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of the aligned maps and of their slopes at four scales (eqs. 7 and 11)."""
    difference = aligned(predicted) - aligned(true)
    loss = difference.abs().mean()
    for step in (1, 2, 4, 8):
        coarse = difference[:, ::step, ::step]
        loss = loss + 0.25 * coarse.diff(dim=1).abs().mean() + 0.25 * coarse.diff(dim=2).abs().mean()
    return loss


def rank_correlation(predicted: Disparity, true: Disparity) -> float:
    """Spearman's correlation of two maps: Pearson's of their ranks."""
    ranks = [np.argsort(np.argsort(values, axis=None, kind="stable")) for values in (predicted, true)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def judge(network: TinyDepth, pictures: npt.NDArray[np.uint8], disparity: Disparity) -> list[float]:
    """Rank correlation of every picture's disparity with the truth."""
    network.eval()
    scores = []
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            found = network(as_input(pictures[start : start + BATCH]))
            pairs = zip(found.numpy(), disparity[start : start + BATCH], strict=True)
            scores += [rank_correlation(one, other.astype(np.float32)) for one, other in pairs]
    return scores


def as_input(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """Pictures uint8 (n, h, w, 3) as the network takes them; channels stay last in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def train(scenes: Scenes, steps: int, seed: int) -> TinyDepth:
    """Adam, the learning rate rising for 3% of the steps and falling to 0 by a cosine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = TinyDepth().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    pictures, disparity = scenes
    recent = 0.0
    for step in range(steps):
        share = step / steps
        rate = min(1.0, share / 0.03) * 0.5 * (1 + np.cos(np.pi * share))
        optimizer.param_groups[0]["lr"] = 3e-3 * max(rate, 1e-4)
        chosen = np.sort(rng.choice(len(pictures), BATCH, replace=False))
        network.train()
        truth = torch.from_numpy(disparity[chosen].astype(np.float32))
        inputs, truth = varied(as_input(pictures[chosen]), truth, rng)
        loss = loss_of(network(inputs.contiguous(memory_format=torch.channels_last)), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        recent += float(loss.detach())
        if step % 250 == 249:
            print(f"{share:4.0%}  step {step + 1}  loss {recent / 250:.4f}", flush=True)
            recent = 0.0
    return network


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=4000, help="of 24 pictures each")
    options.add_argument("--scenes", type=int, default=2600, help="of four pictures each")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=OUT)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    print(f"rendering {chosen.scenes} scenes", flush=True)
    network = train(render_scenes(chosen.scenes, seed=chosen.seed + 1000), chosen.steps, chosen.seed)
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(weights)  # as it will be read: rounded to float16
    scores, of_novel = (
        judge(network, *render_scenes(200, chosen.seed + seed, actions))
        for seed, actions in ((2000, SEEN), (3000, NOVEL))
    )
    kinds, novel = (np.array(found).reshape(-1, 2, FRAMES) for found in (scores, of_novel))
    mean, median = np.mean(scores), np.median(scores)
    print(f"rank correlation with true depth on held-out scenes: mean {mean:.3f}, median {median:.3f}")
    print(f"  random clutter {kinds[:, 0].mean():.3f}, acting figures {kinds[:, 1].mean():.3f}")
    print(f"  figures that do what no training scene showed: {novel[:, 1].mean():.3f}")
    card = {
        "what": "weights of the `tiny` depth network (larger = nearer), trained on rendered scenes only",
        "script": "examples/train_tiny_depth.py",
        "rank_correlation_mean": f"{mean:.3f}",
        "rank_correlation_median": f"{median:.3f}",
        "held_out": f"{len(scores)} pictures of {len(scores) // FRAMES} scenes, seed {chosen.seed + 2000}",
        "seed": str(chosen.seed),
        "steps": str(chosen.steps),
        "actions": ", ".join(SEEN),
        "licence": "MIT",
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, chosen.out, metadata=card)
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
