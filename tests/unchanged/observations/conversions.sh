# deberta-convert between formats: every model from every format to every other, with the ledger as text and as JSON, and what
# else can be asked of a conversion.

conversions_of() { # conversions_of MODEL
    local folder from to model=$1
    convert_as() { # convert_as NAME ARGUMENT …
        observe "convert/$model/$from-$to$1" deberta-convert "${from}2$to" "$folder" -o out/ "${@:2}"
    }
    for from in "${formats[@]}"; do
        if ! in_format "$model" "$from"; then continue; fi
        for to in "${formats[@]}"; do
            if [[ $from == "$to" ]]; then continue; fi
            convert_as '' --format text
            convert_as .json --format json
        done
        to=pt
        if [[ $from == pt ]]; then to=st; fi
        observe "convert/$model/$from-any" deberta-convert convert --to "$to" "$folder" -o out/weights
        convert_as .f16 --dtype f16
        convert_as .f64 --dtype f64 --format json
        convert_as .remap --mlm-head remap
        convert_as .shards --max-shard-size 20KB
    done
    from=st
    in_format "$model" st
    to=tf
    convert_as .bf16 --dtype bf16
    convert_as .shards --max-shard-size 20KB
    convert_as .base --head base
}

for model in "${models[@]}"; do schedule conversions_of "$model"; done
