"""Energy = mean power * seconds / runs, gross and above idle, from lines whose power is known."""

from typing import Any

import pytest
from pydantic import ValidationError

from edgefold.reports import Power
from edgefold.runtimes.power import SETTLING, read_power

WINDOW = {"runs": 50, "seconds": 10.0}


def lines(phase: str, *watts: float, mhz: int = 1500) -> list[dict[str, str]]:
    """After samples that reach back into the window before and must not count."""
    form = "CPU [5%@{mhz},9%@700] cpu@41.5C tj@50C VDD_IN {mw}mW/9mW VDD_SOC 1mW/1mW"
    return [
        {"phase": phase, "line": form.format(mhz=mhz, mw=round(watt * 1000))} for watt in (99.0,) * SETTLING + watts
    ]


def test_energy_gross_and_above_idle() -> None:
    power = read_power([*lines("idle", 4, 6), *lines("turns", 77), *lines("load a", 9, 11, 13)], "a", WINDOW)
    assert power is not None
    assert power.gross_j == pytest.approx(11 * 10 / 50)
    assert power.net_j == pytest.approx((11 - 5) * 10 / 50)
    assert (power.rails, power.load_w, power.idle_w) == (("VDD_IN",), (9, 11, 13), (4, 6))
    assert (power.cpu_mhz, power.hottest_c) == ((1500,) * 3, (50.0,) * 3)
    assert "2200.00 mJ a run, 1200.00 mJ above idle (11.00 W under load, 5.00 W idle, VDD_IN, 3 samples" in str(power)
    assert Power.model_validate_json(power.model_dump_json()) == power


def test_each_model_has_its_own_window() -> None:
    said = [*lines("idle", 4), *lines("load a", 8), *lines("load b", 6)]
    a, b = (read_power(said, label, WINDOW) for label in "ab")
    assert a is not None
    assert b is not None
    assert (a.net_j, b.net_j) == pytest.approx((4 * 10 / 50, 2 * 10 / 50))


@pytest.mark.parametrize(
    ("said", "window"),
    [
        ([], WINDOW),
        (lines("idle", 4) + lines("load a", 8), None),
        (lines("idle") + lines("load a", 8), WINDOW),
        (lines("idle", 4) + lines("load b", 8), WINDOW),
        ([{"phase": phase, "line": "CPU [5%@1]"} for phase in ("idle", "load a") for _ in range(9)], WINDOW),
        ([{"phase": "load a", "line": "no line of tegrastats"}], WINDOW),
    ],
)
def test_too_little_is_none(said: list[dict[str, str]], window: Any) -> None:
    assert read_power(said, "a", window) is None


@pytest.mark.parametrize(
    ("clocks", "throttled"),
    [
        ((1500,) * 40, False),
        ((1500,) * 20 + (1000,) * 20, True),
        ((1000,) * 20 + (1500,) * 20, False),
        ((1500,) * 20 + (1000,) + (1500,) * 19, False),  # one slow sample is no throttling
        ((1500, 1000, 500), False),  # too few to tell
        ((), False),
    ],
)
def test_a_clock_that_falls_and_stays_low_is_throttling(clocks: tuple[int, ...], throttled: bool) -> None:
    fields: dict[str, Any] = {"rails": ("VIN",), "idle_w": (1.0,), "load_w": (2.0,), "gpu_mhz": (), "hottest_c": ()}
    power = Power(**fields, **WINDOW, cpu_mhz=clocks)
    assert power.throttled is throttled
    assert ("THROTTLED" in str(power)) is throttled


def test_no_runs_have_no_energy_of_one() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        read_power(lines("idle", 1) + lines("load a", 2), "a", {"runs": 0, "seconds": 1.0})
