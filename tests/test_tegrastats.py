"""Lines of tegrastats as JetPack 4 to 7 print them on different boards; the lines are made up, their forms are not."""

import pytest

from edgefold.runtimes.tegrastats import Sample, parse_tegrastats

JETPACK_4 = (
    "RAM 2101/3956MB (lfb 12x4MB) SWAP 5/1978MB (cached 1MB) CPU [31%@1479,off,off,7%@1428] EMC_FREQ 0% "
    "GR3D_FREQ 7%@114 PLL@41.5C CPU@44.5C iwlwifi@45C PMIC@100C GPU@42C AO@51C thermal@43.25C POM_5V_IN 3541/3600 "
    "POM_5V_GPU 120/118 POM_5V_CPU 980/1010"
)
JETPACK_4_NX = (
    "RAM 1903/7764MB (lfb 900x4MB) SWAP 0/3882MB (cached 0MB) CPU [12%@1190,8%@1190,off,off] EMC_FREQ 0% GR3D_FREQ 0% "
    "AO@38C GPU@38.5C PMIC@50C AUX@38C CPU@39.5C thermal@38.65C VDD_IN 5297/5297 "
    "VDD_CPU_GPU_CV 1100/1100 VDD_SOC 1400/1400"
)
JETPACK_5_AGX = (
    "03-14-2025 09:26:53 RAM 8123/62796MB (lfb 10x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@2201,100%@2201,off,off] "
    "EMC_FREQ 3%@2133 GR3D_FREQ 61%@[1020,1020] GR3D2_FREQ 60%@1020 VIC_FREQ 729 APE 174 CV0@-256C CPU@52.3C "
    "Tboard@40C SOC2@48.1C Tdiode@42.25C GPU@47.6C tj@52.3C VDD_GPU_SOC 7200mW/6800mW VDD_CPU_CV 2100mW/2000mW "
    "VIN_SYS_5V0 4528mW/4539mW NC 0mW/0mW VDDQ_VDD2_1V8AO 401mW/411mW NC 0mW/0mW"
)
JETPACK_6_NANO = (
    "11-02-2025 23:59:59 RAM 3311/7620MB (lfb 3x2MB) SWAP 0/3810MB (cached 0MB) CPU [18%@1344,21%@1344,0%@729,0%@729] "
    "GR3D_FREQ 84%@[713] NVENC off NVDEC off NVJPG off VIC off OFA off APE 200 cpu@51.2C soc2@49.5C soc0@50C gpu@51.5C "
    "tj@51.5C soc1@50.5C VDD_IN 17946mW/15710mW VDD_CPU_GPU_CV 9100mW/7000mW VDD_SOC 3100mW/3000mW"
)
JETPACK_7_ORIN = (
    "07-01-2026 00:00:01 RAM 2222/7620MB (lfb 1x4MB) SWAP 0/3810MB (cached 0MB) CPU [3%@1510,off] "
    "GR3D_FREQ 12%@[1300,1290] NVENC 1%@115 cpu@52.9C/52.9C gpu@-256C/-256C tj@52.9C/53.1C VDD_IN 6000mW/5900mW/7100mW "
    "VDD_SOC 1500mW/1500mW/1600mW"
)
JETPACK_7_THOR = (
    "07-01-2026 00:00:02 RAM 9000/125772MB (lfb 2x4MB) CPU [1%@2601,1%@2601,2%@2601] GR3D_FREQ @[1000,1000,990] "
    "cpu@40.1C tj@41.0C VDD_GPU 0mW/0mW/0mW VDD_CPU_SOC_MSS 5000mW/5100mW/6000mW VIN_SYS_5V0 4100mW/4100mW/4200mW "
    "VIN 30100mW/30000mW/31000mW"
)
WITHOUT_GPU = "RAM 1/2MB (lfb 1x4MB) CPU [5%@1000] cpu@40.1C VIN 20000mW/20000mW/20000mW"


def parse(line: str) -> Sample:
    sample = parse_tegrastats(line)
    assert sample is not None
    return sample


@pytest.mark.parametrize(
    ("line", "ram", "load", "clocks", "gpu", "gpu_mhz", "rails", "watts"),
    [
        (JETPACK_4, 2101, (31, 7), (1479, 1428), 7, 114, ("POM_5V_IN",), 3.541),
        (JETPACK_4_NX, 1903, (12, 8), (1190, 1190), 0, None, ("VDD_IN",), 5.297),
        (JETPACK_5_AGX, 8123, (0, 100), (2201, 2201), 61, 1020, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 13.828),
        (JETPACK_6_NANO, 3311, (18, 21, 0, 0), (1344, 1344, 729, 729), 84, 713, ("VDD_IN",), 17.946),
        (JETPACK_7_ORIN, 2222, (3,), (1510,), 12, 1300, ("VDD_IN",), 6.0),
        (JETPACK_7_THOR, 9000, (1, 1, 2), (2601, 2601, 2601), None, 1000, ("VIN",), 30.1),
        (WITHOUT_GPU, 1, (5,), (1000,), None, None, ("VIN",), 20.0),
    ],
)
def test_every_form_is_understood(
    line: str,
    ram: int,
    load: tuple[int, ...],
    clocks: tuple[int, ...],
    gpu: int | None,
    gpu_mhz: int | None,
    rails: tuple[str, ...],
    watts: float,
) -> None:
    sample = parse(line)
    assert (sample.ram_mb, sample.cpu_percent, sample.cpu_mhz) == (ram, load, clocks)
    assert (sample.gpu_percent, sample.gpu_mhz) == (gpu, gpu_mhz)
    assert sample.rails == rails
    assert sample.power_w == pytest.approx(watts)


def test_every_rail_and_sensor_has_its_name() -> None:
    sample = parse(JETPACK_5_AGX)
    assert sample.power_mw == {
        "VDD_GPU_SOC": 7200,
        "VDD_CPU_CV": 2100,
        "VIN_SYS_5V0": 4528,
        "VDDQ_VDD2_1V8AO": 401,
    }
    assert sample.temperatures_c == {
        "CPU": 52.3,
        "Tboard": 40.0,
        "SOC2": 48.1,
        "Tdiode": 42.25,
        "GPU": 47.6,
        "tj": 52.3,
    }
    assert parse(JETPACK_7_ORIN).temperatures_c == {"cpu": 52.9, "tj": 52.9}  # a part that is off has no temperature
    assert parse(JETPACK_4).temperatures_c["thermal"] == 43.25


def test_memory_is_no_power() -> None:
    assert set(parse(JETPACK_4).power_mw) == {"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}


@pytest.mark.parametrize("line", ["", "tegrastats: command failed", JETPACK_6_NANO[:60], "\0" * 20])
def test_what_is_no_line_is_none(line: str) -> None:
    assert parse_tegrastats(line) is None


def test_a_board_of_unknown_rails_has_no_power() -> None:
    sample = parse("CPU [5%@1000] VDD_ODD 20000mW/20000mW")
    assert sample.power_mw == {"VDD_ODD": 20000}
    assert (sample.rails, sample.power_w) == ((), None)
