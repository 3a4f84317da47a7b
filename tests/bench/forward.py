"""The other sides of forward.sh, each in a process of its own, two threads:

    forward.py export FOLDER                                what torch.onnx.export makes of the base model, FOLDER/model.onnx
    forward.py pytorch|onnxruntime FOLDER BATCH TOKENS RUNS [MIN:MAX]
                                                            the median milliseconds of a forward pass

With MIN:MAX, row i of the batch has MIN + round((MAX - MIN) i / (BATCH - 1)) tokens, and padding behind them.
"""

import json
import statistics
import sys
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "generate"


def export(folder):
    import transformers

    sys.path.insert(0, str(FIXTURES))
    import generate_onnx

    generate_onnx.OUTPUTS["DebertaV2Model"] = ["last_hidden_state"]
    model = transformers.AutoModel.from_pretrained(folder)
    generate_onnx.export(model, f"{folder}/model.onnx", dynamo=False)


def mask(batch, tokens, lengths):
    import numpy

    if lengths is None:
        return numpy.ones((batch, tokens), numpy.int64)
    low, high = map(int, lengths.split(":"))
    lengths = [low + round((high - low) * row / max(batch - 1, 1)) for row in range(batch)]
    return (numpy.arange(tokens) < numpy.array(lengths)[:, None]).astype(numpy.int64)


def pytorch(folder, batch, tokens, lengths):
    import torch
    import transformers

    torch.set_num_threads(2)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = (torch.arange(batch * tokens) * 7919 % model.config.vocab_size).view(batch, tokens)

    attention_mask = torch.from_numpy(mask(batch, tokens, lengths))

    def run():
        with torch.no_grad():
            model(ids, attention_mask)

    return run


def onnxruntime(folder, batch, tokens, lengths):
    import numpy
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options)
    vocabulary = json.loads(Path(folder, "config.json").read_text())["vocab_size"]
    ids = (numpy.arange(batch * tokens) * 7919 % vocabulary).reshape(batch, tokens)
    inputs = {"input_ids": ids, "attention_mask": mask(batch, tokens, lengths)}
    return lambda: session.run(None, inputs)


def median(run, runs):
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[2:])


if __name__ == "__main__":
    step, folder, *numbers = sys.argv[1:]
    if step == "export":
        export(folder)
    else:
        batch, tokens, runs = map(int, numbers[:3])
        lengths = numbers[3] if len(numbers) > 3 else None
        peer = {"pytorch": pytorch, "onnxruntime": onnxruntime}[step]
        print(median(peer(folder, batch, tokens, lengths), runs))
