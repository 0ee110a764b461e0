"""What pydantic found wrong with a recipe, as one readable paragraph with dotted paths and the nearest known keys."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edgefold.recipes.safe_yaml import YamlDocument

Location = Sequence[int | str]
Forms = Mapping[str, type[BaseModel]]
"""Dotted keys of sections that have several forms -> the form that this recipe asks for."""


def describe_errors(
    error: ValidationError, model: type[BaseModel], source: str, document: YamlDocument | None, forms: Forms
) -> str:
    """One sentence for each error, in the order of the file."""
    sentences = []
    errors = error.errors()
    places = {item["loc"] for item in errors}
    for item in errors:
        if item["loc"][:1] == ("stages",) and item["loc"][2:] in places:  # a stage has it from the recipe
            continue
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:  # wrong entries are told
            continue
        line = document.line(item["loc"]) if document else None
        sentences.append((line or 0, f"{f'line {line}: ' if line else ''}{_describe(item, model, forms)}"))
    texts = list(dict.fromkeys(text for _, text in sorted(sentences, key=lambda pair: pair[0])))
    told = "; ".join(texts)
    return f"{source}: {told if told.endswith('?') else f'{told}.'}"


def _describe(item: Any, model: type[BaseModel], forms: Forms) -> str:
    location, kind = item["loc"], item["type"]
    path = dotted(location)
    if kind == "extra_forbidden":
        return _describe_unknown_key(location, model, forms)
    if kind == "missing":
        return f"{path} is missing"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return f"{path}: {message}" if path else message
    if kind == "too_short":
        return f"{path} is {_shorten(item['input'])}; it needs {item['ctx']['min_length']} or more"
    return f"{path} is {_shorten(item['input'])}; it should be {message}"


def _describe_unknown_key(location: Location, model: type[BaseModel], forms: Forms) -> str:
    key, path = str(location[-1]), dotted(location)
    siblings = known_keys(model, location[:-1], forms)
    nearest = difflib.get_close_matches(key, siblings, 1)
    if nearest:
        return f"{path} is no known key; did you mean {dotted([*location[:-1], nearest[0]])}?"
    elsewhere = {dotted_key.rsplit(".", 1)[-1]: dotted_key for dotted_key in _all_keys(model, forms)}
    found = difflib.get_close_matches(key, elsewhere, 1)
    hint = f"did you mean {elsewhere[found[0]]}?" if found else f"known here: {', '.join(siblings)}"
    return f"{path} is no known key; {hint}"


def dotted(location: Location) -> str:
    """("plan", 0, "project", "size") -> plan[0].project.size"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def known_keys(model: type[BaseModel], location: Location, forms: Forms) -> list[str]:
    """The keys of the section that a location stands for."""
    for depth, part in enumerate(location, 1):
        if isinstance(part, str):
            field = model.model_fields.get(part)
            model = forms.get(dotted(location[:depth])) or (field and _model_of(field.annotation)) or model
    return list(model.model_fields)


def _all_keys(model: type[BaseModel], forms: Forms, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _model_of(field.annotation)
        if name in forms:
            yield from _all_keys(forms[name], {}, f"{prefix}{name}.")
        elif inner and not get_args(field.annotation):  # not into the steps of a plan: they have no place of their own
            yield from _all_keys(inner, {}, f"{prefix}{name}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_of, get_args(annotation))), None)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
