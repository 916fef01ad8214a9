"""Which device and arithmetic a network runs with."""

from __future__ import annotations

import torch

from amefu_cli.errors import UsageError


def choose_device(name: str) -> torch.device:
    """The device `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; auto is the fastest one present.

    Raises:
        UsageError: a device that is not there; lists those that are.
    """
    present = present_devices()
    if name == "auto":
        return torch.device(present[-1])
    if name == "cuda" and "cuda:0" in present:
        return torch.device("cuda:0")
    if name not in present:
        raise UsageError(f"--device {name}: not present on this machine; present: {', '.join(present)}")
    return torch.device(name)


def present_devices() -> list[str]:
    """The devices of this machine, the fastest last."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.append("mps")
    present += [f"cuda:{index}" for index in reversed(range(torch.cuda.device_count()))]
    return present


def choose_precision(name: str, device: torch.device, *, training: bool = False) -> torch.dtype:
    """`float32`, `bfloat16`, or with `auto` the latter where the hardware multiplies in it."""
    if name == "auto":
        name = "bfloat16" if _gains_by_bfloat16(device, training) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def precision_name(precision: torch.dtype) -> str:
    """`float32` or `bfloat16`, as headers record it."""
    return str(precision).removeprefix("torch.")


def _gains_by_bfloat16(device: torch.device, training: bool) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Forward and backward of a convolutional network are no faster in it on the CPUs that were measured.
    return device.type == "cpu" and not training and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
