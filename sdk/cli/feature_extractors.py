"""Opening what turns recordings into the features that a speech model reads; needs transformers, but no torch."""

from pathlib import Path
from typing import Any

from transformers import AutoFeatureExtractor

from edgefold.errors import InputError


def open_feature_extractor(folder: Path) -> Any:
    """The feature extractor beside a model.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    opener: Any = AutoFeatureExtractor
    try:
        return opener.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and json each raise their own
        raise InputError(
            f"The feature extractor of {folder} cannot be opened: {' '.join(str(error).split())}; its "
            "preprocessor_config.json says how recordings become features."
        ) from error
