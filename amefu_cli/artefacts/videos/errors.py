"""What can be wrong with one source video. The class name is what `failures.jsonl` records and a user reads.

Every message states the path, what was found, and the fix. The classes take the message alone, so that they
cross process borders by pickle.
"""

from __future__ import annotations

from amefu_cli.errors import VideoError


class EmptyFile(VideoError):
    """The file holds zero bytes."""


class NotAVideo(VideoError):
    """The file is of no kind that FFmpeg knows: text, an archive, an image renamed."""


class NoVideoStream(VideoError):
    """A media file, but with sound, subtitles or cover art only."""


class NoFrames(VideoError):
    """A video stream that ends without a single frame."""


class TruncatedVideo(VideoError):
    """The file ends before what its header promises, or far fewer frames decode than the header says."""


class CorruptVideo(VideoError):
    """The bytes cannot be decoded: damage in the container, in the stream or in an image."""


class MissingDecoder(VideoError):
    """FFmpeg knows the stream's kind at most by name: this build has no decoder for it."""


class EncryptedVideo(VideoError):
    """The stream is encrypted (Common Encryption, WebM encryption, protected iTunes video)."""


class UnreadableFile(VideoError):
    """The operating system refuses to open or read the file."""


class VanishedFile(VideoError):
    """The file was there when the folder was read and is gone now."""
