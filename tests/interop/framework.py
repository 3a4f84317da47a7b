"""Jobs for one framework, run in one process of its own virtual environment."""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATORS = HERE.parent / "fixtures" / "generate"


class Framework:
    """Collects jobs until `run`, because importing TensorFlow takes ten seconds."""

    def __init__(self, name, python, folder, report):
        self.name, self.python, self.folder, self.report = name, python, folder, report
        self.jobs, self.labels, self.batch = [], {}, 0

    def add(self, label, do, must_fail=None, **arguments):
        """Adds a job. `label` None: a preparation, reported only when it fails. `must_fail`: a control, a word of the error."""
        job = {"id": f"{self.name}{self.batch}-{len(self.jobs)}", "do": do, "with": json_ready(arguments)}
        self.jobs.append(job)
        self.labels[job["id"]] = (label, do, must_fail)

    def run(self):
        """Runs the jobs collected so far and reports each; a job without an answer failed."""
        jobs, results = (self.folder / f"{self.name}{self.batch}.{kind}" for kind in ("jobs.json", "results"))
        jobs.write_text(json.dumps(self.jobs))
        results.write_text("")
        environment = os.environ | {"PYTHONPATH": f"{GENERATORS}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
        command = [self.python, HERE / f"{self.name}_worker.py", jobs, results]
        with open(self.folder / f"{self.name}{self.batch}.log", "w") as log:
            code = subprocess.run(command, env=environment, cwd=self.folder, stdout=log, stderr=log).returncode
        answers = {answer["id"]: answer for answer in map(json.loads, results.read_text().splitlines())}
        for job in self.jobs:
            answer = answers.get(job["id"], {"error": f"{self.name}_worker.py exited with {code}, see {log.name}"})
            self.judge(job, answer)
        self.jobs, self.batch = [], self.batch + 1

    def judge(self, job, answer):
        label, do, must_fail = self.labels[job["id"]]
        error, note = answer["error"], answer.get("value")
        if must_fail:
            wrong = None if error and must_fail in error else f"should have failed with {must_fail!r}, but: {error or 'passed'}"
            self.report.check(label, wrong, error)
        elif label:
            self.report.check(label, error, note)
        elif error:
            self.report.check(f"preparation: {do} {job['with']}", error)


def json_ready(value):
    """Paths as strings."""
    if isinstance(value, dict):
        return {k: json_ready(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value
