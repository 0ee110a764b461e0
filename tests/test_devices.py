"""What is read of a device, from files of devices that are not here, and inputs made to measure with."""

from pathlib import Path

import numpy as np
import pytest

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.reports import DeviceState
from edgefold.runtimes import example_inputs, read_device_state
from edgefold.runtimes.agent import facts
from edgefold.runtimes.devices import instruction_sets, is_emulated

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_int8 amx_tile
vmx flags\t: vnmi avx_vnni

processor\t: 1
model name\t: another
flags\t\t: fpu sse2
"""
ARM = """\
processor\t: 0
Features\t: fp asimd asimdhp asimddp i8mm
CPU part\t: 0xd42

Hardware\t: Made-up Board
"""


@pytest.mark.parametrize(
    ("cpuinfo", "found"),
    [
        (X86, ("avx2", "avx512f", "avx512_vnni", "amx_int8")),
        (ARM, ("asimddp", "i8mm")),
        ("flags : avx2x notavx2", ()),
        ("", ()),
    ],
)
def test_instruction_sets_of_the_first_core(cpuinfo: str, found: tuple[str, ...]) -> None:
    assert instruction_sets(cpuinfo) == found


def pretend(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> DeviceState:
    monkeypatch.setattr(facts, "_read", lambda path: files.get(path, ""))
    return read_device_state()


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [(X86, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"), (ARM, "Made-up Board")],
)
def test_the_processor_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, processor: str) -> None:
    state = pretend(monkeypatch, {"/proc/cpuinfo": cpuinfo})
    assert state.processor == processor
    assert state.instruction_sets == instruction_sets(cpuinfo)


@pytest.mark.parametrize(
    ("cpu_max", "limit"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("rubbish", None)]
)
def test_the_limit_of_the_control_group_in_cores(
    monkeypatch: pytest.MonkeyPatch, cpu_max: str, limit: float | None
) -> None:
    assert pretend(monkeypatch, {"/sys/fs/cgroup/cpu.max": cpu_max}).cpu_limit == limit


def test_the_governor_is_none_where_there_is_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    assert pretend(monkeypatch, {path: "performance\n"}).governor == "performance"
    assert pretend(monkeypatch, {}).governor is None


@pytest.mark.parametrize(
    ("architecture", "kernel", "emulated"),
    [
        ("x86_64", "x86_64", False),
        ("aarch64", "x86_64", True),
        ("x86_64", "aarch64", True),
        ("aarch64", "", False),
        ("i686", "x86_64", False),
        ("armv8l", "aarch64", False),
        ("riscv64", "x86_64", True),
    ],
)
def test_programs_of_another_architecture_are_emulated(architecture: str, kernel: str, emulated: bool) -> None:
    assert is_emulated(architecture, kernel) is emulated


def test_this_machine_can_be_read_and_the_state_survives_json() -> None:
    state = read_device_state()
    assert state.cores >= 1
    assert state.processor
    assert not state.emulated
    assert {"edgefold", "numpy", "onnxruntime"} <= set(state.versions)
    assert DeviceState.model_validate_json(state.model_dump_json()) == state


def test_a_file_that_is_not_there_reads_as_empty(tmp_path: Path) -> None:
    assert facts._read(str(tmp_path / "nowhere")) == ""


SPECS = [
    TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),
    TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "sequence")),
    TensorSpec(name="token_type_ids", dtype="int32", shape=("batch", "sequence")),
    TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 4)),
    TensorSpec(name="flag", dtype="bool", shape=("batch",)),
]


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (2, 7), (5, 128)])
def test_examples_have_the_types_and_shapes_that_are_asked_for(batch: int, sequence: int) -> None:
    sizes = {"batch": batch, "sequence": sequence}
    examples = example_inputs(SPECS, batch=batch, sequence=sequence)
    assert list(examples) == [spec.name for spec in SPECS]
    for spec in SPECS:
        assert examples[spec.name].dtype.name == spec.dtype
        assert examples[spec.name].shape == tuple(sizes.get(str(size), size) for size in spec.shape)


def test_examples_are_ids_that_every_vocabulary_has_masks_of_ones_and_types_of_zero() -> None:
    examples = example_inputs(SPECS, batch=8, sequence=500)
    ids = examples["input_ids"]
    assert (ids.min(), ids.max()) == (1, 999)
    assert (examples["attention_mask"] == 1).all()
    assert (examples["token_type_ids"] == 0).all()


def test_examples_are_the_same_for_one_seed_only() -> None:
    one, same, other = (example_inputs(SPECS, seed=seed)["input_ids"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_dynamic_dimension_of_unknown_size_is_refused() -> None:
    spec = TensorSpec(name="audio", dtype="float32", shape=("batch", "frames"))
    with pytest.raises(InputError, match="audio has the dynamic dimension frames; only batch, sequence"):
        example_inputs([spec])


@pytest.mark.parametrize(("vocab_size", "highest"), [(None, 999), (30522, 999), (1000, 999), (12, 11), (2, 1), (1, 1)])
def test_ids_stay_within_a_small_vocabulary(vocab_size: int | None, highest: int) -> None:
    ids = example_inputs(SPECS, batch=8, sequence=500, vocab_size=vocab_size)["input_ids"]
    assert (ids.min(), ids.max()) == (1, highest)


def test_positions_are_in_order() -> None:
    spec = TensorSpec(name="position_ids", dtype="int64", shape=("batch", "sequence"))
    np.testing.assert_array_equal(
        example_inputs([spec], batch=2, sequence=3)["position_ids"], [[0, 1, 2], [0, 1, 2]], strict=True
    )


def test_examples_of_a_model_with_a_cache_go_on_behind_what_was_read() -> None:
    specs = [
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "past + sequence")),
        TensorSpec(name="position_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="past_key_values.0.key", dtype="float32", shape=("batch", 2, "past", 4)),
    ]
    examples = example_inputs(specs, batch=2, sequence=3, past=5)
    assert {name: value.shape for name, value in examples.items()} == {
        "input_ids": (2, 3),
        "attention_mask": (2, 8),
        "position_ids": (2, 3),
        "past_key_values.0.key": (2, 2, 5, 4),
    }
    np.testing.assert_array_equal(examples["position_ids"], [[5, 6, 7], [5, 6, 7]])
    assert example_inputs(specs)["past_key_values.0.key"].shape == (1, 2, 0, 4)
