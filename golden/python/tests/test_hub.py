"""Tokenizers and models of a hub, which is here a server on this machine."""

import http.server
import json
import threading

import pytest
from conftest import ROOT

pytest.importorskip("deberta_verify._native")
from deberta_verify import HubError, Model, Tokenizer

NLI = ROOT / "golden/trained/nli"
COMMIT = "0d1b43ccf21b5acd9f4e5f7b077fa698f05cf195"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Serves a model as example/nli, and without its tokenizer as example/bare; gives the names that were asked for."""
    names = ["config.json", "vocab.json", "merges.txt", "dict.txt", "model.safetensors"]
    bare = ["config.json", "model.safetensors"]
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.split("?")[0]
            headers = {"X-Repo-Commit": COMMIT}
            if path.startswith("/api/"):
                files = bare if "bare" in path else names
                body = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}).encode()
            else:
                name = path.rsplit("/", 1)[1]
                asked.append(name)
                body = (NLI / name).read_bytes() if (NLI / name).exists() else b"words"
                headers["ETag"] = f'"{name.encode().hex()[:40]:0<40}"'
            self.send_response(200)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    yield asked
    server.shutdown()


def test_a_tokenizer_comes_without_weights(asked, monkeypatch):
    ids = Tokenizer.load("example/nli")("The kite is red.")["input_ids"]
    assert (ids == Tokenizer.load(NLI)("The kite is red.")["input_ids"]).all()
    assert set(asked) == {"config.json", "vocab.json", "merges.txt", "dict.txt"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Tokenizer.load("example/nli")
    with pytest.raises(HubError, match="no weights"):
        Model.load("example/nli")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert Model.load("example/nli").class_name == "DebertaForSequenceClassification"
    assert asked[-1] == "model.safetensors"


def test_a_model_without_a_tokenizer_has_none(asked):
    with pytest.raises(HubError, match=r"no tokenizer: looked for tokenizer\.json"):
        Tokenizer.load("example/bare")
    assert asked == []
