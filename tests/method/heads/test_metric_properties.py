"""What must hold of every head that needs no training: heads.md section 7."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.base import GramHead, Head, PairHead, SeededHead, VectorHead
from amefu_cli.method.heads.baselines import Baseline, BaselinePlus, BaselinePlusPlus
from amefu_cli.method.heads.bi_mhm import BiMHM, BiMHMPerShot
from amefu_cli.method.heads.distances import cosine, floored_cosine
from amefu_cli.method.heads.embodied import SegmentAugmentation, segments_of, unit_frames
from amefu_cli.method.heads.logistic import Logistic, fit_logistic
from amefu_cli.method.heads.matching import (
    Chamfer,
    ChamferPlusPlus,
    ChamferQuery,
    ChamferSupport,
    MatchDiag,
    MatchLinear,
    MatchMax,
    MatchMean,
)
from amefu_cli.method.heads.mean_frames import (
    MeanFramesCosine,
    PrototypeCosine,
    PrototypeEuclidean,
    UnitFramesEuclidean,
)
from amefu_cli.method.heads.neighbours import NearestNeighbours
from amefu_cli.method.heads.otam import OTAM, HardOTAM, alignment_cost
from amefu_cli.method.heads.support_vectors import SupportVectors
from amefu_cli.method.heads.tsl import TSL

DIM = 12


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def with_gallery(head: Head) -> Head:
    head.use_gallery(draw(9, 8, DIM, seed=9))
    return head


HEADS: dict[str, Callable[[], Head]] = {
    "prototype-cosine": lambda: PrototypeCosine(DIM),
    "prototype-euclidean": lambda: PrototypeEuclidean(DIM),
    "unit-frames-euclidean": lambda: UnitFramesEuclidean(DIM),
    "mean-frames-cosine": lambda: MeanFramesCosine(DIM),
    "mean-frames-cosine, epsilon": lambda: MeanFramesCosine(DIM, epsilon=0.01),
    "otam": lambda: OTAM(DIM),
    "otam, epsilon": lambda: OTAM(DIM, epsilon=0.01),
    "otam, projected": lambda: OTAM(DIM, width=6),
    "otam-hard": lambda: HardOTAM(DIM),
    "bi-mhm": lambda: BiMHM(DIM),
    "bi-mhm-per-shot": lambda: BiMHMPerShot(DIM),
    "match-mean": lambda: MatchMean(DIM),
    "match-mean, epsilon": lambda: MatchMean(DIM, epsilon=0.01),
    "match-max": lambda: MatchMax(DIM),
    "match-diag": lambda: MatchDiag(DIM),
    "match-diag, epsilon": lambda: MatchDiag(DIM, epsilon=0.01),
    "match-linear": lambda: MatchLinear(DIM, frames=8, width=6),
    "chamfer-query": lambda: ChamferQuery(DIM),
    "chamfer-query, joint": lambda: ChamferQuery(DIM, shots="joint"),
    "chamfer-support": lambda: ChamferSupport(DIM),
    "chamfer": lambda: Chamfer(DIM),
    "chamfer, joint": lambda: Chamfer(DIM, shots="joint"),
    "chamfer, pairs": lambda: Chamfer(DIM, tuple_n=2),
    "chamfer++": lambda: ChamferPlusPlus(DIM, width=6),
    "segment-augmentation": lambda: with_gallery(SegmentAugmentation(DIM)),
    "logistic": lambda: Logistic(DIM),
    "svm": lambda: SupportVectors(DIM),
    "svm, linear": lambda: SupportVectors(DIM, kernel="linear"),
    "knn": lambda: NearestNeighbours(DIM),
    "baseline": lambda: Baseline(DIM),
    "baseline++": lambda: BaselinePlusPlus(DIM),
    "baseline-plus": lambda: BaselinePlus(DIM),
    "tsl": lambda: TSL(DIM),
}
LOOSE = {"svm": 5e-3, "svm, linear": 5e-3}  # libsvm stops at a tolerance of 1e-3
# seeded starts and orders belong to places
ORDERED = {"baseline", "baseline++", "baseline-plus", "tsl"}


def built(name: str) -> Head:
    torch.manual_seed(0)
    return HEADS[name]().double()


@torch.no_grad()
def logits(head: Head, support: Tensor, query: Tensor) -> Tensor:
    """Of frames: support (way, shot, frames, dim), query (queries, frames, dim); (queries, way)."""
    states = head.embed(support.flatten(0, 1))
    return head.logits(states.view(1, *support.shape[:2], *states.shape[1:]), head.embed(query).unsqueeze(0))[0]


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=LOOSE.get(name, 1e-7 if name == "logistic" else 1e-9))


def test_distances_by_hand():
    """Norms 5 and 2, dot product 6; the floor of 1e-8 shows on tiny vectors only."""
    x, y = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[2.0, 0.0]]).double()
    assert cosine(x, y).item() == pytest.approx(0.6)
    assert cosine(x, y, epsilon=0.01).item() == pytest.approx(6 / 10.01)
    assert floored_cosine(x, y).item() == pytest.approx(0.6)
    assert floored_cosine(x * 1e-5, y * 1e-5).item() == pytest.approx(6e-10 / 1e-8)
    assert cosine(x * 0, y).item() == floored_cosine(x * 0, y).item() == 0


@pytest.mark.parametrize("name", HEADS)
def test_logits_have_one_number_per_query_and_class_and_a_route_to_be_held_against(name):
    head = built(name)
    assert logits(head, draw(5, 2, 8, DIM), draw(7, 8, DIM, seed=1)).shape == (7, 5)
    classes = {"vector": VectorHead, "gram": GramHead, "pair": PairHead, "episode": Head}
    assert isinstance(head, classes[head.route])


@pytest.mark.parametrize("name", sorted(set(HEADS) - ORDERED))
def test_neither_the_order_of_shots_nor_of_classes_matters(name):
    head, support, query = built(name), draw(4, 3, 8, DIM), draw(6, 8, DIM, seed=1)
    expected = logits(head, support, query)
    close(logits(head, support[:, [2, 0, 1]], query), expected, name)
    classes = [3, 0, 2, 1]
    close(logits(head, support[classes], query), expected[:, classes], name)


@pytest.mark.parametrize("name", HEADS)
def test_queries_do_not_know_of_one_another(name):
    head, support, query = built(name), draw(4, 3, 8, DIM), draw(6, 8, DIM, seed=1)
    alone = torch.cat([logits(head, support, one) for one in query.split(1)])
    close(logits(head, support, query), alone)


@pytest.mark.parametrize("name", HEADS)
def test_a_mean_of_shots_is_what_is_said_to_be_enough(name):
    head, support, query = built(name), draw(2, 4, 3, 8, DIM), draw(2, 6, 8, DIM, seed=1)
    if head.averages_shots:
        close(head.logits(support, query), head.logits(support.mean(2, keepdim=True), query))


@pytest.mark.parametrize("name", [name for name in HEADS if isinstance(built(name), PairHead)])
def test_pairs_and_blocks_and_both_orders_of_a_block_agree(name):
    head = built(name)
    with torch.no_grad():
        a, b = head.embed(draw(3, 8, DIM)), head.embed(draw(4, 8, DIM, seed=1))
        block = head.block_scores(a, b)
        pairs = head.pair_scores(a.repeat_interleave(4, 0), torch.cat([b] * 3))
        close(block, pairs.view(block.shape))
        close(block, PairHead.block_scores(head, a, b))
        first, second = head.mutual_scores(a, b)
        close(first, block)
        close(second, head.block_scores(b, a))
        if head.symmetric:
            close(block, head.block_scores(b, a).transpose(0, 1))


# ---- OTAM


def least_cost(distance: Tensor) -> tuple[float, int]:
    """By trying every row sequence that never falls and rises by one at most; and how many there are."""
    rows, columns = distance.shape
    paths = [(start, *steps) for start in range(rows) for steps in product((0, 1), repeat=columns - 1)]
    costs = [
        sum(distance[row, column].item() for column, row in enumerate(np.cumsum(path)))
        for path in paths
        if sum(path) < rows
    ]
    return min(costs), len(costs)


@pytest.mark.parametrize("frames", [1, 3, 4])
@pytest.mark.parametrize("smoothing", [0, 1e-4])
def test_otam_is_the_best_of_all_alignments(frames, smoothing):
    distance = draw(20, frames, frames).abs()
    for one in distance:
        expected, paths = least_cost(one)
        slack = 2 * smoothing * math.log(2 * paths) + 1e-12
        assert alignment_cost(one, smoothing).item() == pytest.approx(expected, abs=slack)


def test_otam_is_symmetric():
    head = built("otam")
    a, b = draw(3, 8, DIM), draw(4, 8, DIM, seed=1)
    close(head.block_scores(a, b), head.block_scores(b, a).T)


def test_otam_of_sixteen_frames_has_finite_values_and_gradients_in_float32():
    frames = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    states = OTAM(24).embed(frames)
    score = OTAM(24).block_scores(states[:1], states[1:])
    score.sum().backward()
    assert torch.isfinite(score).all()
    assert torch.isfinite(frames.grad).all()


# ---- the order of frames


@pytest.mark.parametrize("name", ["bi-mhm", "bi-mhm-per-shot", "match-mean", "match-max", "chamfer"])
def test_the_order_of_a_support_s_frames_does_not_matter(name):
    head, support, query = built(name), draw(4, 1, 8, DIM), draw(6, 8, DIM, seed=1)
    close(logits(head, support[:, :, torch.randperm(8)], query), logits(head, support, query))


@pytest.mark.parametrize("name", ["otam", "otam-hard", "match-diag", "match-linear"])
def test_the_order_of_a_support_s_frames_matters(name):
    head, support, query = built(name), draw(4, 1, 8, DIM), draw(6, 8, DIM, seed=1)
    assert (logits(head, support.flip(2), query) - logits(head, support, query)).abs().max() > 0.01


def test_shots_joint_or_separate_or_averaged_are_the_same_for_one_shot():
    support, query = draw(4, 1, 8, DIM), draw(6, 8, DIM, seed=1)
    for one, other in (
        ("bi-mhm", "bi-mhm-per-shot"),
        ("chamfer, joint", "chamfer"),
        ("chamfer-query, joint", "chamfer-query"),
    ):
        close(logits(built(one), support, query), logits(built(other), support, query))
        more = draw(4, 3, 8, DIM)
        assert (logits(built(one), more, query) - logits(built(other), more, query)).abs().max() > 0.01


def test_joint_chamfer_support_is_the_separate_one():
    """The frames of three shots laid side by side as one video of 24 frames."""
    support, query, head = draw(4, 3, 8, DIM), draw(6, 8, DIM, seed=1), built("chamfer-support")
    close(logits(head, support.flatten(1, 2).unsqueeze(1), query), logits(head, support, query))


def test_with_one_frame_all_metrics_are_the_cosine():
    support, query = draw(4, 1, 1, DIM), draw(6, 1, DIM, seed=1)
    expected = cosine(query[:, 0], support[:, 0, 0])
    for name in ("match-mean", "match-max", "match-diag", "chamfer", "chamfer, joint", "mean-frames-cosine"):
        close(logits(built(name), support, query), expected)
    for name in ("otam", "bi-mhm", "bi-mhm-per-shot"):
        close(logits(built(name), support, query), 2 * expected - 2)


@pytest.mark.parametrize(
    "name", ["otam-hard", "bi-mhm", "bi-mhm-per-shot", "chamfer", "chamfer, joint", "match-max", "knn"]
)
def test_a_support_that_is_also_the_query_is_found(name):
    support = draw(5, 1, 8, DIM)
    assert logits(built(name), support, support[:, 0]).argmax(1).tolist() == [0, 1, 2, 3, 4]


# ---- projections and segments


def test_a_tuple_is_projected_as_its_frames_one_place_at_a_time():
    head = built("chamfer++")
    frames = draw(3, 8, DIM)
    tuples = torch.stack([frames[:, list(place)].flatten(1) for place in combinations(range(8), 3)], 1)
    close(head.tuples(frames), head.tuples.norm(head.tuples.projection(tuples)))


def test_tuples_need_enough_frames():
    with pytest.raises(ValueError, match="tuples of 3 frames were asked of 2 frames"):
        built("chamfer++").embed(draw(1, 2, DIM))


def test_a_projected_head_learns_its_temperature():
    head = built("chamfer++")
    assert head.scaled(torch.ones(())).item() == pytest.approx(10)
    support, query = (
        head.embed(x.flatten(0, -3)).unflatten(0, x.shape[:-2])
        for x in (draw(1, 4, 2, 8, DIM), draw(1, 6, 8, DIM, seed=1))
    )
    loss, found = head.loss(support, query, torch.tensor([[0, 1, 2, 3, 0, 1]]), torch.arange(4)[None])
    close(loss, torch.nn.functional.cross_entropy(10 * found[0], torch.tensor([0, 1, 2, 3, 0, 1])))
    loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())


def test_segment_augmentation_is_the_mean_of_the_copies():
    """Every copy written out: the video with one of its segments replaced by the gallery's."""
    head, frames = built("segment-augmentation"), draw(6, 8, DIM)
    for video, augmented in zip(frames, head.sides(head.embed(frames))[1], strict=True):
        units = unit_frames(video)
        segments, copies = segments_of(units), [units]
        distance = torch.cdist(segments, head.gallery)
        for n in range(4):
            near = sum(weight * distance[n + k] for k, weight in ((-1, 0.1), (0, 1), (1, 0.1)) if 0 <= n + k < 4)
            copy = units.clone()
            copy[2 * n : 2 * n + 2] = head.gallery[near.argmin()]
            copies.append(copy)
        close(augmented, torch.stack(copies).mean((0, 1)))


def test_segment_augmentation_asks_for_what_it_needs():
    with pytest.raises(UsageError, match="replaces 2 frames at a time, and a clip has 7"):
        built("segment-augmentation").embed(draw(1, 7, DIM))


# ---- fitted per episode


@pytest.mark.parametrize(("shot", "penalty"), [(1, 1.0), (5, 1.0), (5, 1000.0)])
def test_logistic_is_at_the_minimum(shot, penalty):
    """By autograd on the objective written out with weights, at several episodes of one batch."""
    support = unit_frames(draw(3, 5 * shot, DIM)) + 0.3
    labels = torch.arange(5).repeat_interleave(shot)
    coefficients, bias = fit_logistic(support @ support.mT, labels, penalty=penalty, tolerance=1e-8)
    weight = (support.mT @ coefficients).requires_grad_()  # in the span of the supports
    bias = bias.requires_grad_()
    losses = torch.nn.functional.cross_entropy(
        (support @ weight + bias.unsqueeze(1)).flatten(0, 1), labels.repeat(3), reduction="sum"
    )
    (penalty * losses + weight.square().sum() / 2).backward()
    assert weight.grad.abs().max() < 1e-6 * penalty
    assert bias.grad.abs().max() < 1e-6 * penalty
    assert weight.sum(-1).abs().max() < 1e-9
    assert bias.sum(-1).abs().max() < 1e-9


def test_logistic_is_scikit_learn_s():
    from sklearn.linear_model import LogisticRegression

    support, query, head = draw(5, 4, 8, DIM), draw(9, 8, DIM, seed=1), built("logistic")
    vectors = head.embed(support.flatten(0, 1)).numpy()
    fit = LogisticRegression(tol=1e-10, max_iter=10000).fit(vectors, np.arange(5).repeat(4))
    expected = torch.from_numpy(fit.decision_function(head.embed(query).numpy()))
    torch.testing.assert_close(logits(head, support, query), expected, rtol=1e-6, atol=1e-6)


def test_two_ways_of_support_vectors_are_two_numbers():
    support = draw(2, 3, 8, DIM)
    found = logits(built("svm"), support, support[:, 0])
    assert found.argmax(1).tolist() == [0, 1]
    close(found[:, 0], -found[:, 1])


def test_neighbours_by_hand():
    """Two shots, two votes each: both for class 0, both for class 1, one each, which falls to the smaller class."""
    angles = torch.tensor([[0.0, 0.1], [1.0, 1.1]]).double()
    support = torch.stack((angles.cos(), angles.sin()), -1).unsqueeze(2)  # (way, shot, 1 frame, 2)
    asked = torch.tensor([0.0, 1.2, 0.55]).double()
    query = torch.stack((asked.cos(), asked.sin()), -1).unsqueeze(1)
    found = logits(NearestNeighbours(2), support, query)
    assert found.tolist() == [[2, 0], [0, 2], [1, 1]]
    assert found.argmax(1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["baseline", "baseline++", "baseline-plus", "tsl"])
def test_a_seeded_head_draws_from_the_number_of_the_episode(name):
    head = built(name)
    assert isinstance(head, SeededHead)
    states = head.embed(draw(22, 8, DIM))
    support = torch.stack([states[:20].view(5, 4, *states.shape[1:])] * 3)
    query = torch.stack([states[20:]] * 3)
    found = head.logits(support, query, torch.tensor([7, 8, 7]))
    close(found[0], found[2])
    close(found[1:2], head.logits(support[:1], query[:1], torch.tensor([8])))
    assert (found[0] - found[1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["baseline", "baseline++", "baseline-plus"])
def test_a_layer_followed_by_its_values_is_pytorch_s_layer(name):
    """The same start and order through torch.optim.SGD, epoch by epoch, on weights that are really there."""
    head, states = built(name), draw(12, DIM).abs()
    support, query = states[:10].view(1, 5, 2, DIM), states[10:].unsqueeze(0)
    start = head.start(support, torch.tensor([3]))
    found = head.scores(support.flatten(1, 2), query, start)[0]
    weight, bias = start.weight[0].clone().requires_grad_(), start.bias[0].clone().requires_grad_()
    length = weight.detach().norm(dim=1).requires_grad_()

    def layer(x: Tensor) -> Tensor:
        if name != "baseline++":
            return x @ weight.T + bias
        return 2 * length * (torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(weight).T)

    inputs = torch.nn.functional.normalize(support.flatten(0, 2).relu()) if name == "baseline-plus" else support[0]
    inputs = inputs.reshape(10, DIM)
    parameters = [weight, length] if name == "baseline++" else [weight, bias]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, dampening=0.9, weight_decay=1e-3)
    for epoch in start.order[0]:
        for batch in epoch.split(4):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[batch]), batch // 2).backward()
            optimizer.step()
    torch.testing.assert_close(found, layer(query[0]).detach(), rtol=1e-4, atol=1e-5)


def test_frames_of_length_one_by_hand() -> None:
    """(3, 4) and (0, 2) are (0.6, 0.8) and (0, 1), whose mean is (0.3, 0.9)."""
    head = UnitFramesEuclidean(2)
    vector = head.embed(torch.tensor([[[3.0, 4.0], [0.0, 2.0]]]))
    torch.testing.assert_close(vector, torch.tensor([[0.3, 0.9]]))
    support = torch.tensor([[[[0.3, 0.7]], [[0.3, 1.3]]]])  # (episodes, way, shot, dim)
    torch.testing.assert_close(head.logits(support, vector[None]), torch.tensor([[[-0.04, -0.16]]]))
