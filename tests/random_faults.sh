#!/bin/sh
# Random faults in every committed model: tests/random_faults.sh [COUNT [SEED [PROGRAM]]], COUNT faults for each model.
# Prints what is notable, and the sums. Exits with 1 if a fault was not seen, not where it is, or a wrong cause was confirmed.
count=${1:-40} seed=${2:-1} program=${3:-target/debug/deberta-verify}
cd "$(dirname "$0")/.." || exit 2
reports=$(mktemp -d) || exit 2
trap 'rm -rf "$reports"' EXIT
for folder in golden/data/* golden/trained/*; do
    [ -f "$folder/model.safetensors" ] && [ -f "$folder/case.yaml" ] || continue
    report="$reports/$(echo "$folder" | tr / -).json"
    "$program" selftest --model "$folder" --golden "$folder" --random "$count" --seed "$seed" --format json \
        >"$report" 2>"$reports/errors"
    [ $? -lt 2 ] || { echo "$folder: $(cat "$reports/errors")"; rm "$report"; }
done
python3 - "$reports" <<'SUMS'
import collections, glob, json, sys
sums = collections.defaultdict(collections.Counter)
for path in sorted(glob.glob(sys.argv[1] + "/*.json")):
    report = json.load(open(path))
    for cut, counts in report["counts"].items():
        sums[cut].update(counts)
        sums["all"].update(counts)
    for fault in report["faults"]:
        killed = fault["fate"] == "killed"
        notable = [
            "SURVIVED" if fault["fate"] == "survived" else "",
            "elsewhere" if killed and not fault["in_place"] else "",
            "unnamed" if killed and fault["kinds"] and not fault["diagnosed"] and not fault["alike"] else "",
            "WRONG" if fault["wrong"] else "",
        ]
        notable = " ".join(word for word in notable if word)
        if notable:
            said = fault["diagnoses"][:2]
            print(f'{report["model"]} {fault["number"]} {fault["cut"]} {fault["golden"]}: {notable}: '
                  f'{",".join(fault["kinds"])}: {fault["description"]} @ {fault["first_divergence"]} => {said} {fault["wrong"] or ""}')
for cut, counts in sums.items():
    print(cut, dict(counts))
total = sums["all"]
sys.exit(bool(total["survived"] or total["wrongly_confirmed"] or total["in_place"] != total["killed"]))
SUMS
