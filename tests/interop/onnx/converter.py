"""The program under test, and what is said of it."""

import subprocess


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, label, problem):
        """A problem is a text, or nothing."""
        print("ok     " if not problem else "FAILED ", label, problem or "", flush=True)
        self.passed, self.failed = self.passed + (not problem), self.failed + bool(problem)
        return not problem

    def skip(self, label, why):
        print("skipped", label, why, flush=True)
        self.skipped += 1


class Converter:
    def __init__(self, program, verifier, folder):
        self.program, self.verifier, self.folder, self.count = program, verifier, folder, 0

    def run(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()}"

    def digest(self, path, *more):
        return self.run("digest", path, *more)

    def verify(self, *arguments):
        """What the verifier finds wrong, or nothing."""
        done = subprocess.run([self.verifier, *map(str, arguments)], capture_output=True, text=True)
        return "" if done.returncode == 0 else f"exit {done.returncode}: {done.stdout[-300:]} {done.stderr[-300:]}"

    def export(self, source, *more):
        self.count += 1
        out = self.folder / str(self.count)
        return self.run("st2onnx", source, "-o", f"{out}/", *more), out / "model.onnx"
