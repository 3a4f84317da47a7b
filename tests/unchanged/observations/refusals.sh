# Requests that are refused: what the two programs say, and that they write nothing.

refusals() {
    local good=tests/fixtures/transformers/mlm/model.safetensors
    refused() { # refused NAME PROGRAM ARGUMENT …
        observe "refused/$1" "${@:2}"
    }
    convert() { refused "$1" deberta-convert "${@:2}" -o out/; }
    convert talking-heads-to-tensorflow st2tf tests/fixtures/transformers/talking-head
    convert new-head-to-tensorflow st2tf tests/fixtures/transformers/mlm-new
    convert no-such-head st2pt "$good" --head qa
    convert head-of-weights st2pt "$good" --head emd
    convert rows-of-weights st2pt "$good" --masked-rows zero
    convert activations-of-weights st2pt "$good" --activations
    convert external-weights st2pt "$good" --external-data
    convert no-such-activation st2onnx "$good" --activations='nothing.*'
    convert double-graph st2onnx "$good" --dtype f64
    convert no-such-decoder st2onnx "$good" --head emd
    convert nothing-to-remap st2pt golden/data/model --mlm-head remap
    convert other-format pt2st "$good"
    convert own-format convert --to st golden/data/model
    convert no-such-file st2pt no/such/model.safetensors
    convert no-such-model st2pt no/such/model
    convert no-such-revision st2pt "$good" --revision main
    convert no-configuration st2pt "$good" --config no/config.json
    convert other-configuration st2pt "$good" --config golden/data/sequence-classification/config.json
    convert other-sizes st2pt "$good" --config golden/data/masked-lm/config.json
    convert tiny-shards st2pt "$good" --max-shard-size 0
    convert huge-recipe init --config huge
    convert v2-recipe init --config v2.json
    convert v2 st2pt "$good" --config v2.json
    refused names-of-v2 deberta-convert names --config v2.json
    refused exists deberta-convert convert "$good" --to pytorch -o tests/fixtures/transformers/mlm
    refused digest deberta-convert digest tests/fixtures/torch/bad-call.bin
    refused names-without-configuration deberta-convert names --head mlm
    refused diff deberta-convert diff "$good" tests/fixtures/onnx/README.md
    refused subcommand deberta-convert tf2tf "$good"

    local model=golden/data/masked-lm trace=golden/data/masked-lm/plain.safetensors
    record() { refused "record-$1" deberta-verify record --model "$model" --inputs "$trace" -o out/trace.safetensors "${@:2}"; }
    record no-such-class --class DebertaForNothing
    record other-class --class DebertaForQuestionAnswering
    record no-such-decoder --class EnhancedMaskDecoder
    record no-such-backend --backend tch
    record no-graph --backend onnx
    record double-graph --backend onnx --precision f64
    record no-such-configuration --config no/config.json
    model=golden/data/model-talking-head record talking-heads-by-tensorflow --class TFDebertaModel
    model=golden/data/masked-lm-new record new-head-by-tensorflow --class TFDebertaForMaskedLM
    refused record-weights deberta-verify record --model "$model" --inputs "$model/model.safetensors" -o out/trace.safetensors
    refused no-golden deberta-verify --model tests/fixtures/transformers/mlm
    refused other-golden deberta-verify --model "$model" --golden golden/data/question-answering
    refused no-such-golden deberta-verify --model "$model" --golden no/such/golden
    refused no-such-model deberta-verify --model no/such/model --golden "$model"
    refused no-policy deberta-verify --policy no/verify.yaml
    refused compare deberta-verify compare "$trace" golden/data/model/plain.safetensors
    refused compare-weights deberta-verify compare "$trace" "$model/model.safetensors"
    refused selftest deberta-verify selftest --size huge
    refused bench deberta-verify bench --model "$model" --class DebertaForQuestionAnswering
}

# A configuration of another family of models.
v2_and_refusals() {
    sed 's/"model_type": "deberta"/"model_type": "deberta-v2"/' golden/data/masked-lm/config.json >v2.json
    refusals
}

schedule v2_and_refusals
