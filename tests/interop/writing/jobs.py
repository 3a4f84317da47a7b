"""The outputs that are written, and how to tell whole ones from halves."""

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = REPOSITORY / "golden/trained/nli"

State = dict[str, str]


@dataclass(frozen=True)
class Job:
    """A command that writes into a folder."""

    name: str
    command: list[str]
    """With MODEL for the folder of the model and OUT for that of the output. Beside the model are MODEL-int8, the folder of its
    quantized graph, MODEL-run.safetensors, a trace, and MODEL-shard-1.json, MODEL-shard-2.json, reports of a policy's shards."""
    keys: frozenset[str]
    """The files without which a reader finds nothing."""
    old: list[str] | None = None
    """What writes the old output, if it is another command."""
    folder: str = "."
    """The folder of the output that the files are written into."""
    is_change: bool = False
    """Whether there must be an old output, which the command changes."""
    may_differ: bool = False
    """Whether the output is written of a model that fails, too."""
    alone: tuple[str, ...] = ()
    """Patterns of files that appear one after another, each whole: reports, manual pages."""

    def is_alone(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self.alone)

    def argv(self, model: Path, out: Path, old: bool = False) -> list[str]:
        command = self.old if old and self.old else self.command
        return [part.replace("MODEL", str(model)).replace("OUT", str(out)) for part in command]


def jobs(convert: str, verify: str) -> list[Job]:
    """Every kind of output."""
    to = [convert, "convert", "MODEL", "--force", "--to"]
    trace = str(MODEL / "texts.safetensors")
    index = "model.safetensors.index.json"
    golden = [verify, "record", "--model", "MODEL", "--text", "A text.", "--force", "-o", "OUT/golden"]
    # A golden of two traces and a case.yaml with the digest of the model, all of which bless writes anew.
    record = f"{verify} record --model MODEL --inputs {trace} --force -o OUT/golden/"
    entry = "framework: reference, class: DebertaForSequenceClassification, masked_rows: uniform"
    lines = [
        "model: .",
        "class: DebertaForSequenceClassification",
        "producer: itself",
        "digest: %s",
        "tolerances: {default: {atol: 1e-4}}",
        "traces:",
        *(f"- {{file: {name}.safetensors, {entry}}}" for name in "ab"),
    ]
    case = "".join(f"{line}\\n" for line in lines)
    recorded = [
        "sh",
        "-ec",
        f"mkdir -p OUT/golden; {record}a.safetensors; {record}b.safetensors; "
        f"printf '{case}' $({convert} digest MODEL) >OUT/golden/case.yaml",
    ]
    task = [verify, "task", "classify", "--model", "MODEL", "--limit", "8"]
    examples = str(REPOSITORY / "golden/trained/data/mnli/dev_matched.jsonl")
    small = ["--max-shard-size", "200KB", "-o", "OUT/"]
    sharded = [*to, "safetensors", *small]
    extensions = ("txt", "json", "xml", "md", "card.md", "html")
    reports = [part for extension in extensions for part in ("--report", f"OUT/report.{extension}")]
    every_report = frozenset(f"report.{extension}" for extension in extensions)
    bless = [verify, "bless", "--model", "MODEL", "--golden", "OUT/golden", "--write"]
    return [
        Job("file", [*to, "pytorch", "-o", "OUT/weights.bin"], frozenset({"weights.bin"})),
        Job("pytorch", [*to, "pytorch", "-o", "OUT/"], frozenset({"pytorch_model.bin"})),
        Job("tensorflow", [*to, "tensorflow", "-o", "OUT/"], frozenset({"tf_model.h5"})),
        Job("safetensors", [*to, "safetensors", "-o", "OUT/"], frozenset({"model.safetensors"})),
        Job("onnx", [*to, "onnx", "-o", "OUT/"], frozenset({"model.onnx"})),
        Job("quantized", [*to, "onnx", "--quantize", "int8", "-o", "OUT/"], frozenset({"model.onnx"})),
        Job("external", [*to, "onnx", "--external-data", "-o", "OUT/"], frozenset({"model.onnx"})),
        Job("shards", sharded, frozenset({index})),
        Job("pytorch shards", [*to, "pytorch", *small], frozenset({"pytorch_model.bin.index.json"})),
        Job(
            "shards over one file",
            sharded,
            frozenset({index, "model.safetensors"}),
            [*to, "safetensors", "-o", "OUT/"],
        ),
        Job(
            "several",
            [*to, "pytorch,tensorflow,safetensors", "-o", "OUT/"],
            frozenset({"pytorch_model.bin", "tf_model.h5", "model.safetensors"}),
        ),
        Job(
            "init",
            [convert, "init", "--config", "MODEL/config.json", "--seed", "7", "--force", "-o", "OUT/"],
            frozenset({"model.safetensors"}),
        ),
        Job(
            "trace",
            [verify, "record", "--model", "MODEL", "--inputs", trace, "--force", "-o", "OUT/run.safetensors"],
            frozenset({"run.safetensors"}),
        ),
        Job("golden", golden, frozenset({"golden/case.yaml"})),
        Job(
            "bless",
            bless,
            frozenset({"golden/case.yaml"}),
            recorded,
            folder="golden",
            is_change=True,
        ),
        Job(
            "bless with a report",
            [*bless, "--report", "OUT/golden/report.json"],
            frozenset({"golden/case.yaml"}),
            recorded,
            folder="golden",
            is_change=True,
            alone=("golden/report.*",),
        ),
        Job(
            "report",
            [verify, "--model", "MODEL", "--golden", str(MODEL), "--report", "OUT/report.json"],
            frozenset({"report.json"}),
            may_differ=True,
        ),
        Job(
            "reports",
            [verify, "--model", "MODEL", "--golden", str(MODEL), *reports],
            every_report,
            may_differ=True,
            alone=("report.*",),
        ),
        Job(
            "compared",
            [verify, "compare", str(MODEL / "texts.safetensors"), "MODEL-run.safetensors", *reports],
            every_report,
            may_differ=True,
            alone=("report.*",),
        ),
        Job(
            "merged",
            [verify, "merge", "MODEL-shard-1.json", "MODEL-shard-2.json", *reports],
            every_report,
            may_differ=True,
            alone=("report.*",),
        ),
        *(
            Job(f"man of {program}", [path, "man", "OUT"], frozenset({f"{program}.1"}), alone=("*.1",))
            for program, path in (("deberta-convert", convert), ("deberta-verify", verify))
        ),
        Job(
            "predictions",
            [*task, "--data", examples, "--predictions", "OUT/predictions.jsonl"],
            frozenset({"predictions.jsonl"}),
        ),
        Job(
            "nodes",
            [verify, "--model", "MODEL-int8", "--golden", str(MODEL), "--nodes-to-exclude", "OUT/nodes.txt"],
            frozenset({"nodes.txt"}),
            may_differ=True,
        ),
    ]


def models(convert: str, verify: str, folder: Path) -> list[Path]:
    """Two models of the same shapes: other weights, another configuration, another tokenizer."""
    made = []
    for seed in (1, 2):
        model = folder / f"model-{seed}"
        model.mkdir()
        config = json.loads((MODEL / "config.json").read_text())
        config["_seed"] = seed
        (model / "config.json").write_text(json.dumps(config, indent=2))
        command = [convert, "init", "--config", model / "config.json", "--seed", str(seed), "--force", "-o", f"{model}/"]
        subprocess.run([*command, "--head", "sequence-classification"], check=True, capture_output=True)
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(MODEL / name, model / name)
        (model / "special_tokens_map.json").write_text(json.dumps({"seed": seed}))
        quantized = [convert, "convert", model, "--to", "onnx", "--quantize", "int8", "-o", f"{model}-int8/"]
        subprocess.run(quantized, check=True, capture_output=True)
        trace = [verify, "record", "--model", model, "--inputs", MODEL / "texts.safetensors"]
        subprocess.run([*trace, "-o", f"{model}-run.safetensors"], check=True, capture_output=True)
        policy = folder / f"verify-{seed}.yaml"
        entry = f"{{model: ./{model.name}-int8, self: true}}"
        policy.write_text(f"models: [{{model: ./{model.name}, self: true}}, {entry}]\n")
        for shard in (1, 2):
            report = f"{model}-shard-{shard}.json"
            command = [verify, "--policy", policy, "--shard", f"{shard}/2", "--report", report]
            # Whatever the verdict is: a model alone in its folder has nothing to be compared with.
            subprocess.run(command, capture_output=True)
            assert Path(report).is_file(), command
        made.append(model)
    return made


def state(folder: Path) -> State:
    """Every file of a folder by its path, hidden ones too, with a hash of what is in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(untimed(path)).hexdigest() for path in files}


TIMES = {".json": rb'"seconds": [0-9.e+-]+', ".xml": rb' time="[0-9.]+"', ".html": rb" compared in [0-9.]+ s"}
"""What says in reports how long something took."""


def untimed(path: Path) -> bytes:
    """What is in a file, but for how long its making took, and for the order of the metadata of traces, which varies."""
    content = path.read_bytes()
    if path.suffix == ".safetensors" and len(content) > 8:
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        if "format" in header.get("__metadata__", {}) and header["__metadata__"]["format"] != "pt":
            return json.dumps(header, sort_keys=True).encode() + content[end:]
    return re.sub(TIMES[path.suffix], b"", content) if path.suffix in TIMES else content


def together(job: Job, files: State) -> State:
    """The files that appear together."""
    return {name: digest for name, digest in files.items() if not job.is_alone(name)}


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def hidden(folder: Path) -> list[str]:
    """Files and folders that no run should leave."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


def judge(job: Job, found: State, old: State, new: State) -> str | None:
    """What is wrong with what a killed run left; nothing if a reader finds the old output, or the new one, or none."""
    seen = {name: digest for name, digest in found.items() if not is_hidden(name)}
    for name in filter(job.is_alone, seen):
        if seen[name] not in (old.get(name), new.get(name)):
            return f"a half: {name}"
    seen, old, new = (together(job, files) for files in (seen, old, new))
    keys = [name for name in seen if name in job.keys]
    if not keys:
        return None
    if seen == old or seen == new:
        return None
    # Between the names of several formats some of them are there, whole.
    for whole in (old, new):
        own = {name: digest for name, digest in whole.items() if name not in job.keys or name in keys}
        if len(job.keys & whole.keys()) > 1 and seen == own:
            return None
    versions = {
        name: "old" if digest == old.get(name) else "new" if digest == new.get(name) else "neither"
        for name, digest in seen.items()
    }
    missing = sorted(new.keys() - seen.keys())
    return f"a mixture: {versions}, without {missing}"
