"""Compares deberta_verify.Model with transformers, on the trained models that it has a class for."""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from deberta_verify import Model, Tokenizer

TEXTS = ["Ada owns a red kite and lives in Selby.", "The kite is red."]
ROOT = Path(sys.argv[1])

worst = 0.0
for folder in sorted((ROOT / "golden/trained").iterdir()):
    config = folder / "config.json"
    if not config.exists():
        continue
    # Detection of replaced tokens is no class of transformers.
    name = (transformers.AutoConfig.from_pretrained(folder).architectures or [""])[0]
    if not hasattr(transformers, name) or name.endswith("MultipleChoice"):
        continue
    theirs = getattr(transformers, name).from_pretrained(folder).eval()
    ours, inputs = Model.load(folder), Tokenizer.load(folder)(TEXTS)
    with torch.no_grad():
        want = theirs(**{key: torch.tensor(value) for key, value in inputs.items()})
    got = ours(**{key: torch.tensor(value) for key, value in inputs.items()})
    for key, value in want.items():
        kept = inputs["attention_mask"] != 0 if value.shape[:2] == inputs["input_ids"].shape else ...
        difference = float(np.abs(got[key] - value.numpy())[kept].max())
        worst = max(worst, difference)
        assert difference < 2e-5, f"{folder.name}: {key} is off by {difference}"
    print(f"{folder.name}: {name} agrees")
print(f"at most {worst:.1e} apart")
