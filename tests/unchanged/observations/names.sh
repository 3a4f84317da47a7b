# deberta-convert names: the general scheme, and every configuration as every class.

scheme() {
    local kind
    for kind in text json markdown; do observe "names/scheme.$kind" deberta-convert names --format "$kind"; done
}

names_of() { # names_of MODEL
    local config head kind
    config=$(echo "${folders[$1]}"/*config.json)
    for head in base mlm emd seqcls tokcls qa; do
        for kind in text json; do
            observe "names/$1/$head.$kind" deberta-convert names --config "$config" --head "$head" --format "$kind"
        done
    done
    observe "names/$1/markdown" deberta-convert names --config "$config" --format markdown
}

schedule scheme
for model in "${models[@]}"; do schedule names_of "$model"; done
