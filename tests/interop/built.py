"""Compares what deberta-verify says of a configuration that does not fit its weights with what transformers builds of it.

    python tests/interop/built.py --verify target/release/deberta-verify

For every model and every change of its configuration, transformers loads the class that the configuration names. What it
makes of random numbers (missing keys), refuses, or leaves out of the encoder (unexpected keys) must be a finding
`config-unfit`, and nothing else may be one. Needs torch and transformers, at the versions of
`../fixtures/generate/requirements-pt.txt`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import transformers

ROOT = Path(__file__).resolve().parents[2] / "golden"
MODELS = [
    "data/masked-lm", "data/masked-lm-new", "data/masked-lm-untied", "data/model", "data/model-talking-head",
    "data/sequence-single-label", "data/token-classification", "data/question-answering", "trained/nli", "trained/entities",
    "data/v2-masked-lm", "data/v2-masked-lm-new", "data/v2-model", "data/v2-model-conv", "data/v2-model-separate",
    "data/v2-multiple-choice", "data/v2-token-classification", "trained/v3-nli", "trained/v3-questions",
]
HEADS = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]


def changes(config):
    """Names of changes, and the changed configurations."""
    prefix = "DebertaV2" if config["model_type"] == "deberta-v2" else "Deberta"
    labels = {str(index): f"l{index}" for index in range(7)}
    values = {
        "none": {},
        "legacy": {"legacy": not config.get("legacy", True)},
        "labels": {"id2label": labels, "label2id": {name: int(index) for index, name in labels.items()}},
        "layers": {"num_hidden_layers": config["num_hidden_layers"] - 1},
        "relative": {"relative_attention": False, "pos_att_type": []},
        "c2p": {"pos_att_type": ["c2p"]},
        "talking": {"talking_head": False},
        "norm": {"norm_rel_ebd": "none"},
        "conv": {"conv_kernel_size": 0},
    }
    values |= {f"class {head}": {"architectures": [prefix + head]} for head in HEADS}
    for name, value in values.items():
        if name == "none" or any(config.get(key) != new for key, new in value.items()):
            yield name, config | value


def built(folder, config):
    """Whether transformers builds something else of the folder than its weights, and what it says."""
    head = config["architectures"][0]
    try:
        _, info = getattr(transformers, head).from_pretrained(folder, output_loading_info=True)
    except Exception as error:
        return True, f"{type(error).__name__}: {str(error)[:90]!r}"
    left_out = [key for key in info["unexpected_keys"] if "encoder" in key.split(".")]
    return bool(info["missing_keys"] or info["mismatched_keys"] or left_out), f"missing {len(info['missing_keys'])}, left out {len(left_out)}"


def said(verify, folder, golden):
    """What deberta-verify finds of the configuration, apart from another class than the golden's."""
    command = [verify, "--model", folder, "--golden", golden, "--no-diagnosis", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(run.stdout)
    findings = [finding for file in report["files"] for finding in file["findings"]]
    findings += [finding for file in report["files"] for run in file["runs"] for finding in run["findings"]]
    messages = [finding["message"] for finding in findings if finding["kind"] in ("config-unfit", "error")]
    return [message for message in messages if ", the golden is of " not in message]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", required=True, help="the program")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity(50)
    checked = failed = 0
    for name in MODELS:
        golden = ROOT / name
        original = json.loads((golden / "config.json").read_text())
        if "architectures" not in original:
            continue
        for change, config in changes(original):
            with tempfile.TemporaryDirectory(prefix="deberta-built-") as folder:
                shutil.copy(golden / "model.safetensors", folder)
                Path(folder, "config.json").write_text(json.dumps(config))
                otherwise, why = built(folder, config)
                messages = said(arguments.verify, folder, golden)
            checked += 1
            if otherwise != bool(messages):
                failed += 1
                print(f"DIFFERS {name}, {change}: transformers {why}; deberta-verify {messages[:2]}")
    print(f"{checked} configurations, {failed} differ")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
