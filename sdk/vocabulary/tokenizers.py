"""Trimming a fast tokenizer: fewer pieces, renumbered in order, the same cut of every text whose pieces all stayed."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from edgefold.errors import InputError

State = dict[str, Any]
"""tokenizer.json."""
KINDS = ("WordPiece", "WordLevel", "Unigram", "BPE")


def read_state(tokenizer: Any) -> State:
    """The state of a fast tokenizer.

    Raises:
        InputError: it has no backend of the tokenizers package, or one of another kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} is no fast tokenizer, so its pieces cannot be trimmed; give one that has a "
            "backend_tokenizer (AutoTokenizer.from_pretrained makes it)."
        )
    state: State = json.loads(backend.to_str())
    if state["model"].get("type") not in KINDS:
        raise InputError(
            f"A tokenizer of kind {state['model'].get('type')} cannot be trimmed; these can: {', '.join(KINDS)}."
        )
    return state


def pieces_of(state: State) -> dict[str, int]:
    """Every piece and added token with its id."""
    return _model_pieces(state) | {token["content"]: token["id"] for token in state["added_tokens"]}


def close_pieces(state: State, keep: Iterable[int]) -> list[int]:
    """The ids asked for and those they need, ascending: added tokens, the unknown piece, bytes, parts of merges.

    WordPiece takes the longest piece at each place, Unigram the likeliest path, BPE the earliest merges: without
    pieces that a text does not use, each still finds the cut it found before. Of Unigram the least likely piece stays,
    because the price of an unknown character hangs on it; of BPE all that is merged on the way to a piece.
    """
    pieces = pieces_of(state)
    needed = set(keep) | {token["id"] for token in state["added_tokens"]} | _unknown(state) | _bytes(state)
    if state["model"]["type"] == "BPE":
        names = {index: piece for piece, index in pieces.items()}
        needed |= _merged(state, {names[index] for index in needed if index in names})
    return sorted(needed)


def trim_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """A copy that knows only the pieces of these ids (closed by `close_pieces`), numbered in their order.

    Raises:
        InputError: its class does not take the new pieces as they are numbered.
    """
    state = read_state(tokenizer)
    positions = {old: new for new, old in enumerate(kept)}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Path(folder, "tokenizer.json").write_text(json.dumps(_trimmed(state, positions)), encoding="utf-8")
        trimmed = type(tokenizer).from_pretrained(folder, local_files_only=True)
    trimmed.name_or_path = tokenizer.name_or_path
    found = trimmed.get_vocab()
    for piece, index in pieces_of(state).items():
        if index in positions and found.get(piece) != positions[index]:
            raise InputError(
                f"{type(tokenizer).__name__} gives {piece!r} the id {found.get(piece)} instead of {positions[index]} "
                "once it is trimmed; keep its whole vocabulary."
            )
    return trimmed


def _model_pieces(state: State) -> dict[str, int]:
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _unknown(state: State) -> set[int]:
    """The unknown piece, and of Unigram the least likely one."""
    model, pieces = state["model"], pieces_of(state)
    found = {pieces.get(model.get("unk_token")), model.get("unk_id")}
    if model["type"] == "Unigram":
        found.add(min(range(len(model["vocab"])), key=lambda index: model["vocab"][index][1]))
    return {index for index in found if index is not None}


def _bytes(state: State) -> set[int]:
    """The pieces of single bytes, where texts are cut into bytes or fall back to them."""
    names = {f"<0x{byte:02X}>" for byte in range(256)} if state["model"].get("byte_fallback") else set()
    if "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]]):
        names |= set(ByteLevel.alphabet())
    return {index for piece, index in _model_pieces(state).items() if piece in names}


def _merged(state: State, pieces: set[str]) -> set[int]:
    """The ids of all parts that are merged on the way to these pieces."""
    parts: dict[str, list[tuple[str, str]]] = {}
    for left, right in _merges(state):
        parts.setdefault(_joined(state, left, right), []).append((left, right))
    reached, waiting = set(pieces), list(pieces)
    while waiting:
        for pair in parts.get(waiting.pop(), []):
            waiting += [part for part in pair if part not in reached]
            reached |= set(pair)
    known = _model_pieces(state)
    return {known[piece] for piece in reached if piece in known}


def _merges(state: State) -> list[tuple[str, str]]:
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in state["model"]["merges"]]
    return [(left, right) for left, right in pairs]


def _joined(state: State, left: str, right: str) -> str:
    return left + right.removeprefix(state["model"].get("continuing_subword_prefix") or "")


def _trimmed(state: State, positions: Mapping[int, int]) -> State:
    model = dict(state["model"])
    kept = {piece: positions[index] for piece, index in _model_pieces(state).items() if index in positions}
    if isinstance(model["vocab"], list):
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in positions]
    else:
        model["vocab"] = kept
    if "merges" in model:
        model["merges"] = [
            [left, right] for left, right in _merges(state) if {left, right, _joined(state, left, right)} <= kept.keys()
        ]
    if model.get("unk_id") is not None:
        model["unk_id"] = positions[model["unk_id"]]
    added = [{**token, "id": positions[token["id"]]} for token in state["added_tokens"]]
    padding = state["padding"] and {**state["padding"], "pad_id": positions.get(state["padding"]["pad_id"], 0)}
    post_processor = _renumbered(state["post_processor"], positions)
    return {**state, "model": model, "added_tokens": added, "padding": padding, "post_processor": post_processor}


def _renumbered(value: Any, positions: Mapping[int, int]) -> Any:
    """A post-processor with new ids: those of template tokens in lists named ids, those of sep and cls beside them."""
    if isinstance(value, dict):
        return {
            key: [positions[index] for index in item]
            if key == "ids"
            else [item[0], positions[item[1]]]
            if key in ("sep", "cls")
            else _renumbered(item, positions)
            for key, item in value.items()
        }
    return [_renumbered(item, positions) for item in value] if isinstance(value, list) else value
