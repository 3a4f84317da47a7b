"""The program deberta-record."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import texts
from .error import RecordError
from .loading import PYTORCH, TENSORFLOW

DESCRIPTION = """Records what a DeBERTa model computes in PyTorch or TensorFlow, as a golden: a folder that
`deberta-verify --model FOLDER --golden golden/` judges any conversion of the model by."""
EPILOG = """examples:
  deberta-record --model ./my-model -o golden/
  deberta-record --model microsoft/deberta-v3-base --class DebertaV2Model -o golden/
  deberta-record --model ./my-model --text "I love you." --text-pair "I like you." -o golden/

exit status: 0 a golden was written; 1 it could not be, and the message says why; 2 wrong arguments"""


# How TensorFlow's classes are built, and what says nothing about the golden.
ENVIRONMENT = {
    "TF_USE_LEGACY_KERAS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


class AppendText(argparse.Action):
    """A text, or the second one of the last pair."""

    def __call__(self, parser, namespace, value, option_string=None):
        found = list(namespace.text or [])
        if option_string == "--text":
            found.append((value,))
        elif found and len(found[-1]) == 1:
            found[-1] = (*found[-1], value)
        else:
            parser.error("--text-pair: there is no --text before it")
        namespace.text = found


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        "deberta-record", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--model", required=True, metavar="FOLDER|ID", help="a folder of transformers, or an id of the hub")
    made.add_argument(
        "--texts", type=Path, metavar="FILE", help="texts, a line each, a tab between those of a pair; .jsonl; a pipe will do"
    )
    made.add_argument("--text", action=AppendText, metavar="T", help="a text; may be given several times")
    made.add_argument("--text-pair", action=AppendText, dest="text", metavar="T", help="the second text of the last --text")
    made.add_argument("--inputs", type=Path, action="append", metavar="TRACE", help="record the inputs of a trace instead")
    made.add_argument("--framework", choices=[PYTORCH, TENSORFLOW], help="what computes; if absent, what the files are for")
    made.add_argument("--class", dest="class_name", metavar="NAME", help="the class, if config.json does not name it")
    made.add_argument("--tokenizer", metavar="FOLDER|ID", help="where the tokenizer is, if not with the model")
    made.add_argument(
        "--points", action="append", metavar="PATTERN", help="activations to record, * for any text; all if absent"
    )
    made.add_argument("--max-size", default="1MB", metavar="SIZE", help="how large the folder may be, none for no limit [1MB]")
    made.add_argument("--no-cover", action="store_true", help="record the texts alone, and no generated inputs")
    made.add_argument("--description", metavar="TEXT", help="a line about the model")
    made.add_argument("--force", action="store_true", help="replace a golden that is there")
    made.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    made.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the folder to write")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Records a golden as the arguments say, and gives the exit status."""
    options = parser().parse_args(arguments)
    # What is half done is removed when the program is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if options.quiet:
        os.environ.setdefault("TQDM_DISABLE", "1")
    if options.framework is not None:
        os.environ.setdefault("USE_TORCH" if options.framework == TENSORFLOW else "USE_TF", "0")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("deberta_verify").setLevel(logging.WARNING if options.quiet else logging.INFO)
    try:
        golden = run(options)
    except RecordError as error:
        print(f"deberta-record: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"deberta-record: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not options.quiet:
        print(f"{golden.folder}: {golden.cls}, {len(golden.traces)} traces, {golden.size:,} bytes, digest {golden.digest}")
        for note in golden.notes:
            print(f"note: {note}")
        print(f"judge by it: deberta-verify --model {options.model} --golden {golden.folder}")
    return 0


def run(options: argparse.Namespace):
    """Records as the options say."""
    from .golden import record

    if options.inputs and (options.text or options.texts):
        raise RecordError("--inputs: a trace has its own inputs, --text and --texts do not go with it")
    given = [*(texts.read(options.texts) if options.texts else []), *(options.text or [])] or None
    return record(
        options.model,
        given,
        out=options.output,
        inputs=options.inputs,
        tokenizer=options.tokenizer,
        framework=options.framework,
        class_name=options.class_name,
        points=options.points,
        max_size=options.max_size,
        cover=not options.no_cover,
        description=options.description,
        overwrite=options.force,
    )
