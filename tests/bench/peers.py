"""The steps of peers.sh, and what the last one starts, each in a process of its own, two threads:

    peers.py export FOLDER                                     what torch.onnx.export makes of the base model, FOLDER/torch.onnx
    peers.py table FOLDER VERIFY ROUNDS RUNS [CANDLE]          the table; VERIFY and CANDLE are programs
    peers.py pytorch|torch|ours FOLDER BATCH TOKENS RUNS [MIN:MAX]
                                                               the median milliseconds of a forward pass by PyTorch, or by ONNX
                                                               Runtime on FOLDER/torch.onnx or FOLDER/ours.onnx

With MIN:MAX, row i of the batch has MIN + round((MAX - MIN) i / (BATCH - 1)) tokens, and padding behind them.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "generate"
SHAPES = [(1, 16), (1, 128), (1, 512), (8, 128), (32, 64), (32, 64, "8:64")]


def export(folder):
    import transformers

    sys.path.insert(0, str(FIXTURES))
    import generate_onnx

    generate_onnx.OUTPUTS["DebertaV2Model"] = ["last_hidden_state"]
    model = transformers.AutoModel.from_pretrained(folder)
    generate_onnx.export(model, f"{folder}/torch.onnx", dynamo=False)


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


def onnxruntime(folder, graph, batch, tokens, lengths):
    import numpy
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(f"{folder}/{graph}.onnx", options)
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


def table(folder, verify, rounds, runs, candle):
    """Every shape: `rounds` times every peer in turn."""

    def printed(*command):
        environment = os.environ | {"RAYON_NUM_THREADS": "2"}
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment).stdout

    def bench(model, backend, batch, tokens, *lengths):
        options = ["--batch", batch, "--seq", tokens, "--runs", runs, "--backend", backend]
        options += ["--lengths", *lengths] if lengths else []
        return json.loads(printed(verify, "bench", "--model", f"{folder}/{model}", "--threads", "2", "--format", "json", *options))

    def python(peer):
        return lambda *shape: float(printed(sys.executable, __file__, peer, folder, *shape[:2], runs, *shape[2:]))

    memory = {}

    def ours(*shape):
        measured = bench("model.safetensors", "reference", *shape)
        memory[shape] = measured["peak_memory_bytes"]
        return measured["median_ms"]

    peers = {
        "ours": ours,
        "PyTorch": python("pytorch"),
        "ONNX Runtime": python("torch"),
        "ONNX Runtime, our graph": python("ours"),
        "rten, our graph": lambda *shape: bench("ours.onnx", "onnx", *shape)["median_ms"],
    }
    if candle:
        peers["candle"] = lambda *shape: float(printed(candle, folder, *shape[:2], runs, *shape[2:]))

    print(f"{processor()}; medians of {rounds} rounds of {runs} runs, ms (ours to theirs)\n")
    print("| batch x tokens |", " | ".join(peers), "| memory MB |")
    print("|---" * (len(peers) + 2) + "|")
    for shape in SHAPES:
        shape = tuple(map(str, shape))
        times = {name: [] for name in peers}
        for _ in range(int(rounds)):
            for name, peer in peers.items():
                times[name].append(peer(*shape))
        cells = [f"{statistics.median(times['ours']):.0f}"]
        for name in list(peers)[1:]:
            ratio = statistics.median(ours / theirs for ours, theirs in zip(times["ours"], times[name]))
            cells.append(f"{statistics.median(times[name]):.0f} ({ratio:.2f})")
        lengths = f" ({shape[2]})" if len(shape) > 2 else ""
        print(f"| {shape[0]} x {shape[1]}{lengths} |", " | ".join(cells), f"| {memory[shape] / 1e6:.0f} |", flush=True)


def processor():
    """Its name, and the widest vectors it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2") if name in flags), "")
    return f"{facts.get('model name', platform.machine())} {vectors}, {os.cpu_count()} processors".replace(" ,", ",")


if __name__ == "__main__":
    step, folder, *rest = sys.argv[1:]
    if step == "export":
        export(folder)
    elif step == "table":
        verify, rounds, runs, *candle = rest
        table(folder, verify, rounds, runs, candle[0] if candle else "")
    else:
        batch, tokens, runs = map(int, rest[:3])
        lengths = rest[3] if len(rest) > 3 else None
        if step == "pytorch":
            run = pytorch(folder, batch, tokens, lengths)
        else:
            run = onnxruntime(folder, step, batch, tokens, lengths)
        print(median(run, runs))
