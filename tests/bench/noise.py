"""Writes a masked LM as f32, f16 and bf16 and what PyTorch computes with the f32 weights: see noise.sh."""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import DebertaConfig, DebertaForMaskedLM, DebertaV2Config, DebertaV2ForMaskedLM

sys.path.insert(0, str(Path(__file__).parents[2] / "golden/generate"))
import package  # noqa: E402, F401
from deberta_verify.recorder import pytorch  # noqa: E402
from deberta_verify.recorder.settings import Settings  # noqa: E402

version, layers, width, heads, weights, folder = sys.argv[1:]
layers, width, heads, folder = int(layers), int(width), int(heads), Path(folder)

torch.manual_seed(1)
options = dict(
    vocab_size=50265, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
    intermediate_size=4 * width, max_position_embeddings=512, relative_attention=True, pos_att_type=["c2p", "p2c"],
    position_biased_input=False, layer_norm_eps=1e-7, max_relative_positions=-1, type_vocab_size=0,
)
if version == "1":
    cls, config = DebertaForMaskedLM, DebertaConfig(**options)
else:
    # As v3 has it, and with the convolution that v2's models of 24 and 48 layers have.
    options |= dict(position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True)
    if layers > 12:
        options |= dict(conv_kernel_size=3, conv_act="gelu")
    cls, config = DebertaV2ForMaskedLM, DebertaV2Config(**options)
model = cls(config).eval()
LAYERS = ("outputs.hidden_states", "outputs.attentions")

if weights != "initial":
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter.copy_(0.6 + 0.4 * torch.rand(parameter.shape, generator=generator))
                if weights == "outliers":
                    # A few features six times the others, as trained models have them.
                    parameter[torch.randint(0, parameter.numel(), (3,), generator=generator)] *= 6
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.copy_(0.04 * torch.randn(parameter.shape, generator=generator))

(folder / "golden").mkdir()
generator = torch.Generator().manual_seed(3)
lengths = {"short": [16], "long": [128], "padded": [64, 40]}
if version == "2":  # where buckets hold several distances
    lengths["far"] = [300]
for label, rows in lengths.items():
    input_ids = torch.randint(4, 50000, (len(rows), max(rows)), generator=generator)
    mask = (torch.arange(max(rows)) < torch.tensor(rows)[:, None]).long()
    arguments, tensors = {"input_ids": input_ids, "attention_mask": mask}, {}
    pytorch.run(model, arguments, tensors.__setitem__, Settings.of(config.to_dict()))
    tensors = {name: torch.from_numpy(array) for name, array in tensors.items() if not name.startswith(LAYERS)}
    tensors |= {f"inputs.{key}": value for key, value in arguments.items()}
    metadata = {
        "format": "deberta-trace-1", "framework": "pytorch", "class": cls.__name__, "masked_rows": "uniform",
        "producer": f"torch {torch.__version__}",
    }
    save_file(tensors, folder / "golden" / f"{label}.safetensors", metadata=metadata)

model.save_pretrained(folder / "f32")
for label, dtype in {"f16": torch.float16, "bf16": torch.bfloat16}.items():
    cls.from_pretrained(folder / "f32").to(dtype).save_pretrained(folder / label)
    shutil.copy(folder / "f32" / "config.json", folder / label)
