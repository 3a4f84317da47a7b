"""Writes the scripts of workflows and actions into files of their own: scripts.py FOLDER FILE …"""

import sys
from pathlib import Path

from ruamel.yaml import YAML

folder, *files = map(Path, sys.argv[1:])
for file in files:
    document = YAML(typ="safe").load(file)
    jobs = document.get("jobs", {"action": document.get("runs")})
    for name, job in jobs.items():
        for at, step in enumerate(job["steps"]):
            if "run" in step:
                place = folder / f"{file.parent.name}-{file.stem}-{name}-{at}.sh"
                place.write_text(f"#!/usr/bin/env bash\n{step['run']}\n")
