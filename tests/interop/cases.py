"""The checkpoints that are converted: the committed ones, and random ones made for the run."""

import dataclasses
import json
import random
from pathlib import Path

FILE_NAMES = {"pt": "pytorch_model.bin", "st": "model.safetensors", "tf": "tf_model.h5"}
FORMATS = tuple(FILE_NAMES)
OPTION = {"pt": "pytorch", "st": "safetensors", "tf": "tf"}


@dataclasses.dataclass
class Case:
    """One model and the formats that it exists in."""

    name: str
    cls: str
    """Hugging Face's class, the PyTorch name of it."""
    config: dict
    sources: dict[str, Path]
    """Format -> file or shard index, each in a folder with its configuration. `tf-names` is safetensors with TensorFlow's names."""
    dtype: str = "f32"
    overrides: dict = dataclasses.field(default_factory=dict)
    """What must be added to the configuration for `cls` to hold these tensors."""

    @property
    def computes(self):
        """Whether outputs can be compared: not those of NaN, and not of a class that transformers lacks."""
        return self.name != "random/odd-values" and self.cls != DETECTOR

    @property
    def legacy_head(self):
        return self.cls.endswith("ForMaskedLM") and self.setting("legacy", True)

    @property
    def new_head(self):
        return self.cls.endswith("ForMaskedLM") and not self.setting("legacy", True)

    @property
    def tied(self):
        return self.setting("tie_word_embeddings", True)

    @property
    def aliases(self):
        """What PyTorch files hold under a second name: the name, and the tensor that it repeats."""
        if not self.legacy_head:
            return {}
        bias = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
        weight = {"cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight"}
        return bias | weight if self.tied else bias

    @property
    def tensorflow(self):
        """Whether TensorFlow's class can hold the model."""
        narrow = self.setting("embedding_size", self.config["hidden_size"]) != self.config["hidden_size"]
        untied = self.legacy_head and not self.tied
        absolute = self.setting("position_biased_input", True)
        other = self.setting("talking_head", False) or self.setting("conv_groups", 1) > 1 or self.cls == DETECTOR
        return not (self.new_head or untied or other or (narrow and absolute))

    def setting(self, key, default):
        return (self.config | self.overrides).get(key, default)


DETECTOR = "ReplacedTokenDetectionModel"
# What a configuration without `architectures` holds.
UNDECLARED = {
    "fixtures-v2/v2-emd": ("DebertaV2ForMaskedLM", {"legacy": False, "tie_word_embeddings": False}),
    "fixtures-v2/v2-rtd": (DETECTOR, {}),
    "microsoft/emd": ("DebertaForMaskedLM", {"legacy": False, "tie_word_embeddings": False}),
    "microsoft/bert-prefix": ("DebertaForSequenceClassification", {}),
}
DTYPES = {"f16": "f16", "bf16": "bf16"}
FIXTURE_FILES = {
    "pt": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    "pt-legacy": ("pytorch_model.legacy.bin",),
    "st": ("model.safetensors", "model.safetensors.index.json"),
    "tf": ("tf_model.h5",),
}


def committed(repository):
    """The cases in tests/fixtures, and those in ../shared when that folder is there."""
    fixtures, shared = repository / "tests" / "fixtures", repository.parent / "shared"
    groups = [fixtures / "transformers", fixtures / "microsoft", shared / "fixtures", shared / "fixtures-v2"]
    for group in groups:
        if not group.is_dir():
            print(f"skip {group.name}: there is no {group}")
            continue
        prefix = "" if group.name == "transformers" else f"{group.parent.name if group.name == 'fixtures' else group.name}/"
        for folder in sorted(path for path in group.iterdir() if path.is_dir()):
            yield from_folder(prefix + folder.name, folder)


def from_folder(name, folder):
    config_file = folder / "config.json"
    if not config_file.exists():
        config_file = folder / "model_config.json"
    config = json.loads(config_file.read_text())
    cls, overrides = UNDECLARED.get(name) or (config["architectures"][0], {})
    sources = {}
    for form, names in FIXTURE_FILES.items():
        for file in names:
            if (folder / file).exists():
                sources[form] = folder / file
    if folder.name == "tf-safetensors":
        sources = {"tf-names": sources["st"]}
    return Case(name, cls, config, sources, DTYPES.get(folder.name, "f32"), overrides)


BASE = dict(
    vocab_size=131,
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=3,
    intermediate_size=35,
    max_position_embeddings=19,
    relative_attention=True,
    position_biased_input=False,
    pos_att_type=["c2p", "p2c"],
)
WIDE = BASE | dict(hidden_size=60, num_attention_heads=5, num_hidden_layers=5, intermediate_size=49)
MLM, SEQCLS = "DebertaForMaskedLM", "DebertaForSequenceClassification"
TOKCLS, QA, MODEL = "DebertaForTokenClassification", "DebertaForQuestionAnswering", "DebertaModel"

# name: (class, configuration, dtype)
RANDOM = {
    "no-terms": (MLM, BASE | dict(pos_att_type=[]), "f32"),
    "c2p-tanh-pooler": (
        SEQCLS,
        WIDE | dict(pos_att_type=["c2p"], num_labels=7, max_relative_positions=5, pooler_hidden_act="tanh", cls_dropout=0.3),
        "f32",
    ),
    "p2c-types": (TOKCLS, BASE | dict(pos_att_type=["p2c"], num_labels=1, type_vocab_size=3, hidden_act="tanh"), "f32"),
    "string-terms": (QA, WIDE | dict(pos_att_type="c2p|p2c", hidden_act="relu", num_labels=2), "f32"),
    "narrow": (MLM, WIDE | dict(embedding_size=44, hidden_act="gelu_new", num_hidden_layers=2, type_vocab_size=2), "f32"),
    "absolute-and-relative": (MODEL, BASE | dict(position_biased_input=True, type_vocab_size=3, hidden_act="relu"), "f32"),
    "no-positions": (
        SEQCLS,
        BASE | dict(relative_attention=False, pos_att_type=None, num_labels=1, pooler_hidden_act="relu", pooler_dropout=0.2),
        "f32",
    ),
    "narrow-absolute": (MODEL, BASE | dict(embedding_size=10, position_biased_input=True), "f32"),
    "talking-mlm": (MLM, BASE | dict(talking_head=True, num_hidden_layers=2), "f32"),
    "new-head": (MLM, WIDE | dict(legacy=False, tie_word_embeddings=False, num_hidden_layers=1), "f32"),
    "untied": (MLM, BASE | dict(tie_word_embeddings=False), "f32"),
    # So deep that Keras splits its list of names over several attributes.
    "deep": (TOKCLS, BASE | dict(hidden_size=12, intermediate_size=14, num_hidden_layers=48, num_labels=2), "f32"),
    "half": (SEQCLS, BASE | dict(num_labels=3), "f16"),
    "brain": (MLM, BASE | dict(num_hidden_layers=2), "bf16"),
    "double": (MLM, BASE | dict(num_hidden_layers=2), "f64"),
    "mixed": (SEQCLS, BASE, "mixed"),
    "odd-values": (MODEL, BASE, "f32"),
    # One layout of PyTorch file each.
    "wrapped-state-dict": (SEQCLS, BASE, "f32"),
    "wrapped-model": (QA, BASE, "f32"),
    "parameters": (TOKCLS, BASE, "f32"),
    "strided": (MLM, BASE, "f32"),
    "one-storage": (MODEL, BASE, "f32"),
    "stream": (MLM, BASE, "bf16"),
}

# Versions 2 and 3. Buckets in which PyTorch and TensorFlow sort every distance of a batch alike.
BASE_2 = BASE | dict(position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm")
WIDE_2 = WIDE | dict(share_att_key=True)
SEPARATE = dict(share_att_key=False)
CONV = dict(conv_kernel_size=3, conv_act="gelu")
HEADS_2 = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
MODEL_2, MLM_2, SEQCLS_2, TOKCLS_2, QA_2, CHOICE_2 = (f"DebertaV2{head}" for head in HEADS_2)
RANDOM |= {
    "v2-mlm": (MLM_2, BASE_2 | dict(num_hidden_layers=2), "f32"),
    "v2-seqcls-conv": (SEQCLS_2, BASE_2 | CONV | dict(num_hidden_layers=2, num_labels=3), "f32"),
    "v2-choice": (CHOICE_2, WIDE_2 | SEPARATE | CONV | dict(pos_att_type="p2c|c2p", type_vocab_size=2), "f32"),
    "v2-separate": (SEQCLS_2, WIDE_2 | SEPARATE | dict(num_labels=7, pooler_hidden_act="tanh", cls_dropout=0.3), "f32"),
    "v2-c2p": (TOKCLS_2, BASE_2 | SEPARATE | dict(pos_att_type=["c2p"], conv_kernel_size=1, num_labels=1), "f32"),
    "v2-p2c": (QA_2, BASE_2 | SEPARATE | dict(pos_att_type="p2c", conv_kernel_size=5, conv_act="relu", num_labels=2), "f32"),
    "v2-absolute": (MODEL_2, BASE_2 | dict(position_biased_input=True, type_vocab_size=3, conv_kernel_size=7), "f32"),
    "v2-narrow": (MLM_2, WIDE_2 | CONV | dict(embedding_size=44, type_vocab_size=2, hidden_act="gelu_new"), "f32"),
    "v2-narrow-absolute": (MODEL_2, BASE_2 | dict(embedding_size=10, position_biased_input=True), "f32"),
    # The norm of a table that is not there.
    "v2-no-positions": (QA_2, BASE_2 | dict(relative_attention=False, pos_att_type=[], num_labels=2), "f32"),
    "v2-groups": (SEQCLS_2, BASE_2 | CONV | dict(conv_groups=4), "f32"),
    "v2-new-head": (MLM_2, BASE_2 | CONV | dict(legacy=False, tie_word_embeddings=False), "f32"),
    "v2-untied": (MLM_2, BASE_2 | dict(tie_word_embeddings=False), "f32"),
    "v2-deep": (TOKCLS_2, BASE_2 | dict(hidden_size=12, intermediate_size=14, num_hidden_layers=48, num_labels=2), "f32"),
    "v2-half": (CHOICE_2, BASE_2 | CONV, "f16"),
    "v2-brain": (MLM_2, BASE_2 | SEPARATE | CONV, "bf16"),
    "v2-double": (SEQCLS_2, BASE_2 | CONV, "f64"),
    "v2-strided": (MLM_2, BASE_2 | CONV, "f32"),
    "v2-one-storage": (MODEL_2, BASE_2 | CONV, "f32"),
    "v2-stream": (TOKCLS_2, BASE_2 | SEPARATE | CONV, "f16"),
}


def drawn(count):
    """Models of version 2 by chance, the same in every run: (class, configuration, dtype) by name."""
    draw = random.Random(2)
    for number in range(count):
        terms = draw.choice((["c2p", "p2c"], ["p2c", "c2p"], ["c2p"], ["p2c"], "p2c|c2p", "C2P|P2C"))
        config = BASE_2 | dict(
            num_hidden_layers=draw.choice((1, 2, 3)),
            position_buckets=draw.choice((-1, 8)),
            share_att_key=draw.random() < 0.5,
            norm_rel_ebd=draw.choice(("none", "layer_norm", "Layer_Norm | x")),
            conv_kernel_size=draw.choice((0, 1, 3, 5, 7)),
            conv_act=draw.choice(("tanh", "gelu", "relu")),
            position_biased_input=draw.random() < 0.4,
            type_vocab_size=draw.choice((0, 2)),
            pos_att_type=terms,
            num_labels=draw.choice((1, 2, 5)),
        )
        if not config["position_biased_input"] and draw.random() < 0.3:
            config["embedding_size"] = 18
        cls = f"DebertaV2{HEADS_2[number % len(HEADS_2)]}"
        yield f"v2-drawn-{number}", (cls, config | (dict(num_labels=2) if cls == QA_2 else {}), "f32")


RANDOM |= drawn(12)


def random_cases(folder):
    """Cases whose files the workers still have to write, below `folder`."""
    for name, (cls, config, dtype) in RANDOM.items():
        place = folder / name
        sources = {"pt": place / "pt" / FILE_NAMES["pt"], "st": place / "st" / FILE_NAMES["st"]}
        case = Case(f"random/{name}", cls, config, sources, dtype)
        if case.tensorflow and case.computes and dtype == "f32":
            sources["tf"] = place / "tf" / FILE_NAMES["tf"]
            sources["tf-names"] = place / "tf-names" / FILE_NAMES["st"]
        yield case
