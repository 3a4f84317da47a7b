"""Goldens of every class, judged by deberta-verify."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from deberta_verify import RecordError, record
from deberta_verify.recorder import layers, safetensors_file, sizes

HEADS = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
CLASSES = [f"Deberta{head}" for head in HEADS] + [f"DebertaV2{head}" for head in [*HEADS, "ForMultipleChoice"]]
VARIETIES = [
    ("DebertaModel", {"position_biased_input": True, "type_vocab_size": 3}),
    ("DebertaModel", {"relative_attention": False, "pos_att_type": None, "position_biased_input": True}),
    ("DebertaModel", {"pos_att_type": ["p2c"], "max_relative_positions": 4, "talking_head": True}),
    ("DebertaForMaskedLM", {"legacy": False, "tie_word_embeddings": False}),
    ("DebertaForMaskedLM", {"tie_word_embeddings": False, "embedding_size": 16}),
    ("DebertaForMaskedLM", {"vocab_size": 4}),
    ("DebertaForSequenceClassification", {"id2label": {0: "no", 1: "perhaps", 2: "yes"}}),
    ("DebertaV2Model", {"share_att_key": False, "conv_kernel_size": 3, "conv_act": "gelu"}),
    ("DebertaV2Model", {"position_buckets": -1, "norm_rel_ebd": "none", "pos_att_type": "c2p"}),
    ("DebertaV2ForMultipleChoice", {"type_vocab_size": 2, "position_biased_input": True}),
]


@pytest.mark.parametrize(("name", "settings"), [(name, {}) for name in CLASSES] + VARIETIES)
def test_a_model_agrees_with_its_golden(name, settings, make, judge, converted_digest, tmp_path):
    model = make(name, **settings)
    model.save_pretrained(tmp_path / "model")
    golden = record(model, out=tmp_path / "golden")
    status, said = judge(tmp_path / "model", golden.folder)
    assert status == 0, said
    assert golden.digest == converted_digest(tmp_path / "model")
    assert record(tmp_path / "model", out=tmp_path / "again").digest == golden.digest
    assert golden.size == sum(path.stat().st_size for path in golden.folder.iterdir()) <= 1_000_000


@pytest.mark.parametrize("name", ["DebertaForSequenceClassification", "DebertaV2ForMaskedLM", "DebertaV2Model"])
def test_samples_name_the_cause_of_damage(name, make, judge, tmp_path):
    import torch

    model = make(name)
    golden = record(model, out=tmp_path / "golden", max_size="150kB")
    assert layers.LAYERS in golden.traces
    model.save_pretrained(tmp_path / "good")
    assert judge(tmp_path / "good", golden.folder)[0] == 0
    base = getattr(model, "deberta", model)
    with torch.no_grad():
        base.encoder.layer[1].attention.output.dense.weight.copy_(base.encoder.layer[1].attention.output.dense.weight.T.clone())
    model.save_pretrained(tmp_path / "bad")
    status, said = judge(tmp_path / "bad", golden.folder)
    assert status == 1
    assert "encoder.layer.1.attention.output.dense.weight is transposed (transposed-kernel, confirmed)" in said


def test_samples_without_repetitions_are_smaller(make, judge, tmp_path):
    model = make("DebertaV2Model", num_hidden_layers=6)
    full = record(model, out=tmp_path / "full", max_size="160kB")
    model.save_pretrained(tmp_path / "model")
    for size in ("110kB", "100kB"):
        golden = record(model, out=tmp_path / size, max_size=size)
        assert golden.size <= sizes.parse(size) < full.size <= 160_000
        status, said = judge(tmp_path / "model", golden.folder)
        assert status == 0, said
    with pytest.raises(RecordError, match="--max-size: samples of 6 inputs take"):
        record(model, out=tmp_path / "none", max_size="20kB")


def test_chosen_points_alone_are_recorded(make, judge, tmp_path):
    model = make("DebertaV2ForTokenClassification")
    model.save_pretrained(tmp_path / "model")
    golden = record(model, out=tmp_path / "golden", points=["*.attention.self", "outputs.attentions.*"], max_size=None)
    tensors, metadata = safetensors_file.read(golden.folder / "n8.safetensors")
    assert {name for name in tensors if name.startswith("activations.")} == {
        f"activations.deberta.encoder.layer.{i}.attention.self" for i in range(2)
    }
    assert {"outputs.logits", "outputs.attentions.1"} <= set(tensors)
    assert "outputs.hidden_states.0" not in tensors
    assert metadata["points"] == "deberta.encoder.layer.0.attention.self deberta.encoder.layer.1.attention.self"
    assert judge(tmp_path / "model", golden.folder)[0] == 0
    with pytest.raises(RecordError, match="no such point"):
        record(model, out=tmp_path / "golden2", points=["*.scores"])


def test_the_inputs_of_a_trace_are_recorded(make, judge, tmp_path):
    model = make("DebertaForSequenceClassification", num_labels=3)
    model.save_pretrained(tmp_path / "model")
    inputs = {"inputs.input_ids": np.array([[5, 6, 7], [8, 9, 0]]), "inputs.labels": np.array([2, 1])}
    safetensors_file.write(
        tmp_path / "mine.safetensors", inputs | {"inputs.attention_mask": np.array([[1, 1, 1], [1, 1, 0]])}, {}
    )
    golden = record(tmp_path / "model", inputs=[tmp_path / "mine.safetensors"], out=tmp_path / "golden")
    assert golden.traces == ("mine.safetensors",)
    assert "outputs.loss" in safetensors_file.read(golden.folder / "mine.safetensors")[0]
    status, said = judge(tmp_path / "model", golden.folder)
    assert status == 0, said


def test_the_configuration_is_beside_and_names_labels(make, tmp_path):
    names = {0: "no", 1: "yes"}
    golden = record(make("DebertaV2ForSequenceClassification", id2label=names), out=tmp_path / "golden")
    config = json.loads((golden.folder / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert config["architectures"] == ["DebertaV2ForSequenceClassification"]


def test_texts_are_recorded_with_their_tokens(judge, tmp_path):
    from conftest import ROOT

    folder = ROOT / "golden/trained/v3-nli"
    golden = record(folder, [("The kite is red.", "It is not."), "Ada"], out=tmp_path / "golden", cover=False)
    assert "texts.safetensors" in golden.traces
    lines = [json.loads(line) for line in (golden.folder / "tokenizer.jsonl").read_text().splitlines()]
    assert (lines[0]["text"], lines[0]["text_pair"]) == ("The kite is red.", "It is not.")
    assert lines[0]["type_ids"][-1] == 1 and len(lines[0]["ids"]) == len(lines[0]["tokens"])
    tensors, _ = safetensors_file.read(golden.folder / "texts.safetensors")
    assert tensors["inputs.input_ids"][1, :3].tolist() == lines[1]["ids"][:3]
    assert judge(folder / "model.safetensors", golden.folder)[0] == 0


def test_every_token_counts_and_not_only_those_of_the_texts(make, judge, monkeypatch, tmp_path):
    from conftest import ROOT, program

    monkeypatch.setenv("PATH", str(Path(program("DEBERTA_VERIFY")).parent), prepend=os.pathsep)
    folder = tmp_path / "model"
    make("DebertaForSequenceClassification", vocab_size=640).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(ROOT / "golden/trained/nli" / name, folder)
    golden = record(folder, ["Ada"], out=tmp_path / "golden")
    assert 'tokenizer_digest: "' in (golden.folder / "case.yaml").read_text()
    assert judge(folder, golden.folder)[0] == 0
    vocabulary = json.loads((folder / "vocab.json").read_text())
    one, other = sorted(vocabulary, key=vocabulary.get)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    status, said = judge(folder, golden.folder)
    assert status == 1 and "not the same tokenizer" in said, said


def test_without_library_and_program_the_digest_is_left_out(make, monkeypatch, tmp_path):
    from conftest import ROOT
    from deberta_verify.recorder import tokenizer_digest

    monkeypatch.setitem(sys.modules, "deberta_verify._native", None)
    monkeypatch.setattr(tokenizer_digest, "PROGRAM", "no-such-program")
    golden = record(ROOT / "golden/trained/nli", ["Ada"], out=tmp_path / "golden", cover=False)
    assert "tokenizer_digest" not in (golden.folder / "case.yaml").read_text()
    assert any("nor the program no-such-program is installed" in note for note in golden.notes)
