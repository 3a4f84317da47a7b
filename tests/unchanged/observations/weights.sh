# deberta-convert digest, inspect and diff of every model in every format; inspect and audit of every other file of weights.

weights_of() { # weights_of MODEL
    local folder format own file kind head
    in_format "$1" st
    own=$folder/$(conventional st)
    if [[ ! -e $own ]]; then own+=.index.json; fi
    for format in "${formats[@]}"; do
        if ! in_format "$1" "$format"; then continue; fi
        file=$folder/$(conventional "$format")
        if [[ ! -e $file ]]; then file+=.index.json; fi
        for kind in text json; do
            observe "weights/$1/$format.digest.$kind" deberta-convert digest "$file" --format "$kind"
            observe "weights/$1/$format.inspect.$kind" deberta-convert inspect "$file" --format "$kind"
            observe "weights/$1/$format.diff.$kind" deberta-convert diff "$own" "$file" --format "$kind"
            observe "weights/$1/$format.other.$kind" deberta-convert diff golden/data/masked-lm "$file" --format "$kind"
        done
        if [[ $format == pt ]]; then observe "weights/$1/pt.audit" deberta-convert audit "$file"; fi
    done
    for head in base mlm emd seqcls tokcls qa; do
        observe "weights/$1/st.inspect.$head" deberta-convert inspect "$own" --head "$head"
    done
}

files_in() { # files_in FOLDER
    local file name kind
    for file in "$1"/*; do
        name=${file#tests/} name=${name#converters/fuzz/}
        for kind in text json; do
            case $file in
            *.py | *.txt | *.md | */config.json) continue ;;
            *.bin | */torch/*) observe "files/$name.audit.$kind" deberta-convert audit --all "$file" --format "$kind" ;;
            esac
            observe "files/$name.inspect.$kind" deberta-convert inspect "$file" --format "$kind"
        done
    done
}

for model in "${models[@]}"; do schedule weights_of "$model"; done
for folder in tests/fixtures/{torch,h5py,onnx/*} converters/fuzz/regressions/*; do schedule files_in "$folder"; done
