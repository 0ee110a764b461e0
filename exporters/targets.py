"""Targets: which opset a device's runtime reads, and how it wants its integers."""

from dataclasses import dataclass

from edgefold.errors import InputError

NEWEST_OPSET = 20
"""Opset 23 has an Attention operator that TensorRT 11 and RTX take in fp16 alone."""
TORCH_OPSET = 17
"""The oldest that torch's exporter writes: asked for an older one, it writes 18 and says nothing."""
NEWEST_WRITTEN = 25
"""To which onnxscript raises what torch writes; asked for a newer one, it leaves 18 and says nothing."""
OLDEST_OPSET = 16
"""17 without LayerNormalization."""


@dataclass(frozen=True)
class Target:
    """What an artifact is encoded for."""

    unsigned: bool = False
    """Activations as u8 about 128; else as s8 about 0: one grid."""
    weight_bits: int = 8
    """x86 without VNNI adds pairs of u8 * s8 products in saturating 16 bits; 7 never fill them.

    With 8 bits a dynamic BERT classifier fell from 84.8 % to chance on AVX2; 7 bits cost no time and no accuracy there.
    """
    opset: int = NEWEST_OPSET
    """The newest that it reads."""
    int8_opset: int = NEWEST_OPSET
    """To which int8 may raise it: attention is one operator from 23 on, which was measured on x86."""
    is_tensorrt: bool = False
    is_openvino: bool = False
    """Its int8 is made by NNCF."""


TARGETS = {
    "cpu-x86": Target(unsigned=True, weight_bits=7, int8_opset=23),
    "cpu-x86-vnni": Target(unsigned=True, int8_opset=23),
    "cpu-arm": Target(),
    "openvino": Target(is_openvino=True),
    "tensorrt": Target(is_tensorrt=True),
    "tensorrt-8.5": Target(is_tensorrt=True, opset=16),
    "tensorrt-8.6": Target(is_tensorrt=True, opset=17),
    "tensorrt-10": Target(is_tensorrt=True),
    "tensorrt-11": Target(is_tensorrt=True),
    "tensorrt-rtx": Target(is_tensorrt=True),
}
"""By name; "tensorrt" is 10 and newer."""


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none.
    """
    if name not in TARGETS:
        raise InputError(f"target={name!r} is not known; choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]


def choose_opset(target: str, opset: int | None = None) -> int:
    """The opset to export: the one asked for, or the target's newest.

    Raises:
        InputError: the target does not read it, or torch does not write it.
    """
    newest = find_target(target).opset
    if opset is None:
        return newest
    if opset < OLDEST_OPSET:
        raise InputError(
            f"opset={opset} is too old: torch writes {TORCH_OPSET} and newer, which edgefold takes down to "
            f"{OLDEST_OPSET} at most. Choose {OLDEST_OPSET} to {newest}."
        )
    if opset > NEWEST_WRITTEN:
        raise InputError(
            f"opset={opset} is not written yet: choose {OLDEST_OPSET} to {NEWEST_WRITTEN}, or leave it out."
        )
    if opset > newest and target.startswith("tensorrt"):
        raise InputError(f"{target} reads opsets up to {newest}; got opset={opset}. Leave it out.")
    return opset
