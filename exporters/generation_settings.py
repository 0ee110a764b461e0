"""How tokens are generated, read from a model's configuration and generation configuration for the artifact."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from edgefold.artifacts import Generation


def read_generation(model: nn.Module, layers: int) -> Generation:
    """Where a greedy search begins and ends, and what it never chooses, as the model's own `generate` has it.

    Beams, bounds of the length, penalties of repetition and words of several tokens that must not come are left out.
    """
    settings = _Settings(model)
    ends = settings.ids("eos_token_id")
    is_sequence = getattr(model.config, "is_encoder_decoder", False)
    starts = settings.ids("decoder_start_token_id") if is_sequence else ()
    if starts and not settings.get("is_multilingual"):
        starts += settings.ids("no_timestamps_token_id")
    if starts:
        starts += settings.ids("forced_bos_token_id")
    never = [row[0] for row in settings.get("bad_words_ids") or () if len(row) == 1]
    return Generation(
        layers=layers,
        start_ids=starts,
        end_ids=ends,
        pad_id=next(iter((*settings.ids("pad_token_id"), *ends)), 0),
        never_ids=(*never, *settings.ids("suppress_tokens")),
        never_first_ids=settings.ids("begin_suppress_tokens"),
        last_id=next(iter(settings.ids("forced_eos_token_id")), None),
    )


class _Settings:
    """The generation configuration, and the model's own where that is silent."""

    def __init__(self, model: Any) -> None:
        self._sources: Sequence[Any] = [getattr(model, "generation_config", None), model.config]

    def get(self, name: str) -> Any:
        found = (getattr(source, name, None) for source in self._sources)
        return next((value for value in found if value is not None), None)

    def ids(self, name: str) -> tuple[int, ...]:
        value = self.get(name)
        if value is None or isinstance(value, Mapping):
            return ()
        return tuple(int(each) for each in (value if isinstance(value, (list, tuple)) else [value]))
