"""Reports: statistics against their definitions, and ratios that only hold for what was measured together."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_reports import STATE, make_report
from pydantic import ValidationError

from edgefold.errors import InputError
from edgefold.ratios import Ratio, paired_ratio
from edgefold.reports import SAMPLES_FOR_P99, Report, load_report, write_report

times = st.lists(st.floats(1e-6, 10), min_size=1, max_size=60)


@given(times)
def test_statistics_are_ordered_and_the_interval_holds_the_median(values: list[float]) -> None:
    report = make_report(values)
    low, high = report.p50_interval_s
    assert min(values) <= low <= report.p50_s <= high <= max(values)
    assert low <= median(values) <= high
    assert report.p50_s <= report.p90_s <= max(values)


@pytest.mark.parametrize("count", [1, SAMPLES_FOR_P99 - 1, SAMPLES_FOR_P99, 1000])
def test_a_99th_percentile_is_stated_only_with_enough_runs(count: int) -> None:
    values = [float(index) for index in range(1, count + 1)]
    report = make_report(values)
    if count < SAMPLES_FOR_P99:
        assert report.p99_s is None
        assert f"not stated below {SAMPLES_FOR_P99} runs" in str(report)
    else:
        assert report.p99_s == math.ceil(0.99 * count)
        assert "not stated" not in str(report)
    assert report.summary()["p99_s"] == report.p99_s


@given(times, st.integers(1, 64))
def test_throughput_counts_samples(values: list[float], batch: int) -> None:
    report = make_report(values, batch_size=batch)
    assert report.throughput * sum(values) == pytest.approx(batch * len(values))


@pytest.mark.parametrize(
    ("wall", "threads", "device", "contended"),
    [(1.0, 1, "cpu", False), (1.5, 1, "cpu", True), (1.5, 2, "cpu", None), (1.5, 1, "cuda", None)],
)
def test_contention_shows_as_wall_time_above_cpu_time(
    wall: float, threads: int, device: str, contended: bool | None
) -> None:
    report = make_report([wall] * 3, cpu_times_s=[1.0] * 3, settings={"threads": threads}, device=device)
    assert report.contended is contended


def test_contention_shows_although_most_runs_were_shorter_than_a_time_slice() -> None:
    report = make_report([1e-3] * 18 + [20e-3] * 2, cpu_times_s=[1e-3] * 20)
    assert report.p50_s == report.cpu_p50_s
    assert report.contended is True


def test_contention_shows_although_every_run_was_left_alone() -> None:
    assert make_report([1e-3] * 20, waited_s=1e-3).contended is False
    assert make_report([1e-3] * 20, waited_s=0.1).contended is True


@pytest.mark.parametrize(
    ("waited_s", "threads", "concurrency", "contended"),
    [(0.1, 2, 1, False), (0.3, 2, 1, True), (None, 2, 1, None), (0.3, 4, 1, None), (0.3, 1, 2, True)],
)
def test_more_threads_are_contended_when_they_stood_in_line_for_cores(
    waited_s: float | None, threads: int, concurrency: int, contended: bool | None
) -> None:
    report = make_report([0.1] * 10, settings={"threads": threads}, waited_s=waited_s, concurrency=concurrency)
    assert report.before.cores == 2
    assert report.contended is contended


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        ({}, {}, None),
        ({"throttle_count": 3}, {"throttle_count": 3}, False),
        ({"throttle_count": 3}, {"throttle_count": 4}, True),
        ({"held_back_s": 1.0, "throttle_count": 3}, {"held_back_s": 1.5, "throttle_count": 3}, True),
    ],
)
def test_heat_and_quotas_show_in_what_was_counted_meanwhile(
    before: dict[str, Any], after: dict[str, Any], throttled: bool | None
) -> None:
    states = {"before": STATE.model_copy(update=before), "after": STATE.model_copy(update=after)}
    report = make_report([1.0], **states)
    assert report.throttled is throttled
    assert report.summary()["throttled"] is throttled
    assert ("THROTTLED" in str(report)) is bool(throttled)


def in_blocks(block_times: list[float], per_block: int = 3, **fields: Any) -> Report:
    blocks = [block for block in range(len(block_times)) for _ in range(per_block)]
    return make_report([block_times[block] for block in blocks], blocks, **fields)


def test_a_slow_down_that_strikes_both_cancels() -> None:
    generator = random.Random(1)
    slow = [generator.uniform(1, 20) for _ in range(30)]
    ratio = paired_ratio(in_blocks([4e-3 * s for s in slow]), in_blocks([1e-3 * s for s in slow]))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((4, 4, 4))
    assert ratio.blocks == 30
    assert ratio.is_clear


def test_one_slow_run_in_a_block_does_not_count() -> None:
    baseline, candidate = [2.0, 2.0, 90.0] * 5, [1.0, 70.0, 1.0] * 5
    blocks = [block for block in range(5) for _ in range(3)]
    assert paired_ratio(make_report(baseline, blocks), make_report(candidate, blocks)).value == 2


def test_swapping_the_two_inverts_the_ratio() -> None:
    generator = random.Random(2)
    a, b = ([generator.uniform(1, 2) for _ in range(21)] for _ in range(2))
    forth, back = paired_ratio(in_blocks(a), in_blocks(b)), paired_ratio(in_blocks(b), in_blocks(a))
    assert forth.value * back.value == pytest.approx(1)
    assert forth.low <= forth.value <= forth.high


def test_a_report_against_itself_is_not_told_from_one() -> None:
    report = in_blocks([1.0, 2.0, 3.0] * 2)
    ratio = paired_ratio(report, report)
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)
    assert not ratio.is_clear
    assert "not told from 1" in str(ratio)


def test_noise_alone_is_not_told_from_one() -> None:
    generator = random.Random(3)
    a, b = ([generator.gauss(1, 0.05) for _ in range(40)] for _ in range(2))
    assert not paired_ratio(in_blocks(a), in_blocks(b)).is_clear


def test_the_interval_is_the_same_each_time() -> None:
    a, b = in_blocks([3.0, 5.0, 4.0, 6.0]), in_blocks([1.0, 2.0, 1.5, 1.0])
    assert paired_ratio(a, b) == paired_ratio(a, b)


def test_cpu_time_is_the_basis_only_where_it_tells() -> None:
    fields: dict[str, Any] = {"cpu_times_s": [1.0] * 6}
    one, two = in_blocks([1.0, 1.0]), in_blocks([4.0, 4.0], **fields)
    assert paired_ratio(two, one).basis == "cpu"
    assert paired_ratio(two, one).value == 1
    assert paired_ratio(two, one, basis="wall").value == 4
    threaded = in_blocks([4.0, 4.0], settings={"threads": 2}, **fields)
    assert paired_ratio(threaded, one).basis == "wall"


def test_only_blocks_of_both_count() -> None:
    baseline = make_report([2.0, 2.0, 50.0], [0, 1, 2])
    assert paired_ratio(baseline, make_report([1.0, 1.0], [0, 1])) == Ratio(
        value=2, low=2, high=2, blocks=2, basis="cpu"
    )


def test_reports_that_were_not_measured_together_are_refused() -> None:
    with pytest.raises(InputError, match="a and b were not measured together"):
        paired_ratio(make_report([1.0], [0], label="a"), make_report([1.0], [1], label="b"))


def test_reports_of_two_benchmarks_are_refused_although_their_blocks_have_the_same_numbers() -> None:
    later = STATE.model_copy(update={"taken_at": "2025-01-01T00:10:00+00:00"})
    with pytest.raises(InputError, match="were not measured together"):
        paired_ratio(in_blocks([1.0, 1.0]), in_blocks([1.0, 1.0], before=later, after=later))


@pytest.mark.parametrize(
    ("ratio", "is_clear"), [((2, 1.5, 2.5), True), ((0.5, 0.4, 0.6), True), ((1.1, 0.9, 1.3), False)]
)
def test_a_ratio_is_clear_when_its_interval_leaves_out_one(ratio: tuple[float, float, float], is_clear: bool) -> None:
    value, low, high = ratio
    stated = Ratio(value=value, low=low, high=high, blocks=9, basis="wall")
    assert stated.is_clear is is_clear
    assert (f"{value:.2f}x" in str(stated)) is is_clear
    assert "9 blocks" in str(stated)


@given(times)
def test_json_keeps_every_bit(values: list[float]) -> None:
    report = make_report(values, model_sha256="ab" * 32)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_written_report_is_the_same_when_loaded(tmp_path: Path) -> None:
    report = make_report([1 / 3, 2e-3])
    write_report(report.model_dump(mode="json"), tmp_path / "new" / "report.json")
    assert load_report(tmp_path / "new" / "report.json") == report
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "There is no report"),
        (lambda path: path.write_text("{"), "is not a report of edgefold"),
        (lambda path: path.write_text('{"label": "tiny"}'), "is not a report of edgefold"),
    ],
)
def test_what_is_not_a_report_is_refused(tmp_path: Path, prepare: Callable[[Path], Any], message: str) -> None:
    prepare(tmp_path / "report.json")
    with pytest.raises(InputError, match=message):
        load_report(tmp_path / "report.json")


def test_the_text_names_what_decides_about_speed() -> None:
    text = str(make_report([0.002] * 5))
    for part in ("tiny: onnxruntime on cpu, fp32, batch 1", "p50 2.000 ms", "5 runs after 11", "threads 1"):
        assert part in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"times_s": []}, "at least 1 item"),
        ({"cpu_times_s": [1.0]}, "2 wall times, 1 CPU times and 2 block numbers"),
        ({"blocks": [0, 0, 1]}, "2 wall times, 2 CPU times and 3 block numbers"),
    ],
)
def test_a_report_has_one_of_each_per_run(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_report([1.0, 2.0], **fields)


def test_a_report_with_its_derived_figures_beside_it_reads_as_the_report() -> None:
    report = make_report([0.1, 0.2])
    assert Report.model_validate({**report.summary(), **report.model_dump(mode="json")}) == report


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_report(tmp_path)


@pytest.mark.parametrize(("blocks", "is_clear"), [(1, False), (5, False), (6, True)])
def test_a_ratio_of_few_blocks_is_told_from_one_by_chance_only(blocks: int, is_clear: bool) -> None:
    ratio = paired_ratio(in_blocks([4.0] * blocks), in_blocks([1.0] * blocks))
    assert ratio.value == 4
    assert ratio.is_clear is is_clear
    assert str(ratio).startswith("4.00x (4.00 to 4.00" if is_clear else f"not told: {blocks} blocks, at least 6")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpu_times_s": [1.0]}, "contended: no"),
        ({"cpu_times_s": [0.5]}, "contended: yes"),
        ({"settings": {"threads": 2}}, "contended: not told"),
        ({"device": "cuda"}, "contended: not told"),
    ],
)
def test_the_text_says_whether_the_core_was_shared(fields: dict[str, Any], said: str) -> None:
    assert said in str(make_report([1.0], **fields))


def test_gpu_times_are_of_every_run_or_of_none(make_report: Callable[..., Report]) -> None:
    told = make_report([3e-3, 4e-3, 5e-3], gpu_times_s=(1e-3, 2e-3, 3e-3))
    assert (told.gpu_p50_s, told.summary()["gpu_p50_s"]) == (2e-3, 2e-3)
    assert "GPU p50 2.000 ms, the kernels alone" in str(told)
    assert make_report().gpu_p50_s is None
    with pytest.raises(ValidationError, match="2 GPU times of 3 runs; give one of each run, or none"):
        make_report([3e-3, 4e-3, 5e-3], gpu_times_s=(1e-3, 2e-3))
