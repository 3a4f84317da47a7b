"""The families that models are trained of: what version 1 and version 3 give all of theirs."""

from dataclasses import dataclass
from types import ModuleType

import sentence_piece
import vocabulary
from transformers import DebertaConfig, DebertaV2Config, PretrainedConfig

SIZES = {
    "vocab_size": 0,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 128,
    "relative_attention": True,
    "position_biased_input": False,
}
REST = {"layer_norm_eps": 1e-7, "initializer_range": 0.05, "pad_token_id": 0, "type_vocab_size": 0}


@dataclass(frozen=True, eq=False)
class Family:
    # what the names of folders and of classes begin with
    folder: str
    classes: str
    configuration: type[PretrainedConfig]
    base: dict
    # writes and loads the tokenizer
    vocabulary: ModuleType
    # folders with all files of the tokenizer that save_pretrained writes
    saved: tuple[str, ...] = ()


V1 = Family(
    folder="",
    classes="Deberta",
    configuration=DebertaConfig,
    base={"model_type": "deberta"} | SIZES | {"pos_att_type": ["c2p", "p2c"]} | REST,
    vocabulary=vocabulary,
)
# As the published models of version 3, with buckets of 1 up to a distance of 16.
V3 = Family(
    folder="v3-",
    classes="DebertaV2",
    configuration=DebertaV2Config,
    base={"model_type": "deberta-v2"}
    | SIZES
    | {
        "pos_att_type": "p2c|c2p",
        "max_relative_positions": -1,
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    }
    | REST,
    vocabulary=sentence_piece,
    saved=("v3-nli",),
)


def of_folder(name):
    """The family of the model in a folder."""
    return V3 if name.startswith(V3.folder) else V1
