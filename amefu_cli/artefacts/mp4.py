"""Write frames as an mp4 file that any player shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from amefu_cli.artefacts.atomic import sync, temporary_beside
from amefu_cli.errors import AmefuError

ENCODERS = {
    "libx264": {"crf": "18", "preset": "superfast"},  # slower presets are not repeatable on tiny frames
    "mpeg4": {"qmin": "2", "qmax": "4"},  # every build of FFmpeg has it; not every one may carry libx264
}
"""Encoder -> options of high quality, the best first."""


def write_mp4(path: Path, frames: npt.NDArray[np.uint8], fps: int) -> None:
    """Write RGB frames uint8 (frames, height, width, 3) to `path`, wholly or not at all.

    Raises:
        AmefuError: an odd height or width, which 4:2:0 colour cannot hold.
    """
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise AmefuError(f"{path.name}: frames of {height}×{width}; an mp4 needs an even height and width")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    try:
        with av.open(temporary, "w", format="mp4") as container:
            stream = cast(VideoStream, container.add_stream(encoder, rate=fps, options=ENCODERS[encoder]))
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.thread_count = 1  # the clips are encoded side by side instead
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
