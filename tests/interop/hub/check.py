"""Checks that deberta-convert and huggingface_hub share one cache. Started by run.sh."""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from report import Report  # noqa: E402
from server import COMMIT, Hub, certificates  # noqa: E402

MODEL = "owner/tiny-deberta"
FIXTURE = HERE.parents[1] / "fixtures/transformers/mlm"
FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--convert", required=True, type=Path, help="the deberta-convert program")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deberta-interop-hub-") as folder:
        return check_all(arguments.convert.resolve(), Path(folder))


def check_all(convert, folder):
    authority, certificate = certificates(folder)
    files = {name: (FIXTURE / name).read_bytes() for name in FILES} | {"vocab.json": b"{}"}
    hub = Hub(MODEL, files, certificate)
    # huggingface_hub reads its environment when it is imported.
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    os.environ.update(HF_ENDPOINT=hub.endpoint, REQUESTS_CA_BUNDLE=str(authority), HF_HUB_DISABLE_XET="1")
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", USE_TF="0")

    def digest(home, **variables):
        environment = os.environ | {"HF_HOME": str(folder / home)} | variables
        command = [convert, "digest", MODEL]
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60)

    report = Report()
    expected = subprocess.run([convert, "digest", FIXTURE], capture_output=True, text=True, check=True).stdout

    def judge(label, process):
        good = (process.returncode, process.stdout) == (0, expected)
        report.check(label, None if good else f"exit {process.returncode}: {process.stderr}{process.stdout}")

    untrusted = digest("untrusted", REQUESTS_CA_BUNDLE="")
    refused = untrusted.returncode == 1 and "certificate" in untrusted.stderr
    report.check("a certificate of an unknown authority is refused", None if refused else untrusted.stderr or "accepted")
    judge("downloaded by TLS 1.3", digest("ours"))
    old = Hub(MODEL, files, certificate, newest_tls=False)
    judge("downloaded by TLS 1.2", digest("old", HF_ENDPOINT=old.endpoint))
    hub.contents_sent()

    ours_is_theirs(folder / "ours/hub", files, hub, report)
    theirs_is_ours(folder, files, hub, report, digest, judge)
    locks_are_shared(folder, files, hub, report, convert, judge)
    return report.verdict()


def ours_is_theirs(cache, files, hub, report):
    from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
    from transformers import DebertaForMaskedLM

    found = Path(snapshot_download(MODEL, cache_dir=cache, local_files_only=True))
    wanted = {name: files[name] for name in ("config.json", "model.safetensors", "vocab.json")}
    same = {path.name: path.read_bytes() for path in found.iterdir()} == wanted
    report.check("huggingface_hub finds the snapshot offline", None if same and found.name == COMMIT else str(found))
    for name in wanted:
        hf_hub_download(MODEL, name, cache_dir=cache)
    sent = hub.contents_sent()
    report.check("huggingface_hub downloads nothing of it again", f"{sent} contents" if sent else None)
    scan = scan_cache_dir(cache)
    healthy = not scan.warnings and [(repo.repo_id, repo.nb_files) for repo in scan.repos] == [(MODEL, len(wanted))]
    report.check("huggingface_hub finds the cache in order", None if healthy else f"{scan}")
    _, info = DebertaForMaskedLM.from_pretrained(MODEL, cache_dir=cache, local_files_only=True, output_loading_info=True)
    report.check("transformers loads the model offline", str(info) if info["missing_keys"] else None)


def theirs_is_ours(folder, files, hub, report, digest, judge):
    from huggingface_hub import snapshot_download

    snapshot_download(MODEL, cache_dir=folder / "theirs/hub")
    hub.contents_sent()
    judge("deberta-convert finds what huggingface_hub downloaded, offline", digest("theirs", HF_HUB_OFFLINE="1"))
    report.check("offline it makes no request", f"{hub.requests}" if hub.requests else None)
    judge("deberta-convert finds what huggingface_hub downloaded, online", digest("theirs"))
    sent = hub.contents_sent()
    report.check("deberta-convert downloads nothing of it again", f"{sent} contents" if sent else None)


def locks_are_shared(folder, files, hub, report, convert, judge):
    from huggingface_hub.utils import WeakFileLock

    sha256 = hashlib.sha256(files["model.safetensors"]).hexdigest()
    lock = folder / f"locked/hub/.locks/models--owner--tiny-deberta/{sha256}.lock"
    lock.parent.mkdir(parents=True)
    environment = os.environ | {"HF_HOME": str(folder / "locked")}
    hub.requests.clear()
    with WeakFileLock(lock):
        process = subprocess.Popen([convert, "digest", MODEL], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not any(method == "HEAD" and path.endswith("model.safetensors") for method, path in hub.requests):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        time.sleep(1)
        early = any(path.startswith("/cdn/") for _, path in hub.requests)
        waits = process.poll() is None and not early
        report.check("deberta-convert waits for a lock of huggingface_hub", None if waits else "it did not wait")
    output, errors = process.communicate(timeout=60)
    finished = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    judge("and goes on when it is free", finished)


if __name__ == "__main__":
    sys.exit(main())
