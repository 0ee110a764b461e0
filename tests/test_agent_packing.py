"""What is packed comes out as it went in, or is refused."""

import numpy as np
import pytest

from edgefold.runtimes.agent.packing import pack, unpack
from edgefold.runtimes.agent.refusals import Refused


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 1.0])
def test_it_is_the_same_again_and_the_smaller_the_more_zeros(zeros: float) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=50_000).astype(np.float32)
    weights[generator.random(weights.size) < zeros] = 0
    payload, size = pack(weights.tobytes())
    assert unpack(payload, size) == weights.tobytes()
    most = {0.0: 1.0, 0.5: 0.65, 0.9: 0.2, 1.0: 0.01}[zeros]  # a bitmap and the values: 1/32 + the share that is not 0
    assert len(payload) <= most * weights.nbytes


def test_what_would_not_be_smaller_travels_as_it_is() -> None:
    noise = np.random.default_rng(0).bytes(10_000)
    assert pack(noise) == (noise, None)
    assert pack(b"") == (b"", None)


@pytest.mark.parametrize("harm", ["cut", "changed", "longer", "shorter"])
def test_what_is_not_as_announced_is_refused(harm: str) -> None:
    payload, size = pack(bytes(10_000))
    assert size is not None
    harmed = {"cut": payload[:-4], "changed": b"\0" + payload[1:]}.get(harm, payload)
    announced = {"longer": size + 1, "shorter": size - 1}.get(harm, size)
    with pytest.raises(Refused, match=r"[Aa] piece .*run the same command again"):
        unpack(harmed, announced)
