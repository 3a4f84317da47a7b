"""The tokenizer digest (docs/formats/digest.md), by the package's library, or by the program where the package is only sources."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .weights import finder

# The files that a tokenizer is read from.
FILES = (
    "vocab.json",
    "merges.txt",
    "spm.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
PROGRAM = "deberta-verify"


def tokenizer_digest(tokenizer: Any, config: str) -> tuple[str | None, str | None]:
    """The digest of a tokenizer, a folder or an id of the hub or an object of transformers, or why there is none, in words.
    `config` is the text of the model's config.json, by which files that fit both versions are told apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if isinstance(tokenizer, (str, Path)):
                find = finder(str(tokenizer))
                for file in FILES:
                    if (path := find(file)) is not None:
                        shutil.copyfile(path, folder / file)
            else:
                tokenizer.save_pretrained(folder)
            (folder / "config.json").write_text(config, encoding="utf-8")
            digest = of_folder(folder)
        except Exception as error:  # transformers raises whatever its parts do; the program ends by what it says
            message = " ".join(str(error).split()).replace(f"{folder}/", "")
            return None, f"the tokenizer is judged by the texts alone, without its digest: {message}"
    why = "its slow files and tokenizer.json are not the same tokenizer"
    return digest, None if digest else f"the tokenizer is judged by the texts alone, without its digest: {why}"


def of_folder(folder: Path) -> str | None:
    """The digest of the files in a folder; None if the slow ones and tokenizer.json do not mean the same."""
    try:
        from .. import _native
    except ImportError:
        return by_program(folder)
    return _native.tokenizer_digest(folder)


def by_program(folder: Path) -> str | None:
    """The same by the program. Raises OSError if there is none, or it cannot read the files."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise OSError(f"neither the package's library nor the program {PROGRAM} is installed")
    kinds = {"": ("tokenizer.json",), "--slow": ("vocab.json", "spm.model")}
    digests = set()
    for option, files in kinds.items():
        if not any((folder / file).exists() for file in files):
            continue
        command = [program, "tokenize", "--digest", "--model", str(folder), *option.split()]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise OSError(run.stderr.strip() or f"{PROGRAM} tokenize ended with {run.returncode}")
        digests.add(run.stdout.strip())
    return digests.pop() if len(digests) == 1 else None
