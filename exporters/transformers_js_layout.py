"""write_transformers_js: artifacts as the folder that transformers.js opens, in Node and in browsers; optimum as well.

Configuration and tokenizer stand at its root, graphs in onnx/, their names telling the precision. The folder is an
artifact, too: the first of those that were given. Of an encoder-decoder it has the decoder twice: as the two graphs
that edgefold and optimum open, and merged.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgefold.artifacts import Artifact, Precision, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters.merged_decoders import merge_decoders
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
PARTS = ("encoder", "decoder", "decoder_with_past")
DECODERS = ("decoder_model", "decoder_with_past_model")
"""Stems of the files of the last two, which become one more."""
MERGED = "decoder_model_merged"
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
        InputError: none, no ONNX, unknown parts, no configuration or two of one precision; an output that exists.
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
        files, *_ = [_write_graphs(source, folder / FOLDER, source is main) for source in sources]
        graphs = sorted((folder / FOLDER).glob("*.onnx"))
        _write_config(folder / "config.json", sources, [path for path in graphs if _data_of(path).is_file()])
        write_artifact(
            folder,
            format="onnx",
            precision=main.precision,
            target=main.target,
            model_file=files[main.model_file],
            inputs=main.inputs,
            outputs=main.outputs,
            task=main.task,
            parts={
                name: part.model_copy(update={"model_file": files[part.model_file]})
                for name, part in main.parts.items()
            },
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
        if source.parts and set(source.parts) != set(PARTS):
            raise InputError(
                f"{source.folder} has the parts {', '.join(source.parts)}; of several graphs transformers.js opens an "
                f"encoder-decoder: {', '.join(PARTS)}."
            )
        if "config.json" not in source.files:
            raise InputError(
                f"{source.folder} has no config.json, by which transformers.js knows a model; give a transformer."
            )
    precisions = [source.precision for source in sources]
    if len(set(precisions)) < len(precisions):
        raise InputError(f"Each precision can be there once; got {', '.join(precisions)}.")


def _write_graphs(source: Artifact, folder: Path, keeps_all: bool) -> dict[str, str]:
    """The graphs under the names of their precision; the name of each, relative to the artifact, before and now."""
    end = DTYPES[source.precision][1]
    before = [part.model_file for part in source.parts.values()] or [source.model_file]
    files = {name: folder / f"{Path(name).stem.removesuffix(end)}{end}.onnx" for name in before}
    for name, path in files.items():
        _write_graph(source.folder / name, path)
    if source.parts:
        first, later = (folder / f"{stem}{end}.onnx" for stem in DECODERS)
        merge_decoders(first, later, folder / f"{MERGED}{end}.onnx")
        for path in () if keeps_all else (first, later):
            path.unlink()
            _data_of(path).unlink(missing_ok=True)
    return {name: f"{folder.name}/{path.name}" for name, path in files.items()}


def _write_graph(source: Path, path: Path) -> None:
    """The graph, with the weights that lay beside it."""
    model = onnx.load(source, load_external_data=False)
    data = _data_of(source)
    for tensor in model.graph.initializer:
        for entry in (each for each in tensor.external_data if each.key == "location"):
            if entry.value != data.name:
                raise InputError(f"{source} has weights in {entry.value}, not {data.name}; export it again.")
            entry.value = _data_of(path).name
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == BATCH:
                size.dim_param = THEIR_BATCH
    path.write_bytes(model.SerializeToString())
    if data.is_file():
        shutil.copyfile(data, _data_of(path))


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
