"""deberta-convert as a program: started with arguments, judged by exit code, output and files."""

import json
import struct
import subprocess
from pathlib import Path

from cases import FILE_NAMES, OPTION

SECONDS = 60


class Converter:
    """The program under test."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, *arguments):
        """The finished process; a program that does not end is reported like one that was killed."""
        command = [self.program, *map(str, arguments)]
        try:
            return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -9, "", f"still running after {SECONDS} s")

    def convert(self, source, form, to, out, *options):
        """Converts to the folder `out`; what went wrong, or None."""
        short = form in FILE_NAMES and form != to and source.suffix != ".json"
        verb = [f"{form}2{to}", source] if short else ["convert", source, "--to", OPTION[to]]
        process = self.run(*verb, "-o", f"{out}/", *options)
        if process.returncode != 0:
            return said(process)
        wanted = {FILE_NAMES[to], "config.json"}
        found = {path.name for path in out.iterdir()} if out.is_dir() else set()
        return None if found == wanted or "--max-shard-size" in options else f"wrote {sorted(found)}, not {sorted(wanted)}"

    def digest(self, file):
        """The digest of `file`, or what went wrong."""
        process = self.run("digest", file)
        line = process.stdout.removesuffix("\n")
        is_digest = len(line) == 64 and set(line) <= set("0123456789abcdef")
        return (line, None) if process.returncode == 0 and is_digest else (None, said(process))


def said(process):
    """How `process` ended, in one line."""
    words = " ".join((process.stderr or process.stdout).split())
    command = " ".join(map(str, process.args[1:]))
    return f"`{command}` exit {process.returncode}: {words[:600] or 'no output'}"


def listing(folder):
    """Every path below `folder` with its length and time of change: what must not alter."""
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def tensor_bytes(file):
    """Tensor name -> (dtype, shape, bytes) of a safetensors file, by the format's own definition."""
    data = Path(file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}
