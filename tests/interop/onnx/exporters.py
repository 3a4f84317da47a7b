"""Programs that make ONNX files of a model in a folder. Each takes the model, its folder and where the file goes."""

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures" / "generate"))
import generate_onnx

try:
    import optimum.exporters.onnx as optimum
except ImportError:
    optimum = None

# What Optimum calls the task of a class, by its name without the family's.
TASKS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}


def head(model):
    return type(model).__name__.removeprefix("DebertaV2").removeprefix("Deberta")


def by_pytorch(dynamo, **options):
    def export(model, folder, out):
        generate_onnx.export(model, str(out), dynamo, **options)

    return export


def by_optimum(**options):
    def export(model, folder, out):
        with tempfile.TemporaryDirectory() as target, contextlib.redirect_stdout(io.StringIO()):
            optimum.main_export(
                str(folder), output=target, task=TASKS[head(model)], do_validation=False, sequence_length=8, **options
            )
            shutil.move(Path(target) / "model.onnx", out)

    return export
