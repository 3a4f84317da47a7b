"""verify, convert and the others: what they return, and what they raise."""

import json
import shutil

import pytest
from conftest import ROOT

pytest.importorskip("deberta_verify._native")
import deberta_verify
from deberta_verify import FormatError, ModelError, RequestError, VerificationError

NLI = ROOT / "golden/trained/nli"
DIGEST = "edd627c9aada2816eef96f03995aa24bfddf47bf905d9110fb71e73e18976839"


@pytest.fixture
def wrong(tmp_path):
    """The weights of nli under a configuration with another GELU."""
    shutil.copy(NLI / "model.safetensors", tmp_path)
    config = (NLI / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"gelu"', '"gelu_new"'))
    return tmp_path


def test_a_good_model_passes():
    report = deberta_verify.verify(NLI)
    assert report.passed and report.outcome == "pass"
    assert {file["format"] for file in report.files} == {"PyTorch", "TensorFlow", "safetensors", "ONNX"}
    assert report.first_divergence is None and report.diagnoses == []
    assert deberta_verify.assert_verified(NLI / "model.safetensors", NLI).passed
    assert deberta_verify.verify(NLI, by_itself=True).passed
    with pytest.raises(TypeError, match="passed"):
        bool(report)


def test_a_wrong_one_is_explained(wrong, tmp_path):
    with pytest.raises(VerificationError) as raised:
        deberta_verify.assert_verified(wrong, [NLI])
    report = raised.value.report
    assert isinstance(raised.value, AssertionError) and str(report) in str(raised.value)
    assert report.outcome == "divergence" and not report.passed
    assert report.first_divergence.file == "model.safetensors"
    assert report.first_divergence.point.startswith("outputs.hidden_states.1")
    error, first = raised.value, report.first_divergence
    assert (error.file, error.tensor, error.want, error.got) == (first.file, first.point, first.want, first.got)
    assert isinstance(error.want, float) and error.want != error.got
    assert report.diagnoses[0]["kind"] == "hidden-act"
    assert "FIRST DIVERGENCE" in str(report) and report.to_html().startswith("<!")
    assert "<testsuite" in report.to_junit() and "## ❌" in report.to_markdown()
    assert json.loads(report.to_json()) == report.to_dict() and "<iframe" in report._repr_html_()
    assert deberta_verify.verify(wrong, NLI, diagnose=False, threads=1).diagnoses == []
    for name in ("report.html", "report.xml", "report.md", "report.json", "report.txt", "card.md"):
        report.save(tmp_path / name)
    assert (tmp_path / "report.html").read_text() == report.to_html()
    assert (tmp_path / "card.md").read_text() == report.to_model_card() != report.to_markdown()
    with pytest.raises(ValueError, match="which format"):
        report.save(tmp_path / "report")


def test_a_policy_is_verified(tmp_path):
    shutil.copytree(NLI, tmp_path / "release")
    (tmp_path / "verify.yaml").write_text("models:\n  - model: ./release\n")
    report = deberta_verify.verify_policy(tmp_path / "verify.yaml")
    assert report.passed and len(report.models) == 1


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "onnx", "safetensors"])
def test_a_model_is_converted(to, tmp_path):
    steps = []
    ledger = deberta_verify.convert(NLI, to, tmp_path, progress=lambda *told: steps.append(told))
    assert ledger.digest == ledger["input"]["digest"] == DIGEST
    assert ledger.path.parent == tmp_path and ledger.path.exists() and (tmp_path / "config.json").exists()
    assert deberta_verify.digest(tmp_path) == DIGEST
    assert {"writing", "verifying"} <= {step for step, *_ in steps}
    assert all(done <= total for _, done, total in steps if total)
    assert deberta_verify.diff(NLI / "tf_model.h5", ledger.path).same
    with pytest.raises(ValueError, match="exists") as raised:
        deberta_verify.convert(NLI, to, tmp_path)
    assert raised.value.file == str(ledger.path)
    deberta_verify.convert(NLI, to, tmp_path, force=True)


def test_a_callback_ends_the_work(tmp_path):
    def stop(*told):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        deberta_verify.convert(NLI, "safetensors", tmp_path / "out/", progress=stop)


def test_bars_are_shown(capsys):
    deberta_verify.digest(NLI, progress=True)
    assert capsys.readouterr().out == ""


def test_checkpoints_are_looked_at(wrong):
    inspection = deberta_verify.inspect(NLI)
    assert inspection.complete and inspection.digest == DIGEST and inspection.problems == []
    assert inspection["class"] == "DebertaForSequenceClassification" and inspection.tensors
    difference = deberta_verify.diff(NLI / "model.safetensors", wrong)
    assert not difference.same and difference["configuration"][0]["key"] == "hidden_act"
    assert deberta_verify.audit(NLI / "pytorch_model.bin").clean
    assert json.loads(inspection.to_json()) == inspection.to_dict()


def test_errors_have_their_places(tmp_path):
    for absent in (tmp_path / "absent.bin", "./nowhere/model.h5"):
        with pytest.raises(FileNotFoundError) as missing:
            deberta_verify.digest(absent)
        assert missing.value.file == str(absent) and missing.value.kind == "io"
    weights = (NLI / "model.safetensors").read_bytes()
    shutil.copy(NLI / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(FormatError) as cut:
        deberta_verify.convert(tmp_path, "pytorch")
    error = cut.value
    assert (error.kind, error.file) == ("malformed", str(tmp_path / "model.safetensors"))
    assert isinstance(error.want, int) and error.want - error.got == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_shapes_that_do_not_fit_are_told(tmp_path):
    config = json.loads((NLI / "config.json").read_text())
    config["intermediate_size"] += 8
    shutil.copy(NLI / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as raised:
        deberta_verify.digest(tmp_path)
    error = raised.value
    assert error.tensor.endswith(("weight", "bias")) and error.kind == "model"
    assert error.want[0] - error.got[0] == 8 or error.want[-1] - error.got[-1] == 8


def test_dtypes_and_checksums_that_differ_are_told(tmp_path):
    shutil.copy(NLI / "config.json", tmp_path)
    weights = (NLI / "model.safetensors").read_bytes()
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length])
    name = next(name for name in header if name.endswith("layer.0.output.dense.bias"))
    header[name]["dtype"] = "I32"
    written = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(written).to_bytes(8, "little") + written + weights[8 + length :])
    with pytest.raises(ModelError) as raised:
        deberta_verify.convert(tmp_path, "pytorch", tmp_path / "out/")
    error = raised.value
    assert (error.tensor, error.want, error.got) == (name, "floating point", "i32")

    pickled = bytearray((NLI / "pytorch_model.bin").read_bytes())
    pickled[len(pickled) // 2] ^= 1
    (tmp_path / "pytorch_model.bin").write_bytes(pickled)
    with pytest.raises(FormatError, match="is damaged: its checksum is") as damaged:
        deberta_verify.digest(tmp_path / "pytorch_model.bin")
    assert damaged.value.want != damaged.value.got and damaged.value.got.startswith("0x")
    assert damaged.value.file == str(tmp_path / "pytorch_model.bin")


def test_arguments_are_checked(tmp_path):
    with pytest.raises(RequestError, match="invalid value 'marble'"):
        deberta_verify.convert(NLI, "marble", tmp_path)
    with pytest.raises(ValueError, match="no golden"):
        deberta_verify.verify(NLI, tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        deberta_verify.verify(NLI, threads=0)
    with pytest.raises(TypeError):
        deberta_verify.digest(3)
    with pytest.raises(AttributeError, match="nonsense"):
        deberta_verify.nonsense  # noqa: B018
