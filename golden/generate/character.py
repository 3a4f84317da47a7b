"""How the weights of the recipe behave: the table of docs/recipe.md.

python character.py [SIZE …]
"""

import sys

import recipe
import torch
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoConfig, AutoModel

N, NOISE = 128, 1e-4


def build(config):
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(**config))
    for name, array in recipe.weights(config, "base", 1):
        owner, _, last = name.rpartition(".")
        parameter = torch.nn.Parameter(torch.from_numpy(array), requires_grad=False)
        setattr(model.get_submodule(owner), last, parameter)
    model.embeddings.register_buffer("position_ids", torch.arange(512)[None], persistent=False)
    return model.eval()


@torch.no_grad()
def main():
    print("| model | layer | rms | largest | cosine to others | to the layer before | entropy | peak | disturbance |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in sys.argv[1:] or recipe.SIZES:
        config = recipe.SIZES[size]
        model = build(config)
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(5, config["vocab_size"], (1, N), generator=generator)
        good = model(input_ids=ids, output_hidden_states=True, output_attentions=True)

        def disturb(_module, _inputs, output):
            return output + NOISE * torch.randn(output.shape, generator=generator)

        model.embeddings.register_forward_hook(disturb)
        disturbed = model(input_ids=ids, output_hidden_states=True)
        layers = config["num_hidden_layers"]
        for layer in sorted({0, 1, layers // 4, layers // 2, 3 * layers // 4, layers}):
            h = good.hidden_states[layer][0]
            unit = normalize(h, dim=-1)
            others = ((unit @ unit.T).sum() - N) / (N * (N - 1))
            before = cosine_similarity(h, good.hidden_states[max(layer - 1, 0)][0], dim=-1).mean()
            error = (disturbed.hidden_states[layer][0] - h).square().mean().sqrt()
            entropy, peak = "", ""
            if layer < layers:
                p = good.attentions[layer][0]
                of_heads = -(p * (p + 1e-30).log()).sum(-1).mean(-1)
                entropy = f"{of_heads.min():.2f} {of_heads.mean():.2f} {of_heads.max():.2f}"
                peak = f"{p.amax(-1).mean():.2f}"
            before = f"{before:.2f}" if layer else ""
            print(
                f"| {size} | {layer} | {h.square().mean().sqrt():.2f} | {h.abs().max():.1f} | {others:.2f} | {before} "
                f"| {entropy} | {peak} | {error:.1e} |"
            )


main()
