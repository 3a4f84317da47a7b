# How many instructions the programs need, by valgrind's callgrind: single-threaded where that can be asked for.
# Hash maps and addresses are others every time, so that the last digits are, too: compare.sh compares ratios.

count() { # count NAME PROGRAM ARGUMENT …
    # shellcheck disable=SC2053 # a glob
    if [[ instructions/$1 != $only ]]; then return; fi
    mkdir -p out "$out/instructions"
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$programs/$2" "${@:3}" >/dev/null 2>counted
    sed -nE 's/.*Collected : ([0-9]+)/\1/p' counted >"$out/instructions/$1.txt"
}

# A model whose weights are some megabytes, so that what is done with numbers counts more than what is done once.
model_to_count() {
    sed -E 's/("vocab_size":).*/\1 1024,/; s/("hidden_size":).*/\1 128,/; s/("intermediate_size":).*/\1 512,/' \
        golden/sizes/small/config.json >"$scratch/config.json"
    "$programs/deberta-convert" init --config "$scratch/config.json" --head mlm -o "$scratch/made/counted/st/"
    "$programs/deberta-convert" st2pt "$scratch/made/counted/st" -o "$scratch/made/counted/pt/"
}

if [[ ! $instructions ]]; then
    leave_out instructions "--skip-instructions"
elif ! command -v valgrind >/dev/null; then
    leave_out instructions "there is no valgrind"
else
    model_to_count >/dev/null
    model=made/counted/st inputs=golden/sizes/small/n16.safetensors
    schedule count bench deberta-verify bench --model $model --seq 64 --runs 1 --threads 1
    schedule count record deberta-verify record --model $model --inputs $inputs -o out/trace.safetensors --threads 1
    schedule count verify deberta-verify --model golden/data/masked-lm --golden golden/data/masked-lm --threads 1
    schedule count pt2st deberta-convert pt2st made/counted/pt -o out/
    schedule count st2tf deberta-convert st2tf $model -o out/
    schedule count st2onnx deberta-convert st2onnx $model -o out/ --activations
    schedule count digest deberta-convert digest $model
    schedule count inspect deberta-convert inspect $model
fi
