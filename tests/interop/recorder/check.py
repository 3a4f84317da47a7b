"""Records goldens of the models that are committed, and lets deberta-verify and deberta-convert judge them.

python check.py FRAMEWORK FOLDER [NAME …]

FRAMEWORK is pytorch or tensorflow; goldens are written to FOLDER. DEBERTA_VERIFY and DEBERTA_CONVERT name the programs.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "golden" / "python" / "python"))

from deberta_verify.recorder import RecordError, record  # noqa: E402

# What TensorFlow's classes do not have, by a part of the error.
NO_TENSORFLOW = (
    "lm_predictions",
    "no place for it",
    "cannot be loaded",
    "is not in the file",
    "has shape",
    "no known activation",
)


def main():
    framework, scratch, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if framework == "pytorch":
        import torch

        torch.set_num_threads(1)
    failed = recorded = skipped = 0
    for folder in sorted([*(ROOT / "golden/data").iterdir(), *(ROOT / "golden/trained").iterdir()]):
        if not (folder / "model.safetensors").is_file() or (names and folder.name not in names):
            continue
        start = time.monotonic()
        try:
            golden = record(folder, out=scratch / f"{folder.name}-{framework}", framework=framework, overwrite=True)
        except RecordError as error:
            print(f"refused  {folder.name}: {error}")
            skipped += 1
            continue
        except Exception as error:
            if framework != "tensorflow":
                raise
            print(f"refused  {folder.name}: {type(error).__name__}: {str(error)[:150]}")
            skipped += 1
            continue
        seconds = time.monotonic() - start
        verify = [os.environ["DEBERTA_VERIFY"], "--model", folder / "model.safetensors", "--golden", golden.folder]
        verify += ["--format", "json", "--backend", "reference"]
        run = subprocess.run(verify, capture_output=True, text=True)
        digest = subprocess.run(
            [os.environ["DEBERTA_CONVERT"], "digest", folder / "model.safetensors"], capture_output=True, text=True
        )
        problems = []
        if run.returncode != 0:
            problems.append(f"exit {run.returncode}: {run.stderr.strip()[:300] or findings(run.stdout)}")
        if digest.stdout.split()[:1] != [golden.digest]:
            problems.append(f"digest {golden.digest}, deberta-convert prints {digest.stdout.strip()[:64]}{digest.stderr[:200]}")
        if golden.size > 1_000_000:
            problems.append(f"{golden.size} bytes")
        recorded += 1
        failed += bool(problems)
        print(
            f"{'FAILED' if problems else 'ok':8} {folder.name}: {golden.size:,} bytes, {seconds:.1f} s {'; '.join(problems)}",
            flush=True,
        )
    print(f"{framework}: {recorded} recorded and judged, {failed} failed, {skipped} refused")
    sys.exit(failed > 0 or recorded == 0)


def findings(report):
    try:
        files = json.loads(report)["files"]
    except (ValueError, KeyError):
        return report[:300]
    return "; ".join(
        finding["message"][:200] for file in files for run in [file, *file.get("runs", [])] for finding in run["findings"]
    )


if __name__ == "__main__":
    main()
