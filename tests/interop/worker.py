"""What the two workers share: a list of jobs in, a line of JSON for each out. Needs nothing but the standard library."""

import json
import sys
import traceback


def serve(functions):
    """Runs every job of the file argv[1]; appends {"id", "error", "value"} to argv[2] after each."""
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    with open(sys.argv[2], "a") as results:
        for job in jobs:
            answer = {"id": job["id"], "error": None, "value": None}
            try:
                answer["value"] = functions[job["do"]](**job["with"])
            except Mismatch as mismatch:
                answer["error"] = str(mismatch)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                answer["error"] = f"{type(error).__name__}: {error} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
            print(json.dumps(answer), file=results, flush=True)


class Mismatch(Exception):
    """What was found is not what should be there."""


def expect(condition, message):
    if not condition:
        raise Mismatch(message)


def same_names(got, want):
    """The two lists of names must be equal as sets."""
    got, want = set(got), set(want)
    expect(got == want, f"absent: {sorted(want - got)[:3]}, too many: {sorted(got - want)[:3]}")
