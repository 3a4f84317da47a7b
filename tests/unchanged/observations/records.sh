# What models compute: deberta-verify record of every trace, as the class and with the masked rows that it tells, with the other
# masked rows, and by the graph of the ONNX file.

record() { # record NAME TRACE ARGUMENT …
    observe "record/$1" deberta-verify record --inputs "$2" -o out/trace.safetensors --threads 1 "${@:3}"
}

records_of() { # records_of MODEL
    local folder=${folders[$1]} trace name rows
    for trace in "$folder"/*.safetensors; do
        name=$(basename "$trace" .safetensors)
        if [[ $name == model ]]; then continue; fi
        rows=$(sed -nE "s/.*file: $name\.safetensors,.* masked_rows: (\w+).*/\1/p" "$folder/case.yaml")
        if [[ $rows == uniform ]]; then rows=zero; else rows=uniform; fi
        record "$1/$name" "$trace" --model "$folder"
        record "$1/$name.$rows" "$trace" --model "$folder" --masked-rows "$rows"
        if [[ -e made/$1/onnx ]]; then
            record "$1/$name.graph" "$trace" --model "made/$1/onnx/model.onnx" --backend onnx
        fi
    done
}

# What no trace asks for: other classes, some points, double precision, several threads.
records_otherwise() {
    local class
    local model=golden/data/masked-lm
    for class in Model ForMaskedLM ForSequenceClassification; do
        record "otherwise/$class" "$model/padded.safetensors" --model "$model" --class "Deberta$class"
        record "otherwise/TF$class" "$model/padded.safetensors" --model "$model" --class "TFDeberta$class"
    done
    record otherwise/decoder golden/data/mask-decoder/padded.safetensors --model golden/data/mask-decoder --class EnhancedMaskDecoder
    record otherwise/points "$model/padded.safetensors" --model "$model" --points '*.probs' --points 'cls.*'
    record otherwise/f64 "$model/padded.safetensors" --model "$model" --precision f64
    record otherwise/f64-decoder golden/data/mask-decoder/padded.emd.safetensors --model golden/data/mask-decoder --precision f64
    model=golden/trained/nli
    observe record/otherwise/threads deberta-verify record --inputs "$model/texts.safetensors" --model "$model" -o out/trace.safetensors --threads 3
}

for model in "${models[@]}"; do
    if [[ -e ${folders[$model]}/case.yaml ]]; then schedule records_of "$model"; fi
done
schedule records_otherwise
