"""Any ONNX depth model, run by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amefu_cli.errors import UsageError, import_extra
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD

ONNX_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
ONNX_STEP = 224  # of free sizes: a multiple of 32 for convolutions and of 14 for vision transformers


class OnnxDepth:
    """Any ONNX model from a batch of RGB images to a map per image, run by onnxruntime from its bytes or path."""

    larger_is_farther = False

    def __init__(
        self, weights: bytes | str, *, device: torch.device, threads: int, imagenet_input: bool, **_: object
    ) -> None:
        runtime = import_extra("onnxruntime", extra="onnx", needed_by="the estimator 'onnx'")
        options, providers = runtime.SessionOptions(), _providers(runtime, device)
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors only; they are raised as well
        try:
            self.session = runtime.InferenceSession(weights, options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise UsageError(f"onnx: not a model that onnxruntime can load: {error}") from error
        self.input, self.output = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self.imagenet_input, shape = imagenet_input, self.input.shape
        if len(self.session.get_inputs()) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise UsageError(f"onnx: input {self.input.name!r} has shape {shape}; one batch of RGB images is needed")
        if self.input.type not in ONNX_TYPES:
            raise UsageError(
                f"onnx: input {self.input.name!r} is {self.input.type}; it must be {', '.join(ONNX_TYPES)}"
            )
        self.channels_first = shape[1] == 3
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None

    def size(self, height: int, width: int) -> tuple[int, int]:
        fixed = self.input.shape[2:4] if self.channels_first else self.input.shape[1:3]
        high, wide = (
            own if isinstance(own, int) and own > 0 else max(1, round(given / ONNX_STEP)) * ONNX_STEP
            for own, given in zip(fixed, (height, width), strict=True)
        )
        return high, wide

    def __call__(self, images: Tensor) -> Tensor:
        if self.imagenet_input:
            mean, std = images.new_tensor([IMAGENET_MEAN, IMAGENET_STD]).view(2, 1, 3, 1, 1)
            images = (images - mean) / std
        kind = ONNX_TYPES[self.input.type]
        batch = images.mul(255).round().cpu().numpy() if kind == np.uint8 else images.cpu().numpy()
        if not self.channels_first:
            batch = batch.transpose(0, 2, 3, 1)
        batch = np.ascontiguousarray(batch, dtype=kind)
        step = self.batch or len(batch)
        maps = [self._run(batch[start : start + step], step) for start in range(0, len(batch), step)]
        return torch.from_numpy(np.concatenate(maps)).to(images.device)

    def _run(self, batch: NDArray[Any], step: int) -> NDArray[np.float32]:
        """(up to `step` images) -> as many maps; a model of a fixed batch is given its last image again."""
        count = len(batch)
        full = np.concatenate([batch, np.repeat(batch[-1:], step - count, axis=0)]) if count < step else batch
        found = self.session.run([self.output.name], {self.input.name: full})[0]
        return one_map_per_image(np.asarray(found, dtype=np.float32), step)[:count]


def one_map_per_image(found: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(count, h, w) of an output with a channel axis of 1 in front, at the end, or without one."""
    if found.ndim == 4 and 1 in (found.shape[1], found.shape[3]):
        found = found[:, 0] if found.shape[1] == 1 else found[..., 0]
    if found.ndim == 2 and count == 1:
        found = found[None]
    if found.ndim != 3 or len(found) != count:
        raise UsageError(f"onnx: {count} images gave an output of shape {found.shape}; one map per image is needed")
    return found


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    """The execution provider of the device that was asked for, never another one."""
    name = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device.type)
    if name not in runtime.get_available_providers():
        raise UsageError(
            f"onnx: this onnxruntime does not run on {device.type}; use --device cpu"
            + (" or `pip install onnxruntime-gpu`" if device.type == "cuda" else "")
        )
    return [(name, {"device_id": device.index or 0})] if device.type == "cuda" else [name]
