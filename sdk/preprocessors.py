"""Opening what makes tensors of images or recordings and lies beside a model; needs transformers, but no torch."""

from pathlib import Path
from typing import Any

from transformers import AutoFeatureExtractor, AutoImageProcessor

from edgefold.errors import InputError


def open_image_processor(folder: Path) -> Any:
    """What turns images into the tensors that a model reads.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    return _open(AutoImageProcessor, folder, "image processor", "images become tensors")


def open_feature_extractor(folder: Path) -> Any:
    """What turns recordings into the features that a model reads.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    return _open(AutoFeatureExtractor, folder, "feature extractor", "recordings become features")


def _open(opener: Any, folder: Path, what: str, says: str) -> Any:
    try:
        return opener.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and json each raise their own
        raise InputError(
            f"The {what} of {folder} cannot be opened: {' '.join(str(error).split())}; its preprocessor_config.json "
            f"says how {says}."
        ) from error
