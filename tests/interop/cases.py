"""The checkpoints that are converted: the committed ones, and random ones made for the run."""

import dataclasses
import json
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
        """Whether outputs can be compared: not those of NaN."""
        return self.name != "random/odd-values"

    @property
    def legacy_head(self):
        return self.cls == "DebertaForMaskedLM" and self.setting("legacy", True)

    @property
    def new_head(self):
        return self.cls == "DebertaForMaskedLM" and not self.setting("legacy", True)

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
        return not (self.new_head or untied or self.setting("talking_head", False) or (narrow and absolute))

    def setting(self, key, default):
        return (self.config | self.overrides).get(key, default)


# What a configuration without `architectures` holds.
UNDECLARED = {
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
    """The cases in tests/fixtures, and those in ../shared/fixtures when that folder is there."""
    fixtures = repository / "tests" / "fixtures"
    groups = [fixtures / "transformers", fixtures / "microsoft", repository.parent / "shared" / "fixtures"]
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
