"""What is read of a device, from files of devices that are not here, and inputs made to measure with."""

import os
from pathlib import Path

import numpy as np
import pytest

from edgefold.artifacts import TensorSpec
from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.runtimes import example_inputs, read_device_state
from edgefold.runtimes.agent import facts
from edgefold.runtimes.devices import is_emulated


def pretend(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> DeviceState:
    monkeypatch.setattr(facts, "_read", lambda path: files.get(path, ""))
    return read_device_state()


def test_what_the_files_tell_stands_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    core = f"/sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}"
    state = pretend(
        monkeypatch,
        {
            "/proc/cpuinfo": "model name : Made-up CPU\nflags : avx2 avx512_vnni\n",
            "/proc/stat": f"cpu 1 2 3 4 5 6 7 {8 * os.sysconf('SC_CLK_TCK')} 9\n",
            f"{core}/cpufreq/scaling_governor": "performance\n",
            f"{core}/cpufreq/scaling_cur_freq": "2500000\n",
            f"{core}/thermal_throttle/core_throttle_count": "7\n",
            "/sys/fs/cgroup/cpu.max": "150000 100000\n",
            "/sys/fs/cgroup/cpu.stat": "usage_usec 9\nthrottled_usec 2500000\n",
            "/sys/fs/cgroup/memory.max": "1000000\n",
            "/sys/devices/system/cpu/smt/active": "1\n",
            "/sys/devices/system/cpu/cpufreq/boost": "0\n",
        },
    )
    assert (state.processor, state.instruction_sets) == ("Made-up CPU", ("avx2", "avx512_vnni"))
    assert (state.governor, state.mhz, state.throttle_count) == ("performance", 2500.0, 7)
    assert (state.cpu_limit, state.held_back_s, state.memory_limit_bytes) == (1.5, 2.5, 1_000_000)
    assert (state.smt, state.turbo, state.stolen_s) == (True, False, 8.0)
    assert state.affinity == tuple(sorted(os.sched_getaffinity(0)))
    assert state.cores == len(state.affinity)


def test_what_no_file_tells_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    state = pretend(monkeypatch, {})
    assert state.processor  # what Python knows
    names = ("governor", "mhz", "throttle_count", "cpu_limit", "held_back_s", "memory_limit_bytes", "smt", "turbo")
    assert {getattr(state, name) for name in (*names, "stolen_s")} == {None}


@pytest.mark.parametrize(("no_turbo", "turbo"), [("0\n", True), ("1\n", False), ("", None)])
def test_intel_tells_the_contrary_of_turbo(monkeypatch: pytest.MonkeyPatch, no_turbo: str, turbo: bool | None) -> None:
    assert pretend(monkeypatch, {"/sys/devices/system/cpu/intel_pstate/no_turbo": no_turbo}).turbo is turbo


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
    spec = TensorSpec(name="audio", dtype="float32", shape=("batch", "bands"))
    with pytest.raises(InputError, match="audio has the dynamic dimension bands; only batch, sequence"):
        example_inputs([spec])


def test_dimensions_that_nobody_asks_for_have_their_usual_sizes_and_boxes_are_whole() -> None:
    shapes: dict[str, tuple[int | str, ...]] = {
        "input_values": ("batch", "samples"),
        "input_ids": ("batch", "choices", "sequence"),
        "bbox": ("batch", "sequence", 4),
    }
    specs = [TensorSpec(name=name, dtype="int64", shape=shape) for name, shape in shapes.items()]
    examples = example_inputs(specs, batch=2, sequence=3)
    assert {name: value.shape for name, value in examples.items()} == {
        "input_values": (2, 16_000),
        "input_ids": (2, 4, 3),
        "bbox": (2, 3, 4),
    }
    assert (examples["bbox"] == 0).all()  # from its left to its right no less than 0


@pytest.mark.parametrize(("vocab_size", "highest"), [(None, 999), (3000, 2999), (1000, 999), (12, 11), (2, 1), (1, 1)])
@pytest.mark.parametrize("name", ["input_ids", "decoder_input_ids"])
def test_tokens_are_drawn_from_the_whole_vocabulary(vocab_size: int | None, highest: int, name: str) -> None:
    spec = TensorSpec(name=name, dtype="int64", shape=("batch", "sequence"))
    ids = example_inputs([spec], batch=80, sequence=500, vocab_size=vocab_size)[name]
    assert (ids.min(), ids.max()) == (1, highest)


@pytest.mark.parametrize(("vocab_size", "highest"), [(None, 999), (3000, 999), (12, 11), (1, 1)])
def test_other_whole_numbers_stay_small(vocab_size: int | None, highest: int) -> None:
    spec = TensorSpec(name="film", dtype="int64", shape=("batch",))
    ids = example_inputs([spec], batch=8000, vocab_size=vocab_size)["film"]
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
