"""MKL's product of linear layers, as reference/benches/products.rs measures ours: prints tokens, numbers in, numbers out, GFLOP/s."""

import statistics
import time

import torch

WEIGHTS, WORK, ROUNDS = 360 << 20, 4_000_000_000, 5

torch.set_num_threads(2)
torch.set_grad_enabled(False)
for k, n in [(768, 768), (768, 2304), (768, 3072), (3072, 768)]:
    weights = [torch.rand(n, k) - 0.5 for _ in range(WEIGHTS // (4 * k * n))]
    called = 0
    for m in [16, 64, 128, 512, 1024, 2048]:
        x = torch.rand(m, k) - 0.5
        calls = max(2, WORK // (2 * m * k * n))
        rates = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(calls):
                torch.nn.functional.linear(x, weights[called % len(weights)])
                called += 1
            rates.append(2 * m * k * n * calls / (time.perf_counter() - start) / 1e9)
        print(m, k, n, round(statistics.median(rates)))
