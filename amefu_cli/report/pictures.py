"""The sections that show videos: who is confused with whom, where vectors lie, and episodes as pictures."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.pictures import encode_jpeg, read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import AmefuError
from amefu_cli.method.episodes import hits
from amefu_cli.report import figures
from amefu_cli.report.contents import Classified, Contents
from amefu_cli.report.page import Block, Cell, Figure, Key, Picture, Pictures, Table, Text, jpeg_uri

PAIRS, EXAMPLES = 5, 3  # confused pairs of classes of a result, and of each so many videos
EPISODES = 10  # hardest, and as many typical ones
SHOTS = 3  # supports and queries of a class that are shown of an episode
SIDE, QUALITY = 112, 80  # of a picture: the longer side, pixels, and JPEG quality
POINTS = 1000  # videos of a t-SNE, equally many of each class

Look = Callable[[str], str]
"""The frame of a video as a data URI; empty where there is none."""


def look_at(frames: VideoStore[FramesHeader] | None) -> Look:
    """The middle frame of each video, read once."""

    @functools.cache
    def uri(video: str) -> str:
        if frames is None:
            return ""
        try:
            stored = frames.read(video)
            image = Image.fromarray(read_frames(stored, [stored.record.frames // 2])[0])
        except AmefuError:  # one damaged video costs one picture
            return ""
        image.thumbnail((SIDE, SIDE))
        return jpeg_uri(encode_jpeg(np.asarray(image), quality=QUALITY))

    return uri


# 5. Confusion ------------------------------------------------------------------------------------------------


def confusion_of(found: Classified) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many queries of each class (rows) fell to each, and their share among those of episodes with both classes,
    0..1; NaN where two classes never met."""
    count = len(found.class_names)
    asked, classes = found.episodes.asked, found.episodes.classes
    true = np.broadcast_to(asked[..., None], found.chosen.shape)
    counts = np.bincount((true * count + found.fell_to).ravel(), minlength=count * count).reshape(count, count)
    queried, there = np.zeros((2, len(classes), count))
    np.put_along_axis(queried, asked, found.chosen.shape[2], 1)
    np.put_along_axis(there, classes, 1.0, 1)
    met = queried.T @ there
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, met, out=shares, where=met > 0)
    return counts, shares


def confusions(contents: Contents) -> Iterator[Block]:
    """A matrix for each of the chosen results, and the pairs most confused with frames of both."""
    look = look_at(contents.frames)
    for place, found in enumerate(contents.classified):
        names, (counts, shares) = found.class_names, confusion_of(found)
        title = contents.name_of(found.result)
        yield Text(f"{title}: {len(found.chosen)} episodes", heading=True)
        wrong = np.where(np.eye(len(names), dtype=bool) | np.isnan(shares), -1.0, shares)
        order = np.argsort(-wrong, axis=None, kind="stable")[: 2 * PAIRS]
        pairs = [divmod(int(cell), len(names)) for cell in order if wrong.ravel()[cell] > 0]
        words = "; ".join(f"{names[a]} as {names[b]} {shares[a, b]:.0%}" for a, b in pairs[:PAIRS])
        alt = f"Confusion matrix of {title}. Most confused: {words or 'none'}."
        yield Figure(figures.matrix(names, shares), alt)
        rows: list[list[str | Cell]] = [
            [names[a], names[b], Cell(f"{shares[a, b]:.1%}", shares[a, b]), Cell(f"{counts[a, b]}", counts[a, b])]
            for a, b in pairs
        ]
        yield Table(("true", "taken for", "share", "queries"), rows, "the pairs most confused")
        for a, b in () if place else pairs[:PAIRS]:  # of one result, or the page would be nothing else
            yield _confused(found, a, b, float(shares[a, b]), look)


def _confused(found: Classified, true: int, said: int, share: float, look: Look) -> Pictures:
    """Queries of one class beside the first support of the other that they fell to: the pairs that did so most."""
    episode, way, query = np.nonzero((found.episodes.asked[..., None] == true) & (found.fell_to == said))
    queried = found.episodes.query[episode, way, query]
    support = found.episodes.support[episode, found.chosen[episode, way, query], 0]
    often = Counter(zip(queried.tolist(), support.tolist(), strict=True)).most_common()
    shown = dict[int, int]()  # each query once
    for (video, other), _ in often:
        if len(shown) < EXAMPLES:
            shown.setdefault(video, other)
    names = found.class_names
    groups = []
    for video, other in shown.items():
        pair = (video, names[true], "wrong", f"taken for {names[said]}"), (other, names[said], "", names[said])
        pictures = [_picture(found.ids[number], name, mark, note, look) for number, name, mark, note in pair]
        groups.append((found.ids[video].partition("/")[2], pictures))
    return Pictures(f"{names[true]}, taken for {names[said]}: {share:.1%}; below each a support of the latter", groups)


def _picture(video: str, name: str, mark: str, note: str, look: Look) -> Picture:
    said = {"right": ", classified right", "wrong": f", {note}"}.get(mark, "")
    return Picture(look(video), f"A frame of {video} ({name}){said}", note, mark)


# 6. t-SNE ----------------------------------------------------------------------------------------------------


def neighbourhoods(contents: Contents) -> Iterator[Block]:
    """One figure a model, of the same videos in the same colours."""
    novel = contents.novel
    if novel is None or not novel.vectors:
        return
    count = len(novel.class_names)
    each = max(1, POINTS // count)
    chosen = np.sort(np.concatenate([np.flatnonzero(novel.labels == label)[:each] for label in range(count)]))
    if len(chosen) < 4:
        yield Text(f"{len(chosen)} novel videos are too few for a picture.")
        return
    if len(chosen) < len(novel.labels):
        yield Text(f"{len(chosen)} of {len(novel.labels)} novel videos: the first {each} of each class.")
    for title, vectors in novel.vectors.items():
        places, labels = figures.flattened(vectors[chosen]), novel.labels[chosen]
        alt = f"t-SNE of {len(chosen)} novel videos of {count} classes by their {title} vectors"
        near = float(np.mean(labels[_nearest(vectors[chosen])] == labels))
        words = f"{title}: the nearest other video is of the same class for {near:.0%}"
        yield Figure(figures.scatter(places, labels, count), f"{alt}; {words}.", words, abreast=3)
    looks = zip(figures.looks(count), novel.class_names, strict=True)
    yield Key([(colour, figures.SIGNS[sign], name) for (colour, sign), name in looks])


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest other vector of each, by cosine."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return np.asarray(likeness.argmax(1))


# 7. Episodes -------------------------------------------------------------------------------------------------


def hardest_and_typical(classified: Sequence[Classified], count: int) -> tuple[list[int], list[int]]:
    """Episodes by how much of them the results get right on average: those with the least, and those nearest to the
    mean of all, the earlier first. The results are of the same episodes."""
    shares = np.mean([hits(found.chosen).mean((1, 2)) for found in classified], axis=0)
    hardest = np.argsort(shares, kind="stable")[:count]
    typical = np.argsort(np.abs(shares - shares.mean()), kind="stable")
    return hardest.tolist(), [number for number in typical.tolist() if number not in set(hardest.tolist())][:count]


def episodes_shown(contents: Contents) -> Iterator[Block]:
    """The hardest and the most typical episodes of the first result that was classified, with those of the same."""
    if not contents.classified:
        return
    first, look = contents.classified[0], look_at(contents.frames)
    shape, mark = first.chosen.shape, first.result.asked.episodes_fingerprint
    same = [found for found in contents.classified
            if found.result.asked.episodes_fingerprint == mark and found.chosen.shape == shape]  # fmt: skip
    names = "; ".join(contents.name_of(found.result) for found in same)
    yield Text(f"By the mean accuracy of {names}. Right and wrong are those of {contents.name_of(first.result)}.")
    chosen = hardest_and_typical(same, EPISODES)
    for heading, numbers in zip(("The hardest", "The most typical"), chosen, strict=True):
        yield Text(heading, heading=True)
        for number in numbers:
            yield _episode(first, number, look)


def _episode(found: Classified, number: int, look: Look) -> Pictures:
    groups, right, of = [], hits(found.chosen)[number], found.episodes
    for way, label in enumerate(of.classes[number].tolist()):
        name = found.class_names[label]
        pictures = [_picture(found.ids[video], name, "", "support", look)
                    for video in of.support[number, way, :SHOTS].tolist()]  # fmt: skip
        for place, video in enumerate(of.query[number, way : way + 1, :SHOTS].ravel().tolist()):
            said = found.class_names[found.fell_to[number, way, place]]
            mark, note = ("right", "right") if right[way, place] else ("wrong", f"taken for {said}")
            pictures.append(_picture(found.ids[video], name, mark, note, look))
        groups.append((name, pictures))
    return Pictures(f"Episode {number}: {right.sum()} of {right.size} right", groups)
