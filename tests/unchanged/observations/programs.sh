# What the two programs say about themselves: help, manual pages, completions, goldens; and the self-test.

helps() { # helps PROGRAM SUBCOMMAND …
    local subcommand shell
    observe "help/$1/program" "$1" --help
    observe "help/$1/short" "$1" -h
    observe "help/$1/version" "$1" --version
    observe "help/$1/nothing" "$1"
    observe "help/$1/man" "$1" man out
    for shell in bash elvish fish powershell zsh; do observe "help/$1/completions-$shell" "$1" completions "$shell"; done
    for subcommand in "${@:2}"; do
        observe "help/$1/$subcommand" "$1" "$subcommand" --help
        observe "help/$1/$subcommand-short" "$1" "$subcommand" -h
        observe "help/$1/$subcommand-nothing" "$1" "$subcommand"
    done
}

lists() {
    observe list/shipped deberta-verify list
    observe list/all deberta-verify list golden/data golden/sizes golden/trained
}

selftest() { # selftest FORMAT
    observe "selftest/$1" deberta-verify selftest --threads 1 --format "$1"
}

subcommands() { # subcommands PROGRAM: as its help lists them
    "$programs/$1" --help | sed -nE '/^Commands:/,/^$/s/^  ([a-z0-9]+) .*/\1/p'
}

for program in deberta-convert deberta-verify; do
    # shellcheck disable=SC2046 # a word each
    schedule helps "$program" $(subcommands "$program")
done
schedule lists
schedule selftest text
schedule selftest json
