"""position_limit(model): how many tokens a row may have."""

from torch import nn


def position_limit(model: nn.Module) -> int | None:
    """What the model has a table of positions for; None where no limit is known.

    The limit of a configuration holds only beside a table of that size: of rotary and relative positions there is none.
    """
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    tables = (module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding))
    return limit if isinstance(limit, int) and limit in tables else None
