"""Run by an environment with nvidia-modelopt[onnx]: int8 as it is written for TensorRT, with its default calibration.

python modelopt_int8.py MODEL.onnx CALIBRATION.npz OUT.onnx
"""

import sys

import numpy as np
from modelopt.onnx.quantization import quantize


def main(model: str, calibration: str, out: str) -> None:
    data = dict(np.load(calibration))
    shapes = ",".join(f"{name}:{'x'.join(['1', *map(str, value.shape[1:])])}" for name, value in data.items())
    quantize(
        model,
        quantize_mode="int8",
        calibration_data=data,
        calibration_shapes=shapes,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=out,
        log_level="ERROR",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
