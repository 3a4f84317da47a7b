"""Compares the tokenizers of this project with transformers' slow and fast classes. Started by run.sh."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import transformers
from transformers import DebertaTokenizer, DebertaTokenizerFast, DebertaV2Tokenizer, DebertaV2TokenizerFast

import folders
import sentence_piece
import texts

CLASSES = {1: {"slow": DebertaTokenizer, "fast": DebertaTokenizerFast}, 2: {"slow": DebertaV2Tokenizer, "fast": DebertaV2TokenizerFast}}
# Their spm.model has options or unused pieces that transformers' converter leaves out.
UNCONVERTED = {"v2-bare", "v2-no-prefix", "v2-spaces", "v2-suffix", "v2-unused", "v2-unescaped"}
LISTS = ["input_ids", "token_type_ids", "attention_mask", "special_tokens_mask"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenize", required=True, type=Path, help="the example program `tokenize`")
    parser.add_argument("--verify", required=True, type=Path, help="deberta-verify, whose tokenize is checked, too")
    parser.add_argument("--vocabulary", required=True, type=Path, help="folder with vocab.json and merges.txt of DeBERTa")
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--version", type=int, choices=(1, 2), help="the classes to check; both if absent")
    parser.add_argument("--only", help="check the folders alone whose name contains this")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity(50)

    failed = 0
    with tempfile.TemporaryDirectory(prefix="deberta-tokenizer-") as temporary:
        root = Path(temporary)
        versions = {1: lambda: folders.folders(arguments.vocabulary, root), 2: lambda: sentence_piece.folders(root)}
        for version, classes in CLASSES.items():
            if arguments.version in (None, version):
                for folder, share in versions[version]():
                    if (arguments.only or "") in folder.name:
                        failed += check(arguments, classes, folder, share)
    print("no differences" if failed == 0 else f"{failed} differences")
    sys.exit(failed > 0)


def check(arguments, classes, folder, share):
    """Asks for one folder; gives the number of answers that differ."""
    everything = folder.name in ("plain", "v2-v2", "v2-v3", "v2-v3-both")
    requests = list(questions(folder.name, int(arguments.texts * share), arguments.seed, everything))
    failed, answers = 0, {}
    for name, tokenizer in classes.items():
        asked = [dict(request) for request in requests]
        answers[name] = expected(tokenizer, folder, asked)
        failed += compare(arguments.tokenize, folder, name, asked, answers[name])
        failed += check_command(arguments, tokenizer, folder, name, share)
    failed += check_digest(arguments, classes["fast"], folder)
    slow, fast = ([answer.get("input_ids") for answer in answers[name]] for name in classes)
    apart = sum(a != b for a, b in zip(slow, fast))
    print(f"{folder.name}: {apart} of {len(requests)} answers differ between transformers' two classes", flush=True)
    return failed


def check_digest(arguments, fast, folder):
    """The tokenizer.json that transformers writes must have the digest of the slow files, unless spm.model asks for what no conversion keeps."""
    with tempfile.TemporaryDirectory(prefix="deberta-tokenizer-") as saved:
        try:
            fast.from_pretrained(folder).save_pretrained(saved)
        except BaseException as error:  # The Rust parts of tokenizers panic with an exception that is no Exception.
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"no digest {folder.name}: {str(error)[:200]}")
            return 0
        for name in ("vocab.json", "merges.txt", "spm.model"):
            if (folder / name).exists():
                shutil.copyfile(folder / name, Path(saved) / name)
        digests = [
            subprocess.run([arguments.verify, "tokenize", "--model", saved, "--digest", *more], stdout=subprocess.PIPE, check=False).stdout
            for more in ([], ["--slow"])
        ]
    same, expected = digests[0] == digests[1] != b"", folder.name not in UNCONVERTED
    print(f"{'passed' if same == expected else 'FAILED'} {folder.name}: digests of slow and fast files are {'equal' if same else 'different'}", flush=True)
    return int(same != expected)


def check_command(arguments, tokenizer_class, folder, name, share):
    """Asks `deberta-verify tokenize`, as objects and as lines; gives the number of answers that differ."""
    rng = random.Random(f"{folder.name} {arguments.seed} tokenize")
    singles = texts.texts(f"{folder.name} tokenize {arguments.seed}", max(50, int(arguments.texts * share / 5)))
    requests = []
    for text in singles:
        request = {"text": text}
        if rng.random() < 0.4:
            request["text_pair"] = rng.choice(singles)
        if rng.random() < 0.4:
            request["max_length"] = rng.choice((0, 1, 2, 3, 4, 5, 8, 16, 32))
        requests.append(request)
    tokenizer = tokenizer_class.from_pretrained(folder)
    wanted = [command_answer(tokenizer, request) for request in requests]
    kept = [(request, want) for request, want in zip(requests, wanted) if want is not None]
    slow = ["--slow"] if name == "slow" else []
    lines = "".join(json.dumps(request, ensure_ascii=rng.random() < 0.5) + "\n" for request, _ in kept)
    failed = command(arguments, folder, [*slow, "--jsonl"], lines, kept)
    plain = [({"text": text}, command_answer(tokenizer, {"text": text})) for text in singles if not set("\r\n") & set(text)]
    lines = "".join(request["text"] + rng.choice(("\n", "\r\n")) for request, _ in plain)
    return failed + command(arguments, folder, slow, lines, plain)


def command_answer(tokenizer, request):
    """What transformers makes of a request; nothing where it raises an exception, which ends the program."""
    options = {"truncation": True, "max_length": request["max_length"]} if "max_length" in request else {}
    try:
        made = tokenizer(request["text"], request.get("text_pair"), return_offsets_mapping=tokenizer.is_fast, **options)
    except Exception:
        return None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None
    offsets = [list(pair) for pair in made["offset_mapping"]] if tokenizer.is_fast else None
    ids = made["input_ids"]
    return {"ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids), "type_ids": made["token_type_ids"], "offsets": offsets}


def command(arguments, folder, options, lines, kept):
    run = subprocess.run([arguments.verify, "tokenize", "--model", folder, *options], input=lines.encode(), capture_output=True, check=False)
    found = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    shown = " ".join(["tokenize", *options])
    if run.returncode != 0 or len(found) != len(kept):
        print(f"FAILED {folder.name} {shown}: exit {run.returncode}, {len(found)} answers to {len(kept)} texts: {run.stderr.decode()[:300]}")
        return 1
    differences = 0
    for (request, want), got in zip(kept, found):
        if want != got:
            differences += 1
            if differences <= 5:
                keys = [key for key in want if want[key] != got.get(key)]
                print(f"DIFFERENT {folder.name} {shown}: {json.dumps(request)[:400]}")
                for key in keys:
                    print(f"  {key}: transformers {str(want[key])[:300]}\n  {key}: ours         {str(got.get(key))[:300]}")
    print(f"{'FAILED' if differences else 'passed'} {folder.name} {shown}: {len(kept)} texts; {differences} differences", flush=True)
    return differences


def questions(name, count, seed, everything):
    """The requests for one folder: every text alone; three in ten again as a pair or truncated; one in five decoded."""
    rng = random.Random(f"{name} {seed}")
    singles = texts.texts(f"{name} texts {seed}", count)
    for text in singles:
        yield {"text": text}
        if rng.random() < 0.3:
            yield option_request(rng, text, rng.choice(singles))
        if rng.random() < 0.2:
            ids = [rng.choice((rng.randrange(300), rng.randrange(50265), rng.randrange(1000, 2000), 50264, 50270)) for _ in range(rng.randint(0, 12))]
            clean = rng.choice((None, None, True, False))
            yield {"ids": ids, "skip_special_tokens": rng.random() < 0.5, "clean_up_tokenization_spaces": clean}
            yield {"decode": text, "skip_special_tokens": rng.random() < 0.5, "clean_up_tokenization_spaces": clean}
    if everything:
        yield from ({"text": text, "brief": True} for text in texts.long_texts(seed))
        yield from ({"text": text, "brief": True} for text in texts.code_point_texts())


def option_request(rng, text, other):
    request = {"text": text, "add_special_tokens": rng.random() < 0.9, "brief": rng.random() < 0.3}
    if rng.random() < 0.7:
        request["pair"] = other
    if rng.random() < 0.6:
        request["truncation"] = rng.choice(("longest_first", "only_first", "only_second"))
    if rng.random() < 0.8:
        request["max_length"] = rng.choice((0, 1, 2, 3, 4, 5, 8, 8, 16, 16, 32))
        request["padding"] = rng.choice((None, "max_length", "longest"))
    request["padding_side"] = rng.choice((None, "left", "right"))
    request["truncation_side"] = rng.choice(("left", "right", "right"))
    if rng.random() < 0.2:
        request["pad_to_multiple_of"] = 8
    return request


def expected(tokenizer_class, folder, requests):
    """What transformers answers."""
    tokenizer = tokenizer_class.from_pretrained(folder)
    return [attempt(tokenizer, request) for request in requests]


def attempt(tokenizer, request):
    tokenizer.truncation_side = request.get("truncation_side", tokenizer.truncation_side)
    try:
        if "decode" in request:
            request["ids"] = tokenizer(request["decode"])["input_ids"]
        if "ids" in request:
            keys = "skip_special_tokens", "clean_up_tokenization_spaces"
            return {"text": tokenizer.decode(request["ids"], **{key: request[key] for key in keys})}
        return encode(tokenizer, request)
    except Exception as error:  # Whatever it is: the answer must be an error.
        return {"error": str(error)}
    # The Rust parts of tokenizers panic with an exception that is no Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": str(error)}


def encode(tokenizer, request):
    options = {key: request[key] for key in ("truncation", "max_length", "padding_side", "pad_to_multiple_of") if request.get(key) is not None}
    options["padding"] = request.get("padding") or False
    special = request.get("add_special_tokens", True)
    # The slow class refuses token types without special tokens.
    result = tokenizer(
        request["text"], request.get("pair"), add_special_tokens=special, return_special_tokens_mask=True,
        return_token_type_ids=special or tokenizer.is_fast, return_offsets_mapping=tokenizer.is_fast, **options,
    )
    if request.get("brief"):
        return {"input_ids": result["input_ids"]}
    answer = {key: result[key] for key in LISTS if key in result}
    answer["tokens"] = tokenizer.tokenize(request["text"])
    if tokenizer.is_fast:
        answer["offset_mapping"] = [list(pair) for pair in result["offset_mapping"]]
        answer["word_ids"] = result.word_ids()
        answer["sequence_ids"] = result.sequence_ids()
    return answer


def compare(program, folder, name, requests, answers):
    """Runs the program on the requests; gives the number of answers that differ."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run([program, folder, name], input=lines.encode(), stdout=subprocess.PIPE, check=False)
    found = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    if run.returncode != 0 or len(found) != len(requests):
        print(f"FAILED {folder.name} {name}: exit {run.returncode}, {len(found)} answers to {len(requests)} requests")
        return 1
    kinds = dict.fromkeys(("texts", "pairs", "truncated or padded", "decoded", "errors"), 0)
    differences = 0
    for request, answer, ours in zip(requests, answers, found):
        if "error" in answer:
            kinds["errors"] += 1
            same = "error" in ours
        else:
            same = all(ours.get(key) == value for key, value in answer.items())
        kinds["decoded" if "ids" in request else "texts"] += 1
        kinds["pairs"] += "pair" in request
        kinds["truncated or padded"] += "max_length" in request or "truncation" in request
        if not same:
            differences += 1
            if differences <= 5:
                keys = [key for key in answer if ours.get(key) != answer[key]]
                print(f"DIFFERENT {folder.name} {name}: {json.dumps(request)[:400]}")
                for key in keys:
                    print(f"  {key}: transformers {str(answer[key])[:300]}\n  {key}: ours         {str(ours.get(key, ours))[:300]}")
    # Pairs, truncated and padded texts are texts, too.
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    print(f"{'FAILED' if differences else 'passed'} {folder.name} {name}: {counts}; {differences} differences", flush=True)
    return differences


if __name__ == "__main__":
    main()
