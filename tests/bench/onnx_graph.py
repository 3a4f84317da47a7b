"""The steps of onnx.sh: `make FOLDER SIZE`, `export FOLDER PROGRAM`, `run FOLDER BATCH TOKENS RUNS`; and what `run` starts."""

import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROUNDS = 5


def configuration(size):
    """That of a published model."""
    import transformers

    settings = dict(relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False, type_vocab_size=0)
    if size == "base":
        return transformers.DebertaConfig(**settings)
    settings |= dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
    return transformers.DebertaV2Config(
        position_buckets=256, share_att_key=True, norm_rel_ebd="layer_norm", **settings
    )


def make(folder, size):
    """A random model, and PyTorch's export of it."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "fixtures" / "generate"))
    import generate_onnx
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(configuration(size))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.03 if parameter.dim() > 1 else 0.1)
    model.save_pretrained(folder)
    generate_onnx.export(model, str(folder / "torch.onnx"), dynamo=False)


def export(folder, program):
    """Ours, and the time that it takes against `cat` and `sync`; the first pair warms the cache."""
    source, target, copy = folder / "model.safetensors", folder / "ours.onnx", folder / "copy"

    def timed(command):
        # To give back the space of an old file is no part of writing a new one, nor is what the disk has not done yet.
        for path in (target, copy):
            path.unlink(missing_ok=True)
        subprocess.run(["sync", "-f", folder], check=True)
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    ratios = []
    for _ in range(10):
        copying = timed(["sh", "-c", f"cat '{source}' > '{copy}' && sync -f '{copy}'"])
        ratios.append(timed([program, "st2onnx", source, "-o", target]) / copying)
    print(f"export: {statistics.median(ratios[1:]):.2f} times the copy")


def run(folder, batch, tokens, runs):
    """Both graphs in turn, each time in a process of its own: the threads of a session spin for a while after it has run."""
    import numpy as np
    import onnx

    rounds = []
    for _ in range(ROUNDS):
        pair = []
        for name in ("torch", "ours"):
            command = [sys.executable, __file__, "time", folder, name, str(batch), str(tokens), str(runs)]
            pair.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        rounds.append(pair)
    theirs, ours = [np.load(folder / f"{name}.npy") for name in ("torch", "ours")]
    nodes = [len(onnx.load(folder / f"{name}.onnx", load_external_data=False).graph.node) for name in ("torch", "ours")]
    medians = [statistics.median(column) * 1e3 for column in zip(*rounds)]
    ratios = sorted(ours / theirs for theirs, ours in rounds)
    print(
        f"{batch} x {tokens}: {nodes[0]} and {nodes[1]} nodes, torch {medians[0]:.0f} ms, ours {medians[1]:.0f} ms, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), outputs differ by {np.abs(theirs - ours).max():.1e}"
    )


def time_one(folder, name, batch, tokens, runs):
    """Prints the median of a graph's runs in seconds, and keeps what it computes."""
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
    ids = np.random.default_rng(0).integers(0, 50265, (batch, tokens))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    np.save(folder / f"{name}.npy", session.run(None, inputs)[0])
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - start)
    print(statistics.median(times))


if __name__ == "__main__":
    step, folder, *rest = sys.argv[1:]
    steps = {"make": make, "export": export, "run": run, "time": time_one}
    steps[step](Path(folder), *(int(word) if word.isdecimal() else word for word in rest))
