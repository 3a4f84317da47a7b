#!/usr/bin/env bash
# Writes down everything that two programs do with the models and goldens of this repository: README.md says what.
#
#   tests/unchanged/observe.sh [OPTION …] PROGRAMS OUT
#
# PROGRAMS is a folder with deberta-convert and deberta-verify (and examples/tokenize, if the tokenizer is to be observed), as
# target/release. OUT must not exist. It gets one text an observation, OUT/<group>/…/<name>.txt: the command, what it printed,
# its exit status, and of every binary file that it wrote the digest; text files that it wrote stand beside it.
#
#   --skip-instructions   leave out the counts of instructions, which take most of the time
#   --large               also make the published sizes by the recipe: minutes, and 4 GB in $TMPDIR
#   --only GLOB           only observations with such a name, as 'export/*/st/f16-*'
#   --keep FOLDER         keep what the programs wrote, in FOLDER/<group>/…/<name>/
#   --jobs N              commands at a time; as many as there are processors when not given
set -euo pipefail
shopt -s inherit_errexit nullglob globstar

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
large='' instructions=1 only='*' keep='' at_once=$(nproc)
while [[ ${1:-} == --* ]]; do
    case $1 in
    --skip-instructions) instructions='' ;;
    --large) large=1 ;;
    --only) only=$2 && shift ;;
    --keep) mkdir -p "$2" && keep=$(cd "$2" && pwd) && shift ;;
    --jobs) at_once=$2 && shift ;;
    *) echo "error: $1 is no option: see the head of $0" >&2 && exit 2 ;;
    esac
    shift
done
if [[ $# != 2 ]]; then echo "usage: $0 [OPTION …] PROGRAMS OUT" >&2 && exit 2; fi
programs=$(cd "$1" && pwd)
for program in deberta-convert deberta-verify; do
    if [[ ! -x $programs/$program ]]; then echo "error: $programs has no $program" >&2 && exit 2; fi
done
if [[ -e $2 ]]; then echo "error: $2 exists already" >&2 && exit 2; fi
mkdir -p "$2"
out=$(cd "$2" && pwd)
echo "deberta-observations-1" >"$out/OBSERVATIONS"

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
mkdir "$scratch/made" "$scratch/work" "$scratch/home"

# Nothing of this machine and its user: no hub, no colours, one width, one thread where none is asked for.
unset "${!GITHUB_@}" "${!HF_@}"
export HOME=$scratch/home HF_HOME=$scratch/home HF_HUB_OFFLINE=1 LC_ALL=C.UTF-8 COLUMNS=100 NO_COLOR=1 RAYON_NUM_THREADS=1

# The one place where texts are changed before they are compared.
#   durations   other ones every time: JSON "seconds": 0.0123, JUnit time="0.012", HTML compared in 0.01 s
#   paths       a policy tells where its models are from the root of the disk, which is in $scratch
normalise() {
    sed -E \
        -e 's/("seconds": )[0-9.e-]+/\1SECONDS/' \
        -e 's/ time="[0-9.]+"/ time="SECONDS"/' \
        -e 's|compared in [0-9.]+ s</p>|compared in SECONDS</p>|' \
        -e "s|$scratch/work/[0-9]+/|/WORK/|g"
}

# digest FILE: of a binary file, as sha256sum prints it. The metadata of a recording are a map, which the safetensors library
# writes in another order every time: they are printed, sorted, and the digest is that of the other bytes.
digest() {
    local length header
    if [[ $1 != *trace.safetensors ]]; then
        sha256sum "$1"
        return
    fi
    length=$(od -An -t u8 -N 8 "$1")
    header=$(head -c $((8 + length)) "$1" | tail -c +9)
    [[ $header =~ ^\{\"__metadata__\":\{(\"[^{}]*\")\}(.*)$ ]]
    sed 's/","/"\n"/g' <<<"${BASH_REMATCH[1]}" | sort
    { echo "${BASH_REMATCH[2]}" && tail -c +$((9 + length)) "$1"; } | sha256sum | sed "s|-$|$1|"
}

# observe NAME PROGRAM ARGUMENT …: what a program prints, how it ends ($status), and what it writes into the folder out
observe() {
    local name=$1 file texts=() binaries=()
    status=0
    shift
    # shellcheck disable=SC2053 # a glob
    if [[ $name != $only ]]; then return; fi
    rm -rf out
    mkdir -p out "$out/${name%/*}"
    "$programs/$1" "${@:2}" >stdout 2>stderr </dev/null || status=$?
    for file in out/**; do
        case $file in
        *.safetensors | *.bin | *.h5 | *.onnx | *.data) binaries+=("$file") ;;
        *) if [[ -f $file ]]; then texts+=("$file"); fi ;;
        esac
    done
    {
        echo "\$ $*"
        cat stdout
        if [[ -s stderr ]]; then echo "-- standard error" && cat stderr; fi
        echo "-- exit status $status"
        for file in "${binaries[@]}"; do digest "$file"; done
    } | normalise >"$out/$name.txt"
    for file in "${texts[@]}"; do
        mkdir -p "$out/$name/$(dirname "${file#out/}")"
        normalise <"$file" >"$out/$name/${file#out/}"
    done
    if [[ -n $keep ]]; then mkdir -p "$keep/$name" && cp -r out/. "$keep/$name"; fi
}

# observe_report NAME PROGRAM ARGUMENT …: a command that writes its report in every format
observe_report() {
    observe "$@" --report out/report.txt --report out/report.json --report out/report.xml --report out/report.md --report out/report.html
}

# leave_out GROUP WHY: says that a group is not observed, to the reader and to compare.sh
leave_out() {
    echo "left out: $1: $2" | tee -a "$out/OBSERVATIONS" >&2
}

# schedule FUNCTION ARGUMENT …: runs it beside others, in a folder of its own that looks like the repository
started=0
schedule() {
    local started_as="$*"
    started=$((started + 1))
    while [[ $(jobs -rp | wc -l) -ge $at_once ]]; do wait -n || true; done
    (
        trap 'if [[ $? != 0 ]]; then echo "$started_as" >>"$scratch/failed"; fi' EXIT
        mkdir "$scratch/work/$started"
        cd "$scratch/work/$started"
        ln -s "$repository/golden" "$repository/tests" "$repository/converters" "$scratch/made" .
        "$@"
        rm -rf "$scratch/work/$started"
    ) &
}

# settle: waits for everything that was scheduled
settle() {
    wait
    if [[ -e $scratch/failed ]]; then
        echo "error: could not be observed:" >&2
        cat "$scratch/failed" >&2
        exit 1
    fi
}

# Models by name, data/masked-lm, and the folders that they are in.
declare -A folders=()
cd "$repository"
for weights in golden/{data,trained}/*/model.safetensors tests/fixtures/{transformers,microsoft}/*/model.safetensors{,.index.json}; do
    folder=${weights%/*}
    folders[${folder#*/}]=$folder
done
mapfile -t models < <(printf '%s\n' "${!folders[@]}" | sort)

# Formats as the subcommands of deberta-convert spell them.
formats=(st pt tf onnx)
# conventional FORMAT: the name of its file
conventional() {
    case $1 in
    st) echo model.safetensors ;;
    pt) echo pytorch_model.bin ;;
    tf) echo tf_model.h5 ;;
    onnx) echo model.onnx ;;
    esac
}

# in_format MODEL FORMAT: sets $folder to where a model is in a format: its own folder, or that of a conversion; false without
in_format() {
    local file
    file=$(conventional "$2")
    for folder in "${folders[$1]}" "made/$1/$2"; do
        if [[ -e $folder/$file || -e $folder/$file.index.json ]]; then return 0; fi
    done
    return 1
}

# convert_to_all MODEL: makes the formats that a model is not in, not observed
convert_to_all() {
    local folder to
    for to in "${formats[@]}"; do
        if ! in_format "$1" "$to"; then
            "$programs/deberta-convert" "st2$to" "${folders[$1]}" -o "made/$1/$to/" >/dev/null 2>&1 || true
        fi
    done
}

for model in "${models[@]}"; do schedule convert_to_all "$model"; done
settle
for group in "$here"/observations/*.sh; do
    # shellcheck source=/dev/null
    source "$group"
done
settle
echo "$2: $(find "$out" -type f | wc -l) files" >&2
