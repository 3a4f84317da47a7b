"""Records the goldens of the trained models, as golden/generate does for those with random weights.

python record.py inputs|pytorch|tensorflow|cases MODELS [NAME …]

Four processes: TensorFlow and torch are never in one, and `cases` needs neither.
"""

import json
import sys
from pathlib import Path

import traces
from traces import described


def main():
    step, models, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    {"inputs": inputs, "pytorch": pytorch, "tensorflow": tensorflow, "cases": cases}[step](models, names)


def inputs(models, names):
    """The tokens of the texts, padded to one length; the choices of one question are one sequence more."""
    import families

    for name in names or traces.MODELS:
        tokenizer = families.of_folder(name).vocabulary.load(models / name)
        encodings = [tokenizer(*text) for text in traces.TEXTS[name]]
        longest = max(len(encoding["input_ids"]) for encoding in encodings)
        batch = {
            key: [encoding[key] + [0] * (longest - len(encoding[key])) for encoding in encodings]
            for key in ("input_ids", "attention_mask")
        }
        if name == "v3-choices":
            batch = {key: [rows] for key, rows in batch.items()}
        (models / name / "inputs.json").write_text(json.dumps({"texts": batch}))


def pytorch(models, names):
    import record_pytorch
    import transformers

    for name, case in described(models, names):
        folder = models / name
        model = getattr(transformers, case.transformers_class)(record_pytorch.configuration(case)).eval()
        rest = record_pytorch.load(model, folder / "model.safetensors")
        record_pytorch.write_traces(case, model, rest, folder)


def tensorflow(models, names):
    import record_tensorflow

    for name, case in described(models, names):
        if "" in case.no_tensorflow:
            continue
        model = record_tensorflow.build(models / name, case)
        for input_name, arguments in case.inputs.items():
            path = models / name / f"{input_name}.tf.safetensors"
            record_tensorflow.record(model, path, arguments, f"TF{case.cls}")


def cases(models, names):
    import write_cases

    for name, case in described(models, names):
        (models / name / "case.yaml").write_text(write_cases.describe(models / name, case))
        (models / name / "inputs.json").unlink()


if __name__ == "__main__":
    main()
