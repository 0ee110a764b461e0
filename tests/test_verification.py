"""Agreement of two functions, output by output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefold.errors import InputError
from edgefold.runtimes import verify_outputs

Arrays = Mapping[str, NDArray[Any]]
generator = np.random.default_rng(0)
BATCHES = [{"x": generator.normal(size=(rows, 4)).astype(np.float32)} for rows in (1, 3, 6)]


def identity(batch: Arrays) -> Arrays:
    return {"y": batch["x"]}


def test_a_function_agrees_with_itself() -> None:
    verification = verify_outputs(identity, identity, iter(BATCHES), tolerance=0)
    output = verification.outputs["y"]
    assert verification.passed
    assert verification.batches == 3
    assert (output.max_error, output.mean_error, output.argmax_agreement) == (0, 0, 1)
    assert output.cosine == pytest.approx(1)


@pytest.mark.parametrize("shift", [1e-3, -0.25])
def test_a_constant_shift_is_both_the_largest_and_the_mean_error(shift: float) -> None:
    def shifted(batch: Arrays) -> Arrays:
        return {"y": batch["x"].astype(np.float64) + shift}

    output = verify_outputs(shifted, identity, BATCHES).outputs["y"]
    assert (output.max_error, output.mean_error) == pytest.approx((abs(shift), abs(shift)))
    assert output.argmax_agreement == 1


@pytest.mark.parametrize("tolerance", [0.5, 0.25, 0.1])
def test_it_passes_up_to_its_tolerance(tolerance: float) -> None:
    def shifted(batch: Arrays) -> Arrays:
        return {"y": batch["x"] + np.float32(0.25)}

    exact = [{"x": np.arange(8, dtype=np.float32).reshape(2, 4)}]  # sums without rounding
    assert verify_outputs(shifted, identity, exact, tolerance=tolerance).passed is (tolerance >= 0.25)


@pytest.mark.parametrize("scale", [2.0, -1.0, 0.0])
def test_the_cosine_sees_direction_only(scale: float) -> None:
    cosine = verify_outputs(lambda batch: {"y": batch["x"] * scale}, identity, BATCHES).outputs["y"].cosine
    assert cosine == pytest.approx(np.sign(scale))


def test_zeros_agree_with_zeros() -> None:
    zeros = [{"x": np.zeros((2, 3))}]
    assert verify_outputs(identity, identity, zeros).outputs["y"].cosine == 1


def test_the_worst_of_all_batches_counts() -> None:
    def off_on_one(batch: Arrays) -> Arrays:
        return {"y": batch["x"] + (len(batch["x"]) == 3) * np.float32(1)}

    verification = verify_outputs(off_on_one, identity, BATCHES, tolerance=0.5)
    assert verification.outputs["y"].max_error == pytest.approx(1, abs=1e-6)  # float32 sums
    assert not verification.passed


def test_argmax_agreement_is_a_share_of_vectors() -> None:
    one_hot = np.eye(4, dtype=np.float32)
    turned = one_hot.copy()
    turned[0] = one_hot[1]
    found = verify_outputs(lambda batch: {"y": turned}, lambda batch: {"y": one_hot}, [{}])
    assert found.outputs["y"].argmax_agreement == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("in_reference", [False, True])
def test_what_is_not_a_number_never_passes(value: float, in_reference: bool) -> None:
    def broken(batch: Arrays) -> Arrays:
        return {"y": np.where(batch["x"] == batch["x"].max(), value, batch["x"])}

    pair = (identity, broken) if in_reference else (broken, identity)
    assert not verify_outputs(*pair, BATCHES, tolerance=1e9).passed


def test_every_shared_output_is_compared_and_each_may_fail_it() -> None:
    def two(batch: Arrays) -> Arrays:
        return {"y": batch["x"], "z": batch["x"] + 1, "extra": batch["x"]}

    verification = verify_outputs(two, lambda batch: {"y": batch["x"], "z": batch["x"]}, BATCHES)
    assert set(verification.outputs) == {"y", "z"}
    assert not verification.passed


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="at least one batch; got none"):
        verify_outputs(identity, identity, [])
    with pytest.raises(InputError, match="no output in common: z against y"):
        verify_outputs(lambda batch: {"z": batch["x"]}, identity, BATCHES)
    with pytest.raises(InputError, match=r"y has the shape \(1, 3\) against \(1, 4\)"):
        verify_outputs(lambda batch: {"y": batch["x"][:, 1:]}, identity, BATCHES)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_nan_in_any_batch_is_not_lost_among_the_others(place: int) -> None:
    def broken(batch: Arrays) -> Arrays:
        return {"y": batch["x"] * (np.nan if batch is BATCHES[place] else 1)}

    assert not verify_outputs(broken, identity, BATCHES, tolerance=1e9).passed


def test_batches_weigh_by_their_values() -> None:
    def shifted(batch: Arrays) -> Arrays:
        return {"y": batch["x"] + (len(batch["x"]) == 6)}

    output = verify_outputs(shifted, identity, [{"x": np.ones((rows, 4))} for rows in (1, 3, 6)]).outputs["y"]
    assert output.mean_error == pytest.approx(0.6)
    assert output.cosine == pytest.approx((4 + 6 * 2) / np.sqrt((4 + 6 * 4) * 10))


def test_an_output_without_values_proves_nothing_and_is_refused() -> None:
    with pytest.raises(InputError, match=r"y of batch 2 is empty: \(0, 4\)"):
        verify_outputs(identity, identity, [BATCHES[0], {"x": np.ones((0, 4))}])


def test_the_divergence_of_logits_is_that_of_their_softmax() -> None:
    """KL((1/2, 1/2) ‖ (1/4, 3/4)) = ln(2/√3); rows of padding, all zeros, do not count."""

    def reference(batch: Arrays) -> Arrays:
        return {"logits": np.array([[5.0, 5.0], [0.0, 0.0]]), "hidden": np.array([[1.0, -7.0]])}

    def candidate(batch: Arrays) -> Arrays:
        return {"logits": np.array([[0.0, np.log(3)], [0.0, 0.0]]), "hidden": np.array([[1.0, 1.0]])}

    outputs = verify_outputs(candidate, reference, BATCHES).outputs
    assert outputs["logits"].divergence == pytest.approx(np.log(2 / np.sqrt(3)))
    assert outputs["hidden"].divergence is None
    assert (outputs["logits"].largest, outputs["hidden"].largest) == (5, 7)


def test_the_share_of_the_variance_that_is_missed_is_about_the_mean() -> None:
    """Values far from zero have a cosine of one whatever they do; their variance tells."""
    generator = np.random.default_rng(0)
    values = [{"x": 300 + generator.normal(size=(rows, 1))} for rows in (50, 30)]
    together = np.concatenate([batch["x"] for batch in values])
    noise = {len(batch["x"]): generator.normal(size=batch["x"].shape) for batch in values}
    found = verify_outputs(lambda b: {"y": b["x"] + noise[len(b["x"])]}, identity, values).outputs["y"]
    added = np.concatenate(list(noise.values()))
    assert found.missed == pytest.approx((added**2).sum() / ((together - together.mean()) ** 2).sum())
    assert found.cosine > 0.999
    assert found.width == 1
    assert verify_outputs(identity, identity, values).outputs["y"].missed == 0


def test_a_constant_is_missed_by_what_differs_visibly() -> None:
    constant = [{"x": np.full((4, 3), 2.0)}]
    assert verify_outputs(lambda b: {"y": b["x"] * 1.00005}, identity, constant).outputs["y"].missed < 0.01
    assert verify_outputs(lambda b: {"y": b["x"] * 1.1}, identity, constant).outputs["y"].missed > 1


def test_a_maps_classes_are_its_second_axis() -> None:
    values = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    other = values.copy()
    other[:, :, 0, 0] = -other[:, :, 0, 0]  # another class at one place of thirty

    def reference(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"output": batch["x"], "present.0.key": batch["x"]}

    found = verify_outputs(lambda _: {"output": other, "present.0.key": other}, reference, [{"x": values}]).outputs
    same = (values.argmax(1) == other.argmax(1)).mean()
    assert found["output"].argmax_agreement == pytest.approx(same)
    assert found["output"].width == 4
    assert found["present.0.key"].width == 6
