"""Run by an environment with optimum-onnx: export a classifier and quantize it as its documentation does.

python optimum_int8.py TEACHER OUT
"""

import sys

from optimum.onnxruntime import AutoQuantizationConfig, ORTModelForSequenceClassification, ORTQuantizer


def main(teacher: str, out: str) -> None:
    model = ORTModelForSequenceClassification.from_pretrained(teacher, export=True)
    quantizer = ORTQuantizer.from_pretrained(model)
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=out, quantization_config=settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
