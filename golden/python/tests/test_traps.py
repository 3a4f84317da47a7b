"""What would make a golden that lies is refused, and nothing is left behind."""

import json

import pytest
from deberta_verify import RecordError, record


@pytest.fixture
def refused(tmp_path):
    """Checks that a model is refused with these words, and that nothing was written."""

    def check(words, model, **options):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(RecordError, match=words):
            record(model, out=tmp_path / "golden", **options)
        assert sorted(tmp_path.iterdir()) == before

    return check


def test_the_model_is_left_as_it_was(make, tmp_path):
    model = make("DebertaForSequenceClassification", hidden_dropout_prob=0.5).train()
    model.deberta.embeddings.eval()
    first = record(model, out=tmp_path / "a")
    assert model.training and model.classifier.training and not model.deberta.embeddings.training
    assert not any(module._forward_hooks for module in model.modules())
    second = record(model, out=tmp_path / "b")
    for name in first.traces:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_wrappers_are_taken_off(make, tmp_path):
    import torch

    model = make("DebertaV2Model")
    digest = record(model, out=tmp_path / "plain").digest
    assert record(torch.compile(model), out=tmp_path / "compiled").digest == digest
    assert record(torch.nn.DataParallel(model), out=tmp_path / "parallel").digest == digest
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert record(model, out=tmp_path / "autocast").digest == digest
    assert (tmp_path / "plain/n8.safetensors").read_bytes() == (tmp_path / "autocast/n8.safetensors").read_bytes()


def test_mixed_precision_of_accelerate_is_taken_off(make, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = make("DebertaModel")
    plain = record(model, out=tmp_path / "plain")
    # A Trainer of another test has set its state, of which there is one in a process.
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
    wrapped = prepared.forward
    record(prepared, out=tmp_path / "prepared")
    assert prepared.forward == wrapped
    for name in plain.traces:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "prepared" / name).read_bytes()


def test_adapters_are_refused(make, refused, tmp_path):
    model = make()
    model.peft_config = {}
    refused("merge_and_unload", model)
    del model.peft_config
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model/adapter_config.json").write_text("{}")
    refused("adapter_config.json is beside the weights", tmp_path / "model")


def test_half_precision_is_refused(make, refused):
    refused("bfloat16, and a golden is computed in f32", make().bfloat16())
    model = make("DebertaV2Model")
    norm = model.encoder.layer[1].output.LayerNorm
    forward = norm.forward
    norm.forward = lambda x: forward(x).half()
    refused("computed in float16", model)


def test_half_precision_of_files_is_widened(make, judge, tmp_path):
    make().half().save_pretrained(tmp_path / "model")
    golden = record(tmp_path / "model", out=tmp_path / "golden")
    status, said = judge(tmp_path / "model", golden.folder)
    assert status == 0, said


def test_another_model_is_refused(make, refused):
    import torch
    import transformers

    class Mine(transformers.DebertaModel):
        pass

    refused("is no model of transformers", torch.nn.Linear(2, 2))
    refused("is no model of transformers", Mine(make("DebertaModel").config))
    small = transformers.BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=1, intermediate_size=8)
    refused("none of the classes of transformers for DeBERTa", transformers.BertModel(small))
    refused("no class of tensorflow", make(), framework="tensorflow")


def test_modules_that_nobody_knows_are_refused(make, refused):
    import torch

    model = make()
    model.deberta.encoder.layer[1].adapter = torch.nn.Linear(24, 24)
    refused("adapter .Linear. is no module of DebertaForMaskedLM", model)


def test_random_weights_are_refused(make, refused, tmp_path):
    make("DebertaModel").save_pretrained(tmp_path / "base")
    refused("transformers would make random numbers", tmp_path / "base", class_name="DebertaForTokenClassification")
    make("DebertaForTokenClassification").save_pretrained(tmp_path / "head")
    refused("classifier.* has no place for it", tmp_path / "head", class_name="DebertaModel")
    (tmp_path / "head/model.safetensors").unlink()
    refused("no weights for PyTorch", tmp_path / "head")
    config = json.loads((tmp_path / "base/config.json").read_text())
    (tmp_path / "base/config.json").write_text(json.dumps(config | {"architectures": None}))
    refused("architectures names no class", tmp_path / "base")


def test_numbers_that_judge_nothing_are_refused(make, refused):
    import torch

    model = make()
    with torch.no_grad():
        model.deberta.encoder.layer[0].output.dense.bias[3] = float("nan")
    refused("NaN or infinite", model)


def test_a_decoder_that_should_be_tied_is_refused(make, refused):
    import torch

    model = make()
    model.cls.predictions.decoder.weight = torch.nn.Parameter(model.cls.predictions.decoder.weight + 1)
    refused("which it repeats", model)


def test_a_golden_is_replaced_only_when_asked(make, tmp_path):
    model = make("DebertaModel")
    record(model, out=tmp_path / "golden", description="first")
    with pytest.raises(RecordError, match="--force replaces it"):
        record(model, out=tmp_path / "golden")
    record(model, out=tmp_path / "golden", description="second", overwrite=True)
    assert "second" in (tmp_path / "golden/case.yaml").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("")
    with pytest.raises(RecordError, match="no golden"):
        record(model, out=tmp_path / "other", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["golden", "other"]
