# deberta-verify task on the trained models, and the tokenizers that they read texts with.

tasks() {
    local data=golden/trained/data
    task() { # task NAME TASK MODEL ARGUMENT …
        local kind
        for kind in text json; do
            observe "task/$1.$kind" deberta-verify task "$2" --model "golden/trained/$3" --threads 1 --format "$kind" \
                --predictions out/predictions.jsonl "${@:4}"
        done
    }
    task mnli mnli nli --data $data/mnli/dev_matched.tsv $data/mnli/dev_mismatched.tsv --limit 60 --min accuracy=0.99
    task mnli-lines mnli nli --data $data/mnli/dev_matched.jsonl --limit 40 --max-length 16
    task mnli-formats mnli nli/model.safetensors --data $data/mnli/dev_matched.tsv --limit 40 --against golden/trained/nli/tf_model.h5
    task mnli-graph mnli nli --data $data/mnli/dev_matched.tsv --limit 40 --against-backend onnx
    task squad-1 squad questions --data $data/squad/dev-v1.json --limit 20
    task squad-2 squad questions --data $data/squad/dev-v2.json --limit 20 --null-threshold best-f1 --max-length 48 --doc-stride 16
    task tokens tokens entities --data $data/conll/test.txt --limit 40
    task race race choices --data $data/race/high/* $data/race/middle/* --limit 10
    task stsb stsb similarity --data $data/stsb/dev.tsv --limit 40
    task mlm mlm masked-lm --data $data/text/known.txt --limit 10
    task mlm-head mlm masked-lm --data $data/text/known.txt --limit 10 --decoder head
    task wrong mnli entities --data $data/mnli/dev_matched.tsv
}

tokenizers() {
    local class
    observe_tokenizer() { # observe_tokenizer CLASS
        mkdir -p "$out/tokenize"
        "$programs/examples/tokenize" golden/trained/nli "$1" >"$out/tokenize/$1.txt" <<'TEXTS'
{"text": "Anna lives in a small town and works as a baker."}
{"text": "Does it?", "pair": "It doesn't, she said.", "padding": "max_length", "max_length": 32}
{"text": "naïve café — 東京 🙂 \t two  spaces\nand a line", "pair": "[MASK] and [SEP]"}
{"text": "a long text that is cut", "pair": "and its pair", "truncation": "longest_first", "max_length": 9}
{"text": "", "add_special_tokens": false}
{"ids": [1, 100, 200, 300, 639, 2], "skip_special_tokens": true}
{"add_tokens": [{"content": "<name>", "lstrip": true, "special": true}]}
{"text": "with <name> added", "brief": true}
TEXTS
    }
    for class in slow fast; do observe_tokenizer "$class"; done
}

schedule tasks
if [[ -x $programs/examples/tokenize ]]; then
    schedule tokenizers
else
    leave_out tokenize "$1 has no examples/tokenize"
fi
