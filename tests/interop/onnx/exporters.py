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

TASKS = {
    "DebertaModel": "feature-extraction",
    "DebertaForMaskedLM": "fill-mask",
    "DebertaForSequenceClassification": "text-classification",
    "DebertaForTokenClassification": "token-classification",
    "DebertaForQuestionAnswering": "question-answering",
}


def by_pytorch(dynamo, external_data=False):
    def export(model, folder, out):
        generate_onnx.export(model, str(out), dynamo, external_data)

    return export


def by_optimum(**options):
    def export(model, folder, out):
        with tempfile.TemporaryDirectory() as target, contextlib.redirect_stdout(io.StringIO()):
            optimum.main_export(
                str(folder), output=target, task=TASKS[type(model).__name__], do_validation=False, sequence_length=8, **options
            )
            shutil.move(Path(target) / "model.onnx", out)

    return export
