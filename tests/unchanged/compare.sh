#!/usr/bin/env bash
# Tells whether two states of this repository do the same, byte for byte, in everything that observe.sh sees: README.md.
#
#   tests/unchanged/compare.sh [OPTION …] BEFORE [AFTER]
#
# BEFORE and AFTER are each one of
#   a revision      built in release mode, in a git worktree in a temporary folder
#   .               the present tree, as it is; AFTER when not given
#   a folder        of programs, as target/release, or of observations, as observe.sh wrote them
#
#   --skip-instructions   do not count instructions, which takes most of the time
#   --large               also make the published sizes by the recipe
#   --only GLOB           compare only observations with such a name, as 'export/*/st/f16-*'
#   --allow FILE          expected differences, one a line: a glob of names, spaces, and the reason
#   --all                 print the difference of every observation; without it, of three of each group
#
# Exit status: 0 nothing differs but what is allowed, 1 something differs, 2 it could not be told.
set -euo pipefail
shopt -s inherit_errexit nullglob globstar extglob

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
options=() skip='' only='*' allow='' shown=3
while [[ ${1:-} == --* ]]; do
    case $1 in
    --skip-instructions) skip=1 && options+=("$1") ;;
    --large) options+=("$1") ;;
    --only) only=$2 && options+=("$1" "$2") && shift ;;
    --allow) allow=$(realpath "$2") && shift ;;
    --all) shown=1000000 ;;
    --programs) ;; # Says of two folders what is seen of them anyway.
    *) echo "error: $1 is no option: see the head of $0" >&2 && exit 2 ;;
    esac
    shift
done
if [[ $# == 0 || $# -gt 2 ]]; then echo "usage: $0 [OPTION …] BEFORE [AFTER]" >&2 && exit 2; fi
sides=("$1" "${2:-.}")

scratch=$(mktemp -d)
leave() {
    local code=$?
    if [[ -d $scratch/source ]]; then git -C "$repository" worktree remove --force "$scratch/source"; fi
    rm -rf "$scratch"
    # Everything that stops this script but a difference.
    if [[ $code == 1 && ! ${compared:-} ]]; then code=2; fi
    exit "$code"
}
trap leave EXIT

# Dependencies are built once for all revisions, apart from what cargo builds otherwise.
target=$(cd "$repository" && realpath -m "${CARGO_TARGET_DIR:-target}")/unchanged

# build SOURCE PROGRAMS
build() {
    (
        cd "$1"
        export CARGO_TARGET_DIR=$target
        cargo build --quiet --release --locked --package deberta-converters --package deberta-golden --bins
        cargo build --quiet --release --locked --package deberta-reference --example tokenize
        mkdir -p "$2/examples"
        cp "$target"/release/{deberta-convert,deberta-verify} "$2"
        cp "$target/release/examples/tokenize" "$2/examples"
        # A folder that goes is of no use to the next build.
        if [[ $1 == "$scratch"/* ]]; then
            cargo clean --quiet --release --package deberta-converters --package deberta-golden --package deberta-reference
        fi
    )
}

# observations_of SIDE NAME: sets $observations to the folder with them
observations_of() {
    local programs=$scratch/programs-$2
    observations=$scratch/$2
    if [[ $1 == . ]]; then
        build "$repository" "$programs"
    elif [[ -e $1/OBSERVATIONS ]]; then
        observations=$(cd "$1" && pwd)
        return
    elif [[ -x $1/deberta-verify ]]; then
        programs=$1
    elif git -C "$repository" rev-parse --verify --quiet "$1^{commit}" >/dev/null; then
        git -C "$repository" worktree add --quiet --detach "$scratch/source" "$1"
        build "$scratch/source" "$programs"
        git -C "$repository" worktree remove --force "$scratch/source"
    else
        echo "error: $1 is no revision, no folder of programs, and no folder of observations" >&2
        exit 2
    fi
    "$here/observe.sh" "${options[@]}" "$programs" "$observations"
}

observations_of "${sides[0]}" before
before=$observations
observations_of "${sides[1]}" after
after=$observations
echo "before  ${sides[0]}"
echo "after   ${sides[1]}"

# Groups that one side left out are not compared.
declare -A left_out=()
while IFS=: read -r group reason; do
    if [[ ! ${left_out[$group]:-} ]]; then echo "not compared: $group:$reason"; fi
    left_out[$group]=1
done < <(cat "$before/OBSERVATIONS" "$after/OBSERVATIONS" | sed -n 's/^left out: //p')
if [[ $skip ]]; then left_out[instructions]=1; fi

# of_observation FILE GLOB: whether a file is of an observation with such a name
of_observation() {
    # shellcheck disable=SC2053 # a glob
    [[ $1 == $2.txt || $1 == $2/* ]]
}

# considered FILE: whether it is to be compared byte for byte
considered() {
    local group
    if [[ $1 == instructions/* || $1 == OBSERVATIONS ]] || ! of_observation "$1" "$only"; then return 1; fi
    for group in "${!left_out[@]}"; do
        if [[ $1 == "$group"/* ]]; then return 1; fi
    done
}

globs=() reasons=() uses=()
if [[ $allow ]]; then
    while read -r glob reason; do
        if [[ ! $glob || $glob == '#'* ]]; then continue; fi
        if [[ ! $reason ]]; then echo "error: $allow: $glob has no reason" >&2 && exit 2; fi
        globs+=("$glob") reasons+=("$reason") uses+=(0)
    done <"$allow"
fi

# allowed FILE: whether its difference is expected
allowed() {
    local at
    for at in "${!globs[@]}"; do
        if of_observation "$1" "${globs[at]}"; then
            uses[at]=$((uses[at] + 1))
            return 0
        fi
    done
    return 1
}

# Every name that one side has: its digest on both sides.
list() { # list FOLDER
    (cd "$1" && find . -type f -exec sha256sum {} +) | sed -E 's|^([0-9a-f]+)  \./(.*)|\2\t\1|' | sort
}
declare -A equal=() differ=() excused=() alone=()
differing=()
while IFS=$'\t' read -r name first second; do
    if ! considered "$name"; then continue; fi
    group=${name%%/*}
    if [[ $first == "$second" ]]; then
        equal[$group]=$((${equal[$group]:-0} + 1))
    elif allowed "$name"; then
        excused[$group]=$((${excused[$group]:-0} + 1))
    elif [[ $first == - || $second == - ]]; then
        alone[$group]=$((${alone[$group]:-0} + 1))
        differing+=("$name")
    else
        differ[$group]=$((${differ[$group]:-0} + 1))
        differing+=("$name")
    fi
done < <(join -t $'\t' -a 1 -a 2 -e - -o 0,1.2,2.2 <(list "$before") <(list "$after"))

printf '\n| %-10s | %6s | %6s | %16s | %7s |\n' group equal differ 'on one side only' allowed
printf '|---|---|---|---|---|\n'
mapfile -t groups < <(printf '%s\n' "${!equal[@]}" "${!differ[@]}" "${!excused[@]}" "${!alone[@]}" | sed '/^$/d' | sort -u)
for group in "${groups[@]}"; do
    printf '| %-10s | %6s | %6s | %16s | %7s |\n' "$group" "${equal[$group]:-0}" "${differ[$group]:-0}" \
        "${alone[$group]:-0}" "${excused[$group]:-0}"
done
for at in "${!globs[@]}"; do
    echo "allowed: ${uses[at]} of ${globs[at]}: ${reasons[at]}"
done

# Instructions, within one in a hundred.
strayed=0
if [[ ! ${left_out[instructions]:-} ]]; then
    printf '\n| %-10s | %15s | %15s | %7s |\n|---|---|---|---|\n' instructions before after ratio
    for file in "$before"/instructions/*; do
        name=instructions/${file##*/}
        if ! of_observation "$name" "$only"; then continue; fi
        first=$(<"$file") second=$(cat "$after/$name" 2>/dev/null || echo 0)
        ratio=$((second * 10000 / first)) note=''
        if ((ratio < 9900 || ratio > 10100)); then
            if allowed "$name"; then note=' allowed'; else note=' DIFFERS' && strayed=$((strayed + 1)); fi
        fi
        printf '| %-10s | %15d | %15d | %d.%04d |%s\n' "$(basename "$name" .txt)" "$first" "$second" $((ratio / 10000)) $((ratio % 10000)) "$note"
    done
fi

declare -A printed=()
for name in "${differing[@]}"; do
    group=${name%%/*}
    printed[$group]=$((${printed[$group]:-0} + 1))
    if ((printed[$group] > shown)); then continue; fi
    printf '\n== %s\n' "$name"
    if [[ ! -e $before/$name ]]; then
        echo "after only"
    elif [[ ! -e $after/$name ]]; then
        echo "before only"
    else
        diff -U 2 --label before --label after "$before/$name" "$after/$name" | cut -c -240 | head -n 60 || true
    fi
done
for group in "${!printed[@]}"; do
    if ((printed[$group] > shown)); then
        echo "… and $((printed[$group] - shown)) more of $group, which --all shows"
    fi
done

if [[ ${#groups[@]} == 0 && ! ${ratio:-} ]]; then
    echo "error: nothing was compared" >&2
    exit 2
fi
compared=1
if [[ ${#differing[@]} == 0 && $strayed == 0 ]]; then
    printf '\nnothing differs\n'
else
    printf '\n%d observations differ\n' $((${#differing[@]} + strayed))
    exit 1
fi
