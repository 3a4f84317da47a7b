"""Small models of transformers, and the programs that judge goldens of them: DEBERTA_VERIFY and DEBERTA_CONVERT."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# The package as it is installed; else its sources, of which all but the recorder's tests need the library.
if importlib.util.find_spec("deberta_verify") is None:
    sys.path.insert(0, str(ROOT / "golden" / "python" / "python"))

V1 = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 34,
    "max_position_embeddings": 20,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["c2p", "p2c"],
    "type_vocab_size": 0,
}
V2 = V1 | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "pos_att_type": "p2c|c2p"}


@pytest.fixture
def make():
    """Makes a model of a class of transformers from settings that differ from those above, with weights that count."""
    import torch
    import transformers

    torch.set_num_threads(1)

    def made(name="DebertaForMaskedLM", **settings):
        version_2 = "V2" in name
        config = (transformers.DebertaV2Config if version_2 else transformers.DebertaConfig)(
            **(V2 if version_2 else V1) | settings
        )
        torch.manual_seed(1)
        model = getattr(transformers, name)(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.normal_(1.0 if key.endswith("LayerNorm.weight") else 0.0, 0.2)
        return model.eval()

    return made


@pytest.fixture
def judge():
    """Runs deberta-verify, and gives its exit status and what it printed; skips the test where there is no program."""

    def judged(model, golden):
        command = [program("DEBERTA_VERIFY"), "--model", model, "--golden", golden, "--backend", "reference"]
        run = subprocess.run(command, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    return judged


@pytest.fixture
def converted_digest():
    """The digest that deberta-convert prints of a folder; skips the test where there is no program."""

    def digest(folder):
        command = [program("DEBERTA_CONVERT"), "digest", folder]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]

    return digest


def program(name):
    if name not in os.environ:
        pytest.skip(f"{name} names no program")
    return os.environ[name]
