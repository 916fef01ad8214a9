"""One step of learning: the losses, a meta-training episode (paper §3.3-3.4) and pretraining's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads import LOSSES
from amefu_cli.method.heads.fusion import video_vector
from amefu_cli.method.heads.prototypes import episode_logits


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of the paper: softmax once."""
    return functional.cross_entropy(logits, targets)


def double_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax, then a cross entropy that applies softmax again: the loss of the paper's public code."""
    return functional.cross_entropy(logits.softmax(-1), targets)


class Temperature(nn.Module):
    """Multiplies logits by a positive scale, which stays as given or is learned through its logarithm."""

    def __init__(self, scale: float, *, learned: bool) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(scale).log(), requires_grad=learned)

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.log_scale.exp()


def meta_train_episode(
    fusion: nn.Module,
    optimizer: torch.optim.Optimizer,
    rgb: Tensor,
    depth_clips: Tensor,
    *,
    shot: int,
    classifier: str,
    temperature: nn.Module,
    loss: str,
) -> Tensor:
    """Learn from one episode: an optimizer step per depth clip, in order. Returns the losses (1 + num_aug,).

    `rgb` (way, shot + queries, frames, dim) float32; `depth_clips` (1 + num_aug, way, shot + queries, frames,
    dim), of which the first is matched to the RGB frames and the others are asynchronous. The first `shot`
    videos of a class are its supports.
    """
    way, videos = rgb.shape[:2]
    targets = torch.arange(way, device=rgb.device).repeat_interleave(videos - shot)
    loss_of, losses = LOSSES[loss].load(), []
    for depth in depth_clips:
        vectors = video_vector(fusion, rgb, depth)  # (way, shot + queries, dim)
        logits = episode_logits(vectors[:, :shot], vectors[:, shot:].flatten(0, 1), classifier)
        step_loss = loss_of(temperature(logits), targets)
        optimizer.zero_grad()
        step_loss.backward()
        optimizer.step()
        losses.append(step_loss.detach())
    return torch.stack(losses)


def clip_logits(frame_features: Tensor, head: nn.Module, *, frames: int) -> Tensor:
    """Logits (clips, classes) of pretraining from frame features (clips * frames, dim): mean, then `head`."""
    logits: Tensor = head(frame_features.reshape(-1, frames, frame_features.shape[-1]).mean(1))
    return logits
