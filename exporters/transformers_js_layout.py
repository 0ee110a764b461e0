"""write_transformers_js: artifacts as the folder that transformers.js opens, in Node and in browsers; optimum as well.

Configuration and tokenizer stand at its root, graphs in onnx/, their names telling the precision. The folder is an
artifact, too: the first of those that were given.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgefold.artifacts import Artifact, Precision, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.staging import staged_folder

FOLDER = "onnx"
DTYPES: dict[Precision, tuple[str, str]] = {
    "fp32": ("fp32", ""),
    "fp16": ("fp16", "_fp16"),
    "int8": ("q8", "_quantized"),
    "weight-int8": ("int8", "_int8"),
    "int4": ("q4", "_q4"),
}
"""Precision -> what transformers.js calls it, and the end of its file's name there."""
BATCH, THEIR_BATCH = "batch", "batch_size"
"""By that name transformers.js finds the sizes of an empty cache; any other dynamic size is 0 to it."""


def write_transformers_js(
    artifacts: Sequence[Artifact | str | Path], out: str | Path, *, overwrite: bool = False
) -> Artifact:
    """Write one folder for all precisions of a model; `pipeline(task, folder)` opens the first, `{dtype}` the others.

    Args:
        artifacts: ONNX artifacts of one model, each in a precision of its own.

    Returns:
        The folder as an artifact, which is the first with its graph elsewhere.

    Raises:
        InputError: none, no ONNX, an encoder-decoder, no configuration or two of one precision; an output that exists.
    """
    sources = [each if isinstance(each, Artifact) else load_artifact(each) for each in artifacts]
    _check(sources)
    main = sources[0]
    with staged_folder(out, overwrite) as folder:
        for name in set(main.files) - set(main.model_files):
            if not name.startswith(f"{FOLDER}/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(main.folder / name, folder / name)
        (folder / FOLDER).mkdir()
        written = [_write_graph(source, folder / FOLDER) for source in sources]
        _write_config(folder / "config.json", sources, [path for path in written if _data_of(path).is_file()])
        write_artifact(
            folder,
            format="onnx",
            precision=main.precision,
            target=main.target,
            model_file=f"{FOLDER}/{written[0].name}",
            inputs=main.inputs,
            outputs=main.outputs,
            task=main.task,
            generation=main.generation,
            lineage=main.lineage,
        )
    return load_artifact(out)


def _check(sources: Sequence[Artifact]) -> None:
    if not sources:
        raise InputError("There is no artifact to lay out; give at least one.")
    for source in sources:
        if source.format != "onnx":
            raise InputError(f"{source.folder} holds an engine of {source.format}; transformers.js opens ONNX.")
        if source.parts:
            raise InputError(
                f"{source.folder} is an encoder-decoder of {len(source.parts)} graphs; transformers.js wants its two "
                "decoders merged into one, which edgefold does not do. optimum opens it as it is."
            )
        if "config.json" not in source.files:
            raise InputError(
                f"{source.folder} has no config.json, by which transformers.js knows a model; give a transformer."
            )
    precisions = [source.precision for source in sources]
    if len(set(precisions)) < len(precisions):
        raise InputError(f"Each precision can be there once; got {', '.join(precisions)}.")


def _write_graph(source: Artifact, folder: Path) -> Path:
    """The graph under the name of its precision, with the weights that lay beside it."""
    path = folder / f"model{DTYPES[source.precision][1]}.onnx"
    model = onnx.load(source.model_path, load_external_data=False)
    data = _data_of(source.model_path)
    for tensor in model.graph.initializer:
        for entry in (each for each in tensor.external_data if each.key == "location"):
            if entry.value != data.name:
                raise InputError(f"{source.model_path} has weights in {entry.value}, not {data.name}; export it again.")
            entry.value = _data_of(path).name
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == BATCH:
                size.dim_param = THEIR_BATCH
    path.write_bytes(model.SerializeToString())
    if data.is_file():
        shutil.copyfile(data, _data_of(path))
    return path


def _data_of(path: Path) -> Path:
    return path.with_name(f"{path.name}_data")


def _write_config(path: Path, sources: Sequence[Artifact], external: Sequence[Path]) -> None:
    """What to open by default, and which graphs have their weights beside them."""
    settings: dict[str, Any] = {"dtype": DTYPES[sources[0].precision][0]}
    if external:
        settings["use_external_data_format"] = {graph.name: 1 for graph in external}
    if any(source.generation and source.precision == "fp16" for source in sources):
        settings["kv_cache_dtype"] = {"fp16": "float16"}  # asked by its version 3; version 4 reads it from the graph
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "transformers.js_config": settings}, indent=2) + "\n", encoding="utf-8")
