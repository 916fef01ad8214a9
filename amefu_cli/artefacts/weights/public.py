"""The names that the paper's public code gives its tensors, and ours for the same ones. Names in, names out.

A stream there is `nn.Sequential` over ResNet-50's children (`convnet.4.0.conv1.weight` is torchvision's
`layer1.0.conv1.weight`) and a linear classifier `fc`, which our stream checkpoints call `head`. A full model holds
two streams, DGAdaIN as `instance_norm`, and one more `fc` that nothing reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CHILDREN = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
NETWORK = "backbone.network."
PUBLIC_PREFIXES = {"rgb": "submodel_rgb.", "depth": "submodel_depth."}
KEPT = "public."
"""What we never read but give back in an export: the unused `fc`, and the bias before 1 was added to it."""

FUSION_NAMES = {
    "scale.weight": "instance_norm.affine_scale.weight",
    f"{KEPT}scale.bias": "instance_norm.affine_scale.bias",
    "shift.weight": "instance_norm.affine_bias.weight",
    "shift.bias": "instance_norm.affine_bias.bias",
    f"{KEPT}fc.weight": "fc.weight",
    f"{KEPT}fc.bias": "fc.bias",
}


def public_name(name: str) -> str:
    """The public name of a torchvision ResNet tensor.

    >>> public_name("layer1.0.conv1.weight")
    'convnet.4.0.conv1.weight'
    """
    child, _, rest = name.partition(".")
    return f"convnet.{CHILDREN[child]}.{rest}"


def stream_names(network: Iterable[str], *, prefix: str) -> dict[str, str]:
    """Our name of every tensor of a stream's checkpoint with its public one, in the public order. `network` are the
    names of the backbone without its classifier; `prefix` is "" in a file of one stream."""
    names = {f"{NETWORK}{name}": f"{prefix}{public_name(name)}" for name in network}
    return names | {f"head.{part}": f"{prefix}fc.{part}" for part in ("weight", "bias")}


def file_names(network: Iterable[str], role: str) -> dict[str, dict[str, str]]:
    """By checkpoint of ours, our names with the public ones, of a file of one role: `full`, `rgb` or `depth`."""
    if role in PUBLIC_PREFIXES:
        return {role: stream_names(network, prefix="")}
    network = tuple(network)
    streams = {stream: stream_names(network, prefix=prefix) for stream, prefix in PUBLIC_PREFIXES.items()}
    return {**streams, "fusion": FUSION_NAMES}


def expected_shapes(
    network: Mapping[str, tuple[int, ...]], role: str, *, dim: int, classes: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Public name and shape of every tensor of a file of one role, in its order. `network` are the shapes of the
    backbone, whose features are `dim` wide; `classes` are the widths of the `fc` by checkpoint of ours, which differ
    from data set to data set."""
    shapes = {}
    for part, names in file_names(network, role).items():
        for ours, public in names.items():
            if ours.startswith(NETWORK):
                shapes[public] = network[ours.removeprefix(NETWORK)]
            else:
                rows = classes[part] if ours.startswith(("head.", f"{KEPT}fc.")) else dim
                shapes[public] = (rows, dim) if ours.endswith("weight") else (rows,)
    return shapes


def roles_by_names(names: Iterable[str]) -> str:
    """What a state dict seems to be, by its names: `full`, `stream` or `other`."""
    names = set(names)
    if any(name.startswith("instance_norm.") for name in names):
        return "full"
    return "stream" if any(name.startswith("convnet.") for name in names) else "other"
