"""Comparisons: a ratio only where two took turns, or where one thing alone can explain it; else what differs."""

from collections.abc import Callable
from typing import Any

import pytest

from edgefold.device_states import DeviceState
from edgefold.ratios import paired_ratio
from edgefold.reporting.comparisons import compare_reports, find_differences, pair_up
from edgefold.reports import Report

Make = Callable[..., Report]


@pytest.fixture
def later(device_state: DeviceState) -> dict[str, DeviceState]:
    """Another run on the same machine."""
    state = device_state.model_copy(update={"taken_at": "2025-02-02T00:00:00+00:00", "load_average": (9.0, 9.0, 9.0)})
    return {"before": state, "after": state}


def moved(run: dict[str, DeviceState], **fields: Any) -> dict[str, DeviceState]:
    return {when: state.model_copy(update=fields) for when, state in run.items()}


def test_two_that_took_turns_have_their_paired_ratio(make_report: Make) -> None:
    fast, slow = (make_report([t] * 8, list(range(8)), label=name) for name, t in (("fast", 1e-3), ("slow", 4e-3)))
    found = compare_reports(fast, slow)
    assert (found.kind, found.ratio, found.medians) == ("paired", paired_ratio(slow, fast), None)
    assert str(found) == f"Speed of fast against slow: {found.ratio}"
    assert found.ratio is not None
    assert found.ratio.value == 4


def test_another_model_at_another_time_is_compared_with_caution(
    make_report: Make, later: dict[str, DeviceState]
) -> None:
    times = [1.0, 2.0, 3.0] * 20
    one = make_report(times, label="one", model_sha256="a")
    other = make_report([2 * t for t in times], label="other", model_sha256="b", **later)
    found = compare_reports(one, other)
    assert (found.kind, found.differing, found.ratio) == ("cautious", {}, None)
    assert found.medians is not None
    assert found.medians.value == 2
    low, high = one.p50_interval_s
    assert (found.medians.low, found.medians.high) == (2 * low / high, 2 * high / low)
    assert "with caution: 2.00x" in str(found)
    assert "were not measured in turns" in str(found)
    assert "The model is the same" not in str(found)


def test_one_model_on_two_machines_is_compared_with_what_differs(
    make_report: Make, later: dict[str, DeviceState]
) -> None:
    there = make_report([4.0] * 9, address="ssh://a@b", model_sha256="a", **moved(later, processor="Other CPU"))
    found = compare_reports(make_report([1.0] * 9, model_sha256="a"), there)
    assert found.kind == "cautious"
    assert found.differing == {
        "address": ("the machine itself", "ssh://a@b"),
        "processor": ("Made-up CPU", "Other CPU"),
    }
    assert "processor Made-up CPU against Other CPU" in str(found)
    assert "The model is the same" in str(found)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"settings": {"threads": 4, "spinning": False}}, "threads 1 against 4"),
        ({"settings": {"threads": 1, "spinning": True}}, "spinning no against yes"),
        ({"settings": {"threads": 1}}, "spinning no against not told"),
        ({"runtime": "openvino"}, "runtime onnxruntime against openvino"),
        ({"device": "cuda"}, "device cpu against cuda"),
        ({"concurrency": 4}, "sessions at a time 1 against 4"),
    ],
)
def test_models_on_different_terms_are_not_comparable(
    make_report: Make, later: dict[str, DeviceState], fields: dict[str, Any], told: str
) -> None:
    found = compare_reports(make_report(model_sha256="a"), make_report(model_sha256="b", **later, **fields))
    assert (found.kind, found.ratio, found.medians) == ("none", None, None)
    assert "not comparable: they are different models, and differ in" in str(found)
    assert told in str(found)


def test_other_versions_and_governors_are_told(make_report: Make, later: dict[str, DeviceState]) -> None:
    there = moved(later, versions={"onnxruntime": "1.0", "openvino": "2"}, governor="powersave", cpu_limit=1.5)
    assert find_differences(make_report(), make_report(**there)) == {
        "governor": ("not told", "powersave"),
        "cpu limit": ("not told", "1.5"),
        "version of numpy": ("2", "not told"),
        "version of onnxruntime": ("not told", "1.0"),
    }


def test_what_follows_from_the_model_is_no_difference(make_report: Make, later: dict[str, DeviceState]) -> None:
    settings = [{"threads": 1, "nodes": {"CPUExecutionProvider": count}} for count in (10, 20)]
    reports = [make_report(settings=given) for given in settings]
    assert find_differences(*reports) == {}


def test_settings_that_only_one_of_two_runtimes_has_are_not_compared(
    make_report: Make, later: dict[str, DeviceState]
) -> None:
    other = make_report(runtime="openvino", settings={"threads": 2, "streams": 1}, **later)
    assert list(find_differences(make_report(), other)) == ["runtime", "threads"]


def test_other_inputs_are_not_comparable_although_the_model_is_the_same(
    make_report: Make, later: dict[str, DeviceState]
) -> None:
    large = make_report(model_sha256="a", shapes={"input_ids": (8, 8)}, **later)
    found = compare_reports(make_report(model_sha256="a"), large)
    assert found.kind == "none"
    assert str(found).endswith("they differ in inputs input_ids 1 x 8 against input_ids 8 x 8.")


def test_models_without_a_checksum_are_never_the_same(make_report: Make, later: dict[str, DeviceState]) -> None:
    found = compare_reports(make_report(), make_report(runtime="other", **later))
    assert (found.same_model, found.kind) == (False, "none")


def test_pairs_are_those_of_a_run_and_the_counterparts_of_other_files(
    make_report: Make, later: dict[str, DeviceState]
) -> None:
    def run(*labels: str, **fields: Any) -> list[Report]:
        return [make_report(label=label, model_sha256=label[0], **fields) for label in labels]

    here, alone, there = run("a1", "b1", "c1"), run("d1", **later), run("b2", "z2", **moved(later, cores=8))
    pairs = [(one.label, other.label) for one, other in pair_up([[*here, *alone], there])]
    assert pairs == [("a1", "b1"), ("a1", "c1"), ("b2", "z2"), ("b1", "b2"), ("a1", "z2")]
    assert pair_up([alone]) == []
