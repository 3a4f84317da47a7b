"""Models and tokenizers, against what PyTorch recorded."""

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("deberta_verify._native")
from deberta_verify import DebertaError, Model, Tokenizer
from deberta_verify.recorder import safetensors_file

NLI = ROOT / "golden/trained/nli"
TEXTS = ("Ada owns a red kite and lives in Selby.", "The kite is red.")


@pytest.fixture(scope="module")
def model():
    return Model.load(NLI)


def recorded(folder, trace):
    """The inputs and outputs of a trace."""
    tensors, _ = safetensors_file.read(folder / trace)
    of = lambda kind: {name.removeprefix(kind): each for name, each in tensors.items() if name.startswith(kind)}  # noqa: E731
    return of("inputs."), of("outputs."), of("activations.")


def test_logits_are_those_of_pytorch(model):
    given, outputs, _ = recorded(NLI, "texts.safetensors")
    output = model(**given, output_hidden_states=True)
    np.testing.assert_allclose(output.logits, outputs["logits"], atol=5e-6)
    assert output.logits.dtype == np.float32 and output["logits"] is output.logits
    assert len(output.hidden_states) == 3
    assert model.class_name == "DebertaForSequenceClassification"
    with pytest.raises(AttributeError, match="logits"):
        output.end_logits  # noqa: B018


@pytest.mark.parametrize(
    "case", ["masked-lm", "v2-multiple-choice", "question-answering", "sequence-classification", "mask-decoder"]
)
def test_every_kind_of_class(case):
    folder = ROOT / "golden/data" / case
    given, outputs, activations = recorded(folder, "padded.safetensors")
    output = Model.load(folder)(**given, points="*")
    for name in output:
        np.testing.assert_allclose(output[name], outputs[name], atol=2e-5)
    assert set(activations) <= set(output.activations)
    for name, values in activations.items():
        assert output.activations[name].shape == values.shape


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8", "uint16", "uint64", ">i4", list, "view"])
def test_ids_of_any_integers(model, dtype):
    ids = np.array([[1, 50, 51, 2], [1, 60, 2, 0]])
    want = model(ids).logits
    given = ids.tolist() if dtype is list else np.repeat(ids, 2, axis=1)[:, ::2] if dtype == "view" else ids.astype(dtype)
    assert (model(given).logits == want).all()
    mask = ids != 0
    want = model(ids, attention_mask=mask.astype(int)).logits
    assert (model(ids, mask).logits == want).all() and (model(ids, mask.astype("float32")).logits == want).all()


def test_tensors_are_taken(model):
    torch = pytest.importorskip("torch")
    ids = torch.tensor([[1, 50, 51, 2]])
    assert (model(ids).logits == model(ids.numpy()).logits).all()
    assert (model(ids.int()).logits == model(ids.numpy()).logits).all()


def test_activations_are_recorded_on_request(model):
    output = model([[1, 50, 51, 2]], points=["*layer.1.attention.self.probs", "pooler*"])
    assert any(name.endswith("layer.1.attention.self.probs") for name in output.activations)
    assert model([[1, 50, 51, 2]]).activations == {}


def test_double_precision(model):
    double = Model.load(NLI, precision="f64")([[1, 50, 51, 2]]).logits
    assert double.dtype == np.float64
    np.testing.assert_allclose(model([[1, 50, 51, 2]]).logits, double, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "tensor", "want", "got"),
    [
        ({"input_ids": [1, 2]}, "input_ids", "[b, n]", (2,)),
        ({"input_ids": [[1.5]]}, "input_ids", "integers", "float64"),
        ({"input_ids": [[1], [1, 2]]}, "input_ids", None, None),
        ({"input_ids": [[]]}, "input_ids", None, (1, 0)),
        ({"input_ids": [[1, 99999999]]}, "input_ids", None, 99999999),
        ({"input_ids": [[1, -1]]}, "input_ids", None, -1),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1, 1]]}, "attention_mask", None, (1, 3)),
        ({}, None, None, None),
    ],
)
def test_inputs_that_do_not_fit(model, given, tensor, want, got):
    with pytest.raises(ValueError) as raised:
        model(**given)
    error = raised.value
    assert isinstance(error, DebertaError)
    assert tensor is None or error.tensor == tensor
    assert want is None or error.want == want
    assert got is None or error.got == got


@pytest.fixture(scope="module")
def graph():
    return Model.load(NLI / "model.onnx")


def test_graphs_are_run(model, graph):
    given, outputs, _ = recorded(NLI, "texts.safetensors")
    np.testing.assert_allclose(graph(**given).logits, outputs["logits"], atol=5e-6)
    assert (graph.backend, model.backend) == ("onnx", "reference")
    assert (graph.class_name, graph.digest) == (model.class_name, model.digest)
    # The model has no token types, and the graph no input for them.
    logits = graph(**Tokenizer.load(NLI)(*TEXTS)).logits
    assert graph.label(logits.argmax()) == "ENTAILMENT"
    assert Model.load(NLI, backend="onnx").backend == "onnx"
    assert Model.load(NLI / "model.onnx", backend="reference").backend == "reference"


def test_what_graphs_do_not_do_is_told(graph):
    with pytest.raises(ValueError, match="the graph puts out logits and no attentions") as raised:
        graph([[1, 50, 2]], output_attentions=True)
    assert raised.value.tensor == "output_attentions"
    with pytest.raises(ValueError, match="graph has no such input") as raised:
        graph([[1, 50, 2]], position_ids=[[0, 1, 2]])
    assert raised.value.tensor == "position_ids"
    with pytest.raises(ValueError, match="computes in the precision that it has"):
        Model.load(NLI / "model.onnx", precision="f64")
    with pytest.raises(ValueError, match="the graph computes") as raised:
        Model.load(NLI / "model.onnx", class_name="DebertaForMaskedLM")
    assert (raised.value.want, raised.value.got) == ("DebertaForMaskedLM", "DebertaForSequenceClassification")
    with pytest.raises(ValueError, match=r"one of .reference., .onnx."):
        Model.load(NLI, backend="marble")


def test_a_graph_is_run_by_onnxruntime(model):
    pytest.importorskip("onnxruntime")
    graph = Model.load(NLI, backend="onnxruntime")
    np.testing.assert_allclose(graph([[1, 50, 51, 2]]).logits, model([[1, 50, 51, 2]]).logits, atol=1e-5)


def test_texts_are_classified(model):
    tokenizer = Tokenizer.load(NLI)
    inputs = tokenizer(*TEXTS)
    assert inputs["input_ids"].dtype == np.int64 and inputs["input_ids"].shape[0] == 1
    assert model.label(model(**inputs).logits.argmax()) == "ENTAILMENT"
    assert tokenizer.decode(tokenizer("The kite is red.")["input_ids"][0], skip_special_tokens=True) == "The kite is red."


def test_batches_are_padded():
    tokenizer = Tokenizer.load(ROOT / "golden/trained/v3-nli")
    batch = tokenizer(["Ada owns a red kite and lives in Selby.", "Red."])
    alone = tokenizer("Red.")
    count = alone["input_ids"].shape[1]
    assert (batch["input_ids"][1, :count] == alone["input_ids"][0]).all()
    assert batch["attention_mask"].sum(axis=1).tolist() == [batch["input_ids"].shape[1], count]
    assert tokenizer("Ada owns a red kite.", max_length=4)["input_ids"].shape == (1, 4)
    slow = Tokenizer.load(ROOT / "golden/trained/v3-nli", slow=True)("Red.")
    assert (slow["input_ids"] == alone["input_ids"]).all()
    with pytest.raises(ValueError, match="expected 1"):
        tokenizer(["a"], ["b", "c"])
    with pytest.raises(FileNotFoundError):
        Tokenizer.load("./nowhere/at/all")
