"""What is read of processors and control groups, from files of machines that are not here."""

import pytest

from edgefold.runtimes.agent.cpu_facts import read_groups
from edgefold.runtimes.processors import (
    count_throttling,
    find_cpu_limit,
    find_governor,
    find_held_back_s,
    find_memory_limit,
    find_mhz,
    find_stolen_s,
    instruction_sets,
    name_processor,
)

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
cpu MHz\t\t: 2700.123
flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_int8 amx_tile
vmx flags\t: vnmi avx_vnni

processor\t: 1
model name\t: another
cpu MHz\t\t: 800.000
flags\t\t: fpu sse2
"""
BOARD = """\
processor\t: 0
Features\t: fp asimd asimdhp asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd42

Hardware\t: Made-up Board
"""
ARM = "".join(
    f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {p}\n\n" for n, p in enumerate(["0xd05"] * 2 + ["0xd0b"])
)


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (X86, ("avx2", "avx512f", "avx512_vnni", "amx_int8")),
        (BOARD, ("asimddp", "i8mm")),
        ("flags : avx2x notavx2", ()),
        ("", ()),
    ],
)
def test_instruction_sets_of_the_first_core(cpuinfo: str, found: tuple[str, ...]) -> None:
    assert instruction_sets(cpuinfo) == found


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"),
        (BOARD, "Made-up Board"),
        (ARM, "Cortex-A55 + Cortex-A76"),
        (ARM.replace("0xd0b", "0xfff"), "Cortex-A55 + Arm part 0xfff"),
        (ARM.replace("0x41", "0x51"), ""),
        ("", ""),
    ],
)
def test_a_processor_is_called_by_its_name(cpuinfo: str, name: str) -> None:
    assert name_processor(cpuinfo) == name


def test_cores_that_differ_are_told() -> None:
    cores = {
        "0": {"cpufreq/scaling_governor": "powersave", "cpufreq/scaling_cur_freq": "800000"},
        "1": {"cpufreq/scaling_governor": "performance", "cpufreq/scaling_cur_freq": "3100000"},
        "2": {},
    }
    assert find_governor(cores) == "performance, powersave"
    assert find_mhz(cores, X86) == 3100
    assert find_mhz({"0": {}}, X86) == 2700.123
    assert (find_governor({"0": {}}), find_mhz({}, "")) == (None, None)


def test_throttling_is_the_sum_of_the_cores() -> None:
    name = "thermal_throttle/core_throttle_count"
    assert count_throttling({"0": {name: "3"}, "1": {name: "4"}, "2": {}}) == 7
    assert count_throttling({"0": {name: "0"}}) == 0
    assert count_throttling({"0": {}}) is None


@pytest.mark.parametrize(
    ("groups", "limit"),
    [
        ([{"cpu.max": "150000 100000"}], 1.5),
        ([{"cpu.max": "max 100000"}, {"cpu.max": "200000 100000"}, {"cpu.max": "50000 100000"}], 0.5),
        ([{"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}], 2.5),
        ([{"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}], None),
        ([{"cpu.max": "max 100000"}], None),
        ([{"cpu.max": "rubbish"}], None),
        ([{}], None),
        ([], None),
    ],
)
def test_the_tightest_limit_of_the_control_groups_holds(groups: list[dict[str, str]], limit: float | None) -> None:
    assert find_cpu_limit(groups) == limit


def test_memory_limits_of_both_versions() -> None:
    assert find_memory_limit([{"memory.max": "max"}, {"memory.max": "5000"}, {"memory.max": "7000"}]) == 5000
    assert find_memory_limit([{"memory.limit_in_bytes": "9223372036854771712"}]) is None
    assert find_memory_limit([{"memory.limit_in_bytes": "6000"}]) == 6000


def test_a_quota_that_was_used_up_is_told_in_seconds_by_both_versions() -> None:
    assert find_held_back_s([{"cpu.stat": "nr_throttled 3\nthrottled_usec 1500000"}]) == 1.5
    assert find_held_back_s([{"cpu.stat": "nr_throttled 3\nthrottled_time 2500000000"}]) == 2.5
    assert find_held_back_s([{"cpu.stat": "usage_usec 3"}]) is None


def test_stolen_time_is_the_eighth_figure() -> None:
    assert find_stolen_s("cpu  1 2 3 4 5 6 7 250 9 10\ncpu0 0 0", 100) == 2.5
    assert find_stolen_s("", 100) is None


def group_files(listed: str, files: dict[str, str]) -> list[dict[str, str]]:
    return read_groups(lambda path: {"/proc/self/cgroup": listed, **files}.get(path, ""))


def test_groups_around_the_own_one_are_read_too() -> None:
    files = {
        "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/a/cpu.max": "100000 100000\n",
        "/sys/fs/cgroup/memory.max": "77\n",
    }
    groups = group_files("0::/a/b\n", files)
    assert groups == [{"cpu.max": "max 100000"}, {"cpu.max": "100000 100000"}, {"memory.max": "77"}]
    assert find_cpu_limit(groups) == 1


def test_groups_of_version_1_are_found_by_their_controllers() -> None:
    files = {
        "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
        "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "99",
    }
    groups = group_files("3:cpu,cpuacct:/x\n2:memory:/\n1:name=systemd:/y\n", files)
    assert (find_cpu_limit(groups), find_memory_limit(groups)) == (0.5, 99)


def test_no_groups_at_all() -> None:
    assert group_files("", {}) == []
