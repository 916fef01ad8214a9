"""What every learned head promises: orders that do not matter, queries that are alone, gradients that lower a loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference_heads import logits_of, states
from torch import Tensor

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.attention import check_heads
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.cmn import CMNEmbedding, CMNNearest
from amefu_cli.method.heads.hyrsm import HyRSM, HyRSMPerShot, HyRSMPlusPlus
from amefu_cli.method.heads.molo import MoLoBase
from amefu_cli.method.heads.second_order import SecondOrderRelation
from amefu_cli.method.heads.tarn import TARN
from amefu_cli.method.heads.team import TEAM
from amefu_cli.method.heads.trx import TRX

EPISODES, WAY, SHOT, QUERIES, FRAMES, DIM = 2, 3, 2, 4, 5, 16

BUILD: dict[str, Callable[[], Head]] = {
    "trx": lambda: TRX(DIM, width=8, dropout=0),
    "hyrsm": lambda: HyRSM(DIM, base_classes=6, dropout=0),
    "hyrsm per shot": lambda: HyRSMPerShot(DIM, dropout=0),
    "hyrsm++": lambda: HyRSMPlusPlus(DIM, base_classes=6),
    "molo-base": lambda: MoLoBase(DIM, hidden=8, base_classes=6, dropout=0, divisor=DIM),
    "team": lambda: TEAM(DIM, tokens=4),
    "team plain": lambda: TEAM(DIM, tokens=4, adaptation=False),
    "cmn-embedding": lambda: CMNEmbedding(DIM, saliencies=3),
    "cmn-embedding nearest": lambda: CMNNearest(DIM, saliencies=3),
    "tarn": lambda: TARN(DIM, width=6, relation_width=5),
    "tarn euccos": lambda: TARN(DIM, comparison="euccos", width=6, relation_width=5),
    "second-order-relation": lambda: SecondOrderRelation(DIM, channels=16, width=4),
}
IGNORE_ORDER = {"cmn-embedding", "cmn-embedding nearest", "second-order-relation"}
HEADS = pytest.mark.parametrize("name", BUILD)


def built(name: str) -> Head:
    torch.manual_seed(1)
    return BUILD[name]().double().eval()


def episodes(frames: int = FRAMES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = (EPISODES, WAY, SHOT, frames, DIM), (EPISODES, QUERIES, frames, DIM)
    support, query = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return support, query


@HEADS
@torch.no_grad()
def test_the_order_of_shots_and_classes(name: str):
    head = built(name)
    support, query = states(head, *episodes())
    logits, order = head.logits(support, query), torch.tensor([2, 0, 1])
    assert logits.shape == (EPISODES, QUERIES, WAY)
    torch.testing.assert_close(head.logits(support.flip(2), query), logits)
    torch.testing.assert_close(head.logits(support[:, order], query), logits[..., order])


@HEADS
@torch.no_grad()
def test_heads_that_average_shots_see_only_the_mean_of_the_states(name: str):
    head = built(name)
    support, query = states(head, *episodes())
    logits = head.logits(support, query)
    assert torch.allclose(head.logits(support.mean(2, keepdim=True), query), logits) == (
        head.averages_shots or head.route == "vector"
    )


@HEADS
@torch.no_grad()
def test_queries_and_episodes_alone_are_as_together(name: str):
    head = built(name)
    support, query = states(head, *episodes())
    logits = head.logits(support, query)
    alone = [head.logits(support, query[:, q : q + 1]) for q in range(QUERIES)]
    torch.testing.assert_close(torch.cat(alone, 1), logits)
    torch.testing.assert_close(torch.cat([head.logits(support[e:][:1], query[e:][:1]) for e in (0, 1)]), logits)


@HEADS
@torch.no_grad()
def test_the_order_of_frames(name: str):
    head = built(name)
    support, query = episodes()
    moved = support.clone()
    moved[:, 0, 0] = moved[:, 0, 0, [1, 0, 4, 3, 2]]
    logits, others = logits_of(head, support, query), logits_of(head, moved, query)
    assert torch.allclose(logits[..., 0], others[..., 0], rtol=1e-9) == (name in IGNORE_ORDER)


@HEADS
@torch.no_grad()
def test_videos_of_one_frame(name: str):
    if name == "trx":  # which compares tuples, and refuses
        return
    assert logits_of(built(name), *episodes(frames=1)).isfinite().all()


@HEADS
@torch.no_grad()
def test_a_shot_given_twice_is_one_shot(name: str):
    if name == "hyrsm per shot":  # where videos attend to every support, so that one given twice weighs more
        return
    support, query = episodes()
    one = logits_of(built(name), support[:, :, :1], query)
    torch.testing.assert_close(one, logits_of(built(name), support[:, :, [0, 0]], query))


@HEADS
def test_a_step_down_the_gradient_lowers_the_loss(name: str):
    head = built(name).train()
    support, query = episodes()
    support[:, torch.arange(WAY), ..., : 2 * WAY : 2] += torch.eye(WAY)[:, None, None].double()
    targets = torch.tensor([[0, 1, 2, 0], [2, 1, 0, 2]])
    classes = torch.tensor([[4, 0, 2], [1, 5, 3]])

    def loss_of() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)  # the same dropout before and after
        return head.loss(*states(head, support, query), targets, classes)

    before, logits = loss_of()
    before.backward()
    assert logits.shape == (EPISODES, QUERIES, WAY)
    useless = {"align.bias"} if name.startswith("tarn") else set()
    gradients = {key: parameter.grad for key, parameter in head.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.abs().max() > 0 for key, gradient in gradients.items() if key not in useless)
    length = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 1e-4 * parameter.grad / length
    assert loss_of()[0] < before


def test_widths_that_attention_cannot_share_are_refused():
    with pytest.raises(UsageError, match="8 attention heads need"):
        check_heads(20, 8)
