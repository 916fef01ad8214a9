"""The heads that need no training against what the public programs gave, in tests/fixtures/heads.

`hyrsm_metric` holds the tensors of HyRSM's run that need no weights.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.baselines import Baseline, BaselinePlus, BaselinePlusPlus, Start
from amefu_cli.method.heads.bi_mhm import BiMHM, BiMHMPerShot
from amefu_cli.method.heads.embodied import SegmentAugmentation, segments_of, smoothed, unit_frames
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
from amefu_cli.method.heads.mean_frames import MeanFramesCosine, PrototypeEuclidean
from amefu_cli.method.heads.neighbours import NearestNeighbours
from amefu_cli.method.heads.otam import OTAM, HardOTAM, alignment_cost
from amefu_cli.method.heads.support_vectors import SupportVectors
from amefu_cli.method.heads.tsl import TSL

FOLDER = Path(__file__).parents[2] / "fixtures" / "heads"
EPSILON = 0.01  # of the cosine in most public codes
DOUBLE = {"rtol": 1e-9, "atol": 1e-12}
SINGLE = {"rtol": 1e-4, "atol": 1e-5}
TAGS = ("signed", "positive")


def reference(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return reference("inputs")


def logits(head: Head, inputs: dict[str, Tensor], tag: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits (queries, way) of the one episode of these inputs."""
    support, query = (inputs[f"{tag}.{side}"].to(dtype) for side in ("support", "query"))
    head = head.to(dtype)
    with torch.no_grad():
        states = head.embed(support.flatten(0, 1)), head.embed(query.flatten(0, 1))
        return head.logits(states[0].reshape(1, *support.shape[:2], *states[0].shape[1:]), states[1].unsqueeze(0))[0]


def check(head: Head, inputs: dict[str, Tensor], tag: str, expected: dict[str, Tensor], name: str) -> None:
    """Both tensors of a name, the float64 one and, where the file has it, the float32 one."""
    torch.testing.assert_close(logits(head, inputs, tag), expected[name], **DOUBLE)
    if f"{name}.float32" in expected:
        torch.testing.assert_close(logits(head, inputs, tag, torch.float32), expected[f"{name}.float32"], **SINGLE)


# ---- otam


@pytest.mark.parametrize("tag", TAGS)
def test_otam(inputs, tag):
    check(OTAM(24, epsilon=EPSILON), inputs, tag, reference("otam"), f"{tag}.logits")


@pytest.mark.parametrize("tag", [*TAGS, "long"])
@pytest.mark.parametrize(("smoothing", "suffix"), [(0.1, ""), (0.5, ".lambda_0.5")])
def test_the_alignment_of_one_direction(tag, smoothing, suffix):
    expected = reference("otam")
    distance = expected[f"{tag}.distance"].permute(2, 3, 0, 1)
    asked = expected[f"{tag}.query_to_support{suffix}"]
    found = alignment_cost(distance, smoothing)
    torch.testing.assert_close(found, asked[: len(found)], **DOUBLE)
    if not suffix:
        other = alignment_cost(distance.transpose(0, 1), smoothing)
        torch.testing.assert_close(other, expected[f"{tag}.support_to_query"][: len(found)], **DOUBLE)


def test_distances_of_otam(inputs):
    support, query = inputs["signed.support"].double().flatten(0, 1), inputs["signed.query"].double().flatten(0, 1)

    class Shown(OTAM):
        def reduce(self, cosines: Tensor) -> Tensor:
            return (1 - cosines).permute(2, 3, 0, 1)

    head = Shown(24, epsilon=EPSILON)
    distance = head.block_scores(head.embed(query), head.embed(support))
    torch.testing.assert_close(distance, reference("otam")["signed.distance"], **DOUBLE)


def test_sixteen_frames_in_float32_do_not_overflow(inputs):
    """The public code gives infinity here; its own float64 numbers are the yardstick of both."""
    expected = reference("otam")["long.logits"]
    head = OTAM(24, epsilon=EPSILON)
    torch.testing.assert_close(logits(head, inputs, "long"), expected, **DOUBLE)
    torch.testing.assert_close(logits(head, inputs, "long", torch.float32).double(), expected, **SINGLE)


@pytest.mark.parametrize("tag", TAGS)
def test_otam_hard_path(inputs, tag):
    expected = reference("otam_hard_path")
    check(HardOTAM(24), inputs, tag, expected, f"{tag}.logits")
    support, query = (inputs[f"{tag}.{side}"].double().flatten(0, 1) for side in ("support", "query"))
    head = HardOTAM(24)
    states = head.embed(query), head.embed(support)
    torch.testing.assert_close(head.block_scores(*states), expected[f"{tag}.path_score"], **DOUBLE)


# ---- means and sets of frames


@pytest.mark.parametrize("tag", TAGS)
def test_mean_frames(inputs, tag):
    expected = reference("mean_frames")
    check(MeanFramesCosine(24, epsilon=EPSILON), inputs, tag, expected, f"{tag}.cosine.logits")
    check(PrototypeEuclidean(24), inputs, tag, expected, f"{tag}.euclidean.logits")


@pytest.mark.parametrize("tag", TAGS)
def test_bi_mhm(inputs, tag):
    expected = reference("hyrsm_metric")
    check(BiMHM(24), inputs, tag, expected, f"{tag}.metric_only.frame_prototype.logits")
    check(BiMHMPerShot(24), inputs, tag, expected, f"{tag}.metric_only.mean_of_distances.logits")


MATCHING = {
    "mean": MatchMean,
    "max": MatchMax,
    "diag": MatchDiag,
    "chamfer-support": ChamferSupport,
    "chamfer-query": ChamferQuery,
    "chamfer": Chamfer,
}


class Halved(OTAM):
    """The matching repository's OTAM: the mean of both directions."""

    def reduce(self, cosines: Tensor) -> Tensor:
        return super().reduce(cosines) / 2


@pytest.mark.parametrize("name", [name for name in reference("matching") if not name.endswith("float32")])
def test_matching(inputs, name):
    tag, function, shots, tuples, _ = name.split(".")
    options = {"epsilon": EPSILON, "tuple_n": int(tuples[-1])}
    if function in ("chamfer", "chamfer-query"):
        options["shots"] = shots
    head = Halved(24, **options) if function == "otam" else MATCHING[function](24, **options)
    check(head, inputs, tag, reference("matching"), name)


@pytest.mark.parametrize("name", [n for n in reference("matching_projected") if n.endswith("logits")])
def test_matching_projected(inputs, name):
    expected = reference("matching_projected")
    tag, function, shots, tuples, _ = name.split(".")
    options = {"epsilon": EPSILON, "width": 16}
    if function == "linear":
        head = MatchLinear(24, frames=8, **options)
    elif function == "otam":
        head = Halved(24, **options)
    else:
        head = ChamferPlusPlus(24, shots=shots, tuple_n=int(tuples[-1]), **options)
    weights = {f"tuples.{k[15:]}": v for k, v in expected.items() if k.startswith(f"weight.{tuples}.")}
    if function == "linear":
        weights["linear.weight"] = expected["weight.linear.weight"]
    assert head.load_state_dict(weights, strict=False) == (["weight"], [])  # the temperature alone is not in the file
    check(head, inputs, tag, expected, name)


# ---- segments of base videos


def published_augmentation(support: Tensor, gallery: Tensor) -> Tensor:
    """Unit frames (way, shot, frames, dim) to mean frames (way, shot, 1 + segments, dim), with two faults of the public
    code that make a support depend on its episode: the copy called the original is segment i of the whole episode
    where video i is meant, and the smoothing runs over the episode's segments end to end, so that videos mix."""
    segments = segments_of(support)  # (way, shot, segments, dim)
    ends, count = segments.flatten(0, 2), segments.shape[2]
    chosen = smoothed(torch.cdist(ends, gallery)).argmin(-1)
    replaced = (gallery[chosen] - ends).view_as(segments) / count
    original = ends[: support.shape[0] * support.shape[1]].view(*support.shape[:2], 1, -1)
    return torch.cat((original, support.mean(2, keepdim=True) + replaced), 2)


def test_segment_augmentation():
    expected, inputs = reference("embodied"), reference("inputs")
    # lengths are divided by in float32, as the file was made
    support, query, gallery = (
        (x / x.norm(dim=-1, keepdim=True)).double()
        for x in (inputs["positive.support"], inputs["positive.query"], expected["gallery"])
    )
    head = SegmentAugmentation(24)
    head.use_gallery(gallery)
    distance = torch.cdist(segments_of(unit_frames(support.flatten(0, 1))), head.gallery)
    tight = {"rtol": 1e-6, "atol": 1e-7}  # scaling unit frames again moves them by a rounding of float32
    torch.testing.assert_close(distance.flatten(0, 1), expected["segment_distance"], **tight)
    torch.testing.assert_close(smoothed(distance).flatten(0, 1).float(), expected["smoothed_distance.video"])
    assert smoothed(distance).argmin(-1).tolist() == expected["chosen.video"].tolist()
    smooth = smoothed(distance.flatten(0, 1))
    torch.testing.assert_close(smooth.float(), expected["smoothed_distance.episode"])
    assert smooth.argmin(-1).view(10, 4).tolist() == expected["chosen.episode"].tolist()
    published = published_augmentation(unit_frames(support), head.gallery)
    torch.testing.assert_close(published, expected["augmented.published"], **tight)
    _, of_support = head.sides(head.embed(support.flatten(0, 1)))
    torch.testing.assert_close(of_support.view(5, 2, 24), expected["augmented.described"].mean(2), **tight)
    found = logits(head, {"x.support": support, "x.query": query}, "x")
    torch.testing.assert_close(found, expected["logits.described"], **tight)
    far = -torch.cdist(unit_frames(query).flatten(0, -3).mean(1), published.mean((1, 2)))
    torch.testing.assert_close(far, expected["logits.published"], **tight)


# ---- fitted per episode


def numpy_means(frames: Tensor) -> Tensor:
    """Mean frames (5, 2, dim) as the file's were made: averaged in float32 by NumPy, then taken to float64."""
    return torch.from_numpy(frames.flatten(0, 1).numpy().mean(1)).double().view(5, -1, frames.shape[-1])


@pytest.mark.parametrize("tag", TAGS)
def test_logistic(inputs, tag):
    expected, head = reference("probes"), Logistic(24)
    torch.testing.assert_close(logits(head, inputs, tag), expected[f"{tag}.logistic.decision"], rtol=1e-6, atol=1e-7)
    support = head.embed(inputs[f"{tag}.support"].double().flatten(0, 1))
    labels = torch.arange(5).repeat_interleave(2)
    coefficients, bias = fit_logistic((support @ support.T)[None], labels, penalty=1.0, tolerance=1e-10)
    torch.testing.assert_close(
        (support.T @ coefficients[0]).T, expected[f"{tag}.logistic.weight"], rtol=1e-6, atol=1e-7
    )
    torch.testing.assert_close(bias[0], expected[f"{tag}.logistic.bias"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tag", TAGS)
def test_support_vectors_and_neighbours(inputs, tag):
    expected = reference("probes")
    # libsvm stops early, at a place that moves with the last bit
    means = {key: numpy_means(x).unsqueeze(-2) for key, x in inputs.items()}
    decision = expected[f"{tag}.svm_rbf_c10.decision_ovr"]
    torch.testing.assert_close(logits(SupportVectors(24), means, tag), decision, **DOUBLE)
    torch.testing.assert_close(logits(SupportVectors(24), inputs, tag), decision, rtol=0, atol=1e-3)
    # a decision is a number of won duels plus less than a third; `predict` gives a tied number to the first class
    votes = logits(SupportVectors(24, kernel="linear"), inputs, tag).numpy().round()
    assert votes.argmax(1).tolist() == expected[f"{tag}.svm_linear_c10.predicted"].tolist()
    assert logits(NearestNeighbours(24), inputs, tag).argmax(1).tolist() == expected[f"{tag}.knn.predicted"].tolist()


def start_of(weight: Tensor, bias: Tensor, order: Tensor) -> Start:
    return Start(weight.double()[None], bias.double()[None], order[None])


@pytest.mark.parametrize("tag", TAGS)
def test_baselines(inputs, tag):
    probes, cosine = reference("probes"), reference("baseline_cosine")
    support, query = (numpy_means(inputs[f"{tag}.{side}"]).view(1, 10, 24) for side in ("support", "query"))
    order = probes["baseline.order"]
    start = start_of(probes["weight.baseline.initial.weight"], probes["weight.baseline.initial.bias"], order)
    found = Baseline(24).scores(support, query, start)[0]
    torch.testing.assert_close(found.float(), probes[f"{tag}.baseline.scores"], **SINGLE)
    head = BaselinePlus(24)
    drawn = head.start(support.view(1, 5, 2, 24), torch.zeros(1, dtype=torch.int64))
    found = head.scores(support, query, Start(drawn.weight, drawn.bias, order[None]))[0]
    torch.testing.assert_close(found.float(), probes[f"{tag}.baseline_plus.scores"], **SINGLE)
    start = start_of(cosine["weight.initial"], torch.zeros(5), order)
    found = BaselinePlusPlus(24).scores(support, query, start)[0]
    torch.testing.assert_close(found, cosine[f"{tag}.scores"], **DOUBLE)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("epochs", [10, 100])
def test_tsl(inputs, tag, epochs):
    expected = reference("probes")
    support, query = (inputs[f"{tag}.{side}"].double() for side in ("support", "query"))
    weight = expected["weight.tsl.initial.weight"].double()[None]
    found = TSL(24, epochs=epochs).scores(support[None], query.flatten(0, 1)[None], weight)[0].exp()
    torch.testing.assert_close(found, expected[f"{tag}.tsl.epochs_{epochs}.probability"], **DOUBLE)
