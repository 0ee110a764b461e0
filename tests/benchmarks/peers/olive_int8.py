"""Run by an environment with olive-ai: the dynamic quantization pass with its defaults.

python olive_int8.py MODEL.onnx OUT
"""

import sys

from olive import run


def main(model: str, out: str) -> None:
    run(
        {
            "input_model": {"type": "ONNXModel", "model_path": model},
            "passes": {"int8": {"type": "OnnxDynamicQuantization"}},
            "output_dir": out,
            "log_severity_level": 3,
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
