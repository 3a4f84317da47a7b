"""Prints the median milliseconds of PyTorch's base model: forward.py FOLDER BATCH TOKENS RUNS."""

import statistics
import sys
import time

import torch
from transformers import AutoModel

folder, (batch, tokens, runs) = sys.argv[1], map(int, sys.argv[2:])
torch.set_num_threads(2)
model = AutoModel.from_pretrained(folder).eval()
ids = (torch.arange(batch * tokens) * 7919 % model.config.vocab_size).view(batch, tokens)
times = []
with torch.no_grad():
    for _ in range(runs + 2):
        start = time.perf_counter()
        model(ids)
        times.append((time.perf_counter() - start) * 1e3)
print(statistics.median(times[2:]))
