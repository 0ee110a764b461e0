"""Energy of a run on a GPU: the counter between its steps, or mean watts; times seconds, over runs; gross and net."""

import sys
import time
from typing import Any

import pytest
from fake_nvml import FakeNvml

from edgefold.reports import Power
from edgefold.runtimes.gpu_power import count_power, make_power, measure_gpu_power
from edgefold.runtimes.nvidia import Reading


def window(watts: float, *, step_s: float = 0.1, seconds: float = 8.0, **fields: Any) -> list[Reading]:
    """Readings every 20 ms of a counter that moves every `step_s`; the first second is of something else."""
    readings = []
    for number in range(round(seconds / 0.02)):
        at_s = number * 0.02
        settled = at_s >= 1.0
        given: dict[str, Any] = {
            "power_w": watts + 1 if settled else 1e6,
            "energy_j": int(at_s / step_s + 1e-9) * step_s * watts,
            "sm_mhz": 1980,
            "temperature_c": 40,
            "reasons": ("idle",),
        }
        readings.append(Reading(at_s=at_s, **{**given, **fields}))
    return readings


def test_the_counter_comes_before_the_samples() -> None:
    power = make_power(window(100), window(400), 50, 8.0)
    assert power is not None
    assert power.gross_j == pytest.approx(400 * 8 / 50)
    assert power.net_j == pytest.approx(300 * 8 / 50)
    assert set(power.load_w) == {401}
    assert (power.rails, power.throttled, power.hottest_c[0]) == (("GPU",), False, 40)
    assert "64000.00 mJ a run, 48000.00 mJ above idle (400.00 W under load, 100.00 W idle, GPU, by its energy" in str(
        power
    )
    assert Power.model_validate_json(power.model_dump_json()) == power


def test_samples_where_there_is_no_counter() -> None:
    power = make_power(window(99, energy_j=None), window(399, energy_j=None), 50, 8.0)
    assert power is not None
    assert (power.load_counted_w, power.idle_counted_w) == (None, None)
    assert (power.gross_j, power.net_j) == pytest.approx((400 * 8 / 50, 300 * 8 / 50))
    assert "counter" not in str(power)


def test_the_counter_alone_is_enough() -> None:
    power = make_power(window(100, power_w=None), window(400, power_w=None), 50, 8.0)
    assert power is not None
    assert power.gross_j == pytest.approx(400 * 8 / 50)


def test_too_little_is_none() -> None:
    silent = window(1, power_w=None, energy_j=None)
    assert make_power(silent, window(1), 5, 1.0) is None
    assert make_power(window(1), silent, 5, 1.0) is None
    assert make_power(window(1), window(1), 0, 1.0) is None
    assert make_power([], window(1), 5, 1.0) is None
    assert count_power(window(1, energy_j=7.0)) is None


@pytest.mark.parametrize("step_s", [0.02, 0.1, 0.5])
def test_the_counter_is_read_from_step_to_step(step_s: float) -> None:
    assert count_power(window(250, step_s=step_s)[7:-3]) == pytest.approx(250)


def test_what_held_the_clock_down_is_told() -> None:
    power = make_power(window(100), window(400, reasons=("power cap", "application clocks")), 50, 8.0)
    assert power is not None
    assert power.throttled
    assert "THROTTLED: held back by power cap" in str(power)
    falling = [Reading(**{**vars(r), "sm_mhz": 1980 if r.at_s < 4.5 else 1200}) for r in window(400)]
    fallen = make_power(window(100), falling, 50, 8.0)
    assert fallen is not None
    assert "THROTTLED: the clock fell under load" in str(fallen)


def test_a_busy_window_takes_more_than_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = False
    fake = FakeNvml(lambda: 300.0 if busy else 50.0)
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def run() -> None:
        nonlocal busy
        busy = True
        time.sleep(0.005)

    found = measure_gpu_power({"a": run}, 0.3)
    power = found["a"]
    assert (power.mean_idle_w, power.mean_load_w) == pytest.approx((51.0, 301.0))
    assert power.runs * 0.005 <= power.seconds
    assert power.net_j == pytest.approx(250 * power.seconds / power.runs)
    assert fake.open == 0


def test_without_nvml_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert measure_gpu_power({"a": lambda: None}, 0.01) == {}
