"""How each figure of the report was made: definitions, and the commands that make them again."""

from html import escape

from edgefold.reporting.summaries import DemoSummary


def describe_method(summary: DemoSummary) -> str:
    """As HTML lists."""
    commands = "".join(f"<li><code>{escape(command)}</code></li>" for command in summary.commands)
    items = "".join(f"<li>{escape(item)}</li>" for item in _definitions(summary))
    return f"<ul>{items}</ul><p>Commands:</p><ul>{commands}</ul>"


def describe_threads(summary: DemoSummary) -> str:
    return "one thread" if summary.threads_measured == 1 else f"{summary.threads_measured} threads"


def _definitions(summary: DemoSummary) -> tuple[str, ...]:
    return (
        f"Accuracy: the share of the {summary.test_rows:,} test rows whose largest logit is the label's, in ONNX "
        "Runtime; its standard error is binomial. Nothing was chosen on the test data.",
        "Latency: wall and process CPU time of every run after a steady-state warm-up, all models in one process, in "
        "short blocks taken in turns with the order reversed each time, "
        f"{describe_threads(summary)}, spinning off, {summary.shape}. Raw times: benchmark.json.",
        "int8: of the static and the dynamic encoding the faster one that keeps the accuracy on the validation data "
        "within half a point; where none does, the more accurate one.",
        "Sizes: of the ONNX file. Encoder: the parameters of the layers, without look-up tables and heads.",
        "Gates: what a step cost on real inputs against what it was allowed to; a missed one gives the exit status 3.",
        "Rivals, where trained: given the seconds that the student took to start and to train, on the same threads.",
        "Every figure of this page is in summary.json.",
    )
