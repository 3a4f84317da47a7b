# deberta-convert to ONNX: every model in every dtype, with either masked rows, without activations, with all and with some, as
# every head, from every format. A refusal is an observation, too.

exports_of() { # exports_of MODEL
    local folder dtype rows from head model=$1
    export_as() { # export_as NAME ARGUMENT …
        observe "export/$model/$from/$1" deberta-convert "${from}2onnx" "$folder" -o out/model.onnx "${@:2}"
    }
    in_every_option() { # in_every_option PREFIX ARGUMENT …
        for dtype in f32 f16 bf16; do
            for rows in uniform zero; do
                export_as "$1$dtype-$rows" --dtype "$dtype" --masked-rows "$rows" "${@:2}"
                export_as "$1$dtype-$rows-all" --dtype "$dtype" --masked-rows "$rows" --activations "${@:2}"
                export_as "$1$dtype-$rows-some" --dtype "$dtype" --masked-rows "$rows" --activations='*.probs' "${@:2}"
            done
        done
    }
    for from in st pt tf; do
        if ! in_format "$model" "$from"; then continue; fi
        export_as plain
        export_as external --external-data
        if [[ $from == st ]]; then
            in_every_option ''
            for head in base mlm seqcls tokcls qa; do export_as "$head" --head "$head"; done
            export_as emd --head emd
            if [[ $status == 0 ]]; then in_every_option emd- --head emd; fi
        else
            export_as f16-zero-all --dtype f16 --masked-rows zero --activations
        fi
    done
}

for model in "${models[@]}"; do schedule exports_of "$model"; done
