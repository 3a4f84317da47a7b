"""Digests, samples, inputs, the command: what needs no framework."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, V1, V2
from deberta_verify import RecordError
from deberta_verify.recorder import blake3, inputs, safetensors_file, samples, sizes, tensorflow, texts, weights
from deberta_verify.recorder.classes import ModelClass
from deberta_verify.recorder.digest import digest_line, digest_of
from deberta_verify.recorder.padding import Tokens
from deberta_verify.recorder.settings import Settings

# The test vectors of BLAKE3: bytes that count to 250, by their number.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


@pytest.mark.parametrize("length", VECTORS)
@pytest.mark.parametrize("prefix", [0, 1, 24])
def test_blake3(length, prefix):
    data = (np.arange(length) % 251).astype(np.uint8)
    prefix = min(prefix, length)
    assert blake3.of_array(data[prefix:], data[:prefix].tobytes()).tobytes().hex() == VECTORS[length]


@pytest.mark.parametrize("name", ["masked-lm", "model-f16", "model-bf16", "v2-replaced-tokens", "mask-decoder"])
def test_digests_are_those_of_the_committed_goldens(name):
    folder = ROOT / "golden/data" / name
    tensors = weights.of_safetensors(folder / "model.safetensors")
    digest = digest_of(digest_line(name, read()) for name, read in tensors.items())
    assert f'digest: "{digest}"' in (folder / "case.yaml").read_text()


def test_samples_are_those_of_a_committed_golden():
    whole, metadata = safetensors_file.read(ROOT / "golden/data/masked-lm/padded.safetensors")
    given = {name.removeprefix("inputs."): array for name, array in whole.items() if name.startswith("inputs.")}
    tokens = Tokens(given, metadata["class"])
    logits = whole["outputs.logits"]
    found, statistics = samples.sampled("outputs.logits", logits, tokens.flags("outputs.logits", logits.shape))
    assert set(found) <= set(logits.reshape(-1))
    real = logits[given["attention_mask"] != 0]
    assert statistics[:3] == pytest.approx([real.mean(), (real**2).mean() ** 0.5, abs(real).max()], rel=1e-5)


@pytest.mark.parametrize("config", [V1, V2, V1 | {"max_position_embeddings": 512}, V1 | {"max_relative_positions": 5}])
@pytest.mark.parametrize("more", [{}, {"position_biased_input": True}, {"type_vocab_size": 9}, {"vocab_size": 3}])
def test_inputs_cover_the_model(config, more):
    model_type = "deberta-v2" if "position_buckets" in config else "deberta"
    settings = Settings.of(config | more | {"model_type": model_type})
    cls = ModelClass(settings.version_2, "Model")
    made = inputs.covering(settings, cls)
    for name, arguments in made.items():
        inputs.check(name, arguments, settings)
    longest = max(arguments["input_ids"].shape[1] for arguments in made.values())
    assert longest >= settings.positions
    assert settings.position_biased or longest > settings.span
    assert {1, 3} <= {arguments["input_ids"].shape[0] for arguments in made.values()}
    mask = made["padded"]["attention_mask"]
    assert mask[0, 0] and not mask[0, -1] and not mask[1, 0] and mask[1, -1]
    if settings.token_types:
        assert set(made["types"]["token_type_ids"].reshape(-1)) == set(range(settings.token_types))
    again = inputs.covering(settings, cls)
    assert all((made[name]["input_ids"] == again[name]["input_ids"]).all() for name in made)


def test_classes_have_names():
    for name in ("DebertaModel", "DebertaV2ForMultipleChoice", "TFDebertaV2ForQuestionAnswering", "TFDebertaForMaskedLM"):
        assert str(ModelClass.of(name)) == name
    for name in ("DebertaForMultipleChoice", "BertModel", "DebertaV3Model", ""):
        with pytest.raises(RecordError, match="none of the classes"):
            ModelClass.of(name)
    with pytest.raises(RecordError, match="Microsoft's"):
        ModelClass.of("ReplacedTokenDetectionModel")


def test_layers_without_variables_are_never_missing():
    layers = [SimpleNamespace(name="classifier", weights=[0]), SimpleNamespace(name="dropout", weights=[])]
    model = SimpleNamespace(layers=layers)
    assert tensorflow.without_numbers(model, {"dropout"}) == []
    assert tensorflow.without_numbers(model, ["classifier", "dropout", "classifier/kernel:0"]) == [
        "classifier",
        "classifier/kernel:0",
    ]


def test_sizes_are_read():
    read = [sizes.parse(text) for text in ("1MB", "500 kB", "1.5MiB", "7", "none", None)]
    assert read == [1_000_000, 500_000, 1_572_864, 7, None, None]
    with pytest.raises(RecordError, match="expected a size"):
        sizes.parse("big")


def test_texts_are_read(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\n\ntwo\tparts\r\n")
    assert texts.read(file) == [("one",), ("two", "parts")]
    file.write_text("a\tb\tc\n")
    with pytest.raises(RecordError, match="line 1: expected one text"):
        texts.read(file)
    lines = tmp_path / "texts.jsonl"
    lines.write_text('{"text": "a\\tb", "pair": "c"}\n{"text": "d"}\n')
    assert texts.read(lines) == [("a\tb", "c"), ("d",)]
    lines.write_text("[1]\n")
    with pytest.raises(RecordError, match="line 1"):
        texts.read(lines)


def test_files_that_are_cut_are_refused(tmp_path):
    whole = (ROOT / "golden/data/model/plain.safetensors").read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(RecordError, match="--inputs"):
            inputs.of_trace(tmp_path / "cut.safetensors")


def test_nothing_is_imported_before_it_is_needed():
    program = (
        "import sys, deberta_verify; from deberta_verify.recorder import command; command.parser(); "
        "print([name for name in ('torch', 'tensorflow', 'transformers', 'safetensors') if name in sys.modules])"
    )
    path = str(ROOT / "golden/python/python")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert run.stdout == "[]\n", run.stderr


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    from deberta_verify.recorder.command import main

    assert main(["--model", str(tmp_path), "-o", str(tmp_path / "golden")]) == 1
    assert "no config.json there" in capsys.readouterr().err
    assert main(["--model", str(tmp_path), "--inputs", "x", "--text", "a", "-o", str(tmp_path / "golden")]) == 1
    with pytest.raises(SystemExit) as ended:
        main(["--model", str(tmp_path), "--text-pair", "x", "-o", "golden"])
    assert ended.value.code == 2
    assert not (tmp_path / "golden").exists()
