"""A model of more than 2 GB, which a protobuf message cannot hold: its weights must go to a file of their own unasked."""

import gc

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from safetensors.numpy import save_file

LIMIT = 2 << 30
TOLERANCE = 1e-5
"""Of the largest number: 36 layers."""


def stage(converter, report):
    """As deberta-xlarge, but with 36 layers instead of 48."""
    torch.manual_seed(0)
    config = transformers.DebertaConfig(
        hidden_size=1024, num_attention_heads=16, num_hidden_layers=36, intermediate_size=4096, type_vocab_size=0,
        relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False,
    )
    folder = converter.folder / "large"
    model = transformers.DebertaModel(config).eval()
    model.save_pretrained(folder, max_shard_size="100GB")
    source = folder / "model.safetensors"
    report.check("large: the weights", "" if source.stat().st_size > LIMIT else f"{source.stat().st_size} bytes are not large")
    inputs = {"input_ids": torch.arange(5, 45).reshape(2, 20), "attention_mask": torch.ones(2, 20, dtype=torch.long)}
    inputs["attention_mask"][1, 13:] = 0
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state.numpy()
    del model
    gc.collect()

    ledger, path = converter.export(source)
    if not report.check("large: export", ledger if ledger.startswith("exit") else ""):
        return
    files = {file.name: file.stat().st_size for file in path.parent.iterdir()}
    data = files.get("model.onnx.data", 0)
    report.check("large: external data", "" if data > LIMIT and files["model.onnx"] < 1 << 22 else f"wrote {files}")
    try:
        onnx.checker.check_model(str(path), full_check=True)
        report.check("large: onnx.checker", "")
    except Exception as error:
        report.check("large: onnx.checker", str(error)[:300])
    report.check("large: digest", "" if converter.digest(path) == converter.digest(source) else "another")
    session = onnxruntime.InferenceSession(str(path))
    computed = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    del session
    gc.collect()
    off = np.abs(computed - expected).max() / np.abs(expected).max()
    report.check("large: ONNX Runtime", "" if off <= TOLERANCE else f"off by {off}")

    trace = converter.folder / "large-trace"
    trace.mkdir()
    tensors = {f"inputs.{name}": value.numpy() for name, value in inputs.items()} | {"outputs.last_hidden_state": expected}
    metadata = {"format": "deberta-trace-1", "framework": "pytorch", "producer": f"torch {torch.__version__}", "class": "DebertaModel", "masked_rows": "uniform"}
    save_file(tensors, trace / "run.safetensors", metadata)
    # The weights by the reference, and the graph by the runtime of the program, at other lengths, too.
    report.check("large: deberta-verify", converter.verify("--model", path, "--golden", trace))
    back = converter.run("onnx2st", path, "-o", f"{folder / 'back'}/")
    same = converter.digest(folder / "back" / "model.safetensors") == converter.digest(source)
    report.check("large: import", back if back.startswith("exit") else "" if same else "another digest")
