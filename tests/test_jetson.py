"""What a Jetson says of itself, from answers that are made up in the forms of JetPack 4 to 7."""

import pytest

from edgefold.device_states import JetsonState
from edgefold.runtimes.jetson import describe_jetson

CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-3
cpu0: Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=1113600 IdleStates: WFI=1 c7=1
cpu4: Online=0 Governor=schedutil MinFreq=115200 MaxFreq=1510400 CurrentFreq=115200 IdleStates: WFI=1 c7=1
GPU MinFreq={gpu} MaxFreq=624750000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
"""


def describe(release: str = "", model: str = "", mode: str = "", clocks: str = "") -> JetsonState | None:
    files = {"/etc/nv_tegra_release": release, "/proc/device-tree/model": model}
    return describe_jetson(files, {"nvpmodel": mode, "jetson_clocks": clocks})


@pytest.mark.parametrize(
    ("number", "revision", "l4t", "jetpack"),
    [
        (32, "7.4", "32.7.4", "4.x"),
        (35, "2.1", "35.2.1", "5.1"),
        (35, "6.1", "35.6.1", "5.x"),
        (36, "3.0", "36.3.0", "6.0"),
        (36, "4.3", "36.4.3", "6.2"),
        (38, "2.0", "38.2.0", "7.0"),
        (39, "2.0", "39.2.0", "7.2"),
        (50, "1.0", "50.1.0", None),
    ],
)
def test_l4t_tells_jetpack_as_far_as_is_known(number: int, revision: str, l4t: str, jetpack: str | None) -> None:
    release = f"# R{number} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Thu Jan 1\n"
    state = describe(release)
    assert state is not None
    assert (state.l4t, state.jetpack, state.model) == (l4t, jetpack, "unknown")


def test_the_board_and_its_mode() -> None:
    model = "NVIDIA Jetson Orin Nano Developer Kit\0"
    state = describe(
        model=model, mode="NV Power Mode: MAXN_SUPER\n2\n", clocks=CLOCKS.format(low=1510400, gpu=624750000)
    )
    assert state is not None
    assert (state.model, state.power_mode, state.clocks_locked) == (model[:-1], "MAXN_SUPER", True)
    assert state.l4t is None


@pytest.mark.parametrize(
    ("low", "gpu", "locked"),
    [(729600, 306000000, False), (1510400, 306000000, False), (729600, 624750000, False), (1510400, 624750000, True)],
)
def test_clocks_are_locked_where_the_lowest_is_the_highest(low: int, gpu: int, locked: bool) -> None:
    state = describe(model="NVIDIA Jetson", clocks=CLOCKS.format(low=low, gpu=gpu))
    assert state is not None
    assert state.clocks_locked is locked


def test_a_jetson_whose_programs_do_not_answer() -> None:
    state = describe(model="NVIDIA Jetson", clocks="Error! run jetson_clocks as root\n")
    assert state is not None
    assert (state.power_mode, state.clocks_locked) == (None, None)


@pytest.mark.parametrize("model", ["", "Raspberry Pi 5 Model B Rev 1.0\0"])
def test_other_boards_are_none(model: str) -> None:
    assert describe(model=model) is None
