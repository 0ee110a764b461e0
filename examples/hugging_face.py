"""A Hugging Face classifier at half its width: trace, plan, train, fold, export, benchmark.

Run it with a checkpoint of your own:  python examples/hugging_face.py MODEL_FOLDER OUT_FOLDER
"""

import sys
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

import edgefold as ef
from edgefold.exporters import export_onnx
from edgefold.runtimes import benchmark, open_session

TEXTS = ["a joy from start to end", "dull and far too long", "it made me laugh", "I want these two hours back"]
LABELS = [1, 0, 1, 0]


def main(model_folder: str, out: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    teacher = AutoModelForSequenceClassification.from_pretrained(model_folder).eval()
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))

    graph = ef.trace(teacher, inputs)
    print(graph)
    half = {name: graph[name].size // 2 for name in ("hidden", "ffn.0", "heads.0")}
    plan = ef.Plan(
        [
            ef.Project("hidden", half["hidden"]),
            ef.Select("ffn", half["ffn.0"]),
            ef.Select("heads", half["heads.0"]),
        ]
    )
    student = ef.build_student(teacher, plan, inputs, calibration=[inputs])

    train = [{**{name: value[i] for name, value in inputs.items()}, "labels": LABELS[i]} for i in range(len(TEXTS))]
    arguments = TrainingArguments(f"{out}/training", num_train_epochs=2, report_to=[], remove_unused_columns=False)
    objective = ef.Objective(task=0.3, logits=0.7, hidden=1.0)
    trainer = ef.CompressionTrainer(student, teacher=teacher, objective=objective, args=arguments, train_dataset=train)
    trainer.train()

    plain = ef.fold(student.cpu())
    ef.save_student(plain, Path(out, "student"), tokenizer=tokenizer)
    artifact = export_onnx(
        plain, inputs, Path(out, "onnx"), precision="int8", calibration=[inputs], tokenizer=tokenizer
    )
    with open_session(artifact) as session:
        print(benchmark(session, {spec.name: inputs[spec.name].numpy() for spec in session.inputs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
