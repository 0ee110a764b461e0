"""Opening the image processor that lies beside a model; needs transformers, but no torch."""

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from edgefold.errors import InputError


def open_image_processor(folder: Path) -> Any:
    """What turns images into the tensors that a model reads.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    opener: Any = AutoImageProcessor
    try:
        return opener.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and json each raise their own
        raise InputError(
            f"The image processor of {folder} cannot be opened: {' '.join(str(error).split())}; its "
            "preprocessor_config.json says how images become tensors."
        ) from error
