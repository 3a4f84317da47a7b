# deberta-verify: the report of every golden as text, JSON, JUnit, Markdown and HTML; of every module by itself, in double
# precision, of the other formats and of the graph; comparisons of recordings; policies and what is merged of their shards.

reports_of() { # reports_of MODEL
    local golden=${folders[$1]} format trace rows
    verify() { # verify NAME MODEL ARGUMENT …
        observe_report "report/$1" deberta-verify --model "$2" --golden "$golden" --threads 1 "${@:3}"
    }
    verify "$1/plain" "$golden"
    verify "$1/isolate" "$golden" --isolate
    observe "report/$1/all-points" deberta-verify --golden "$golden" --threads 1 --all-points
    observe "report/$1/f64" deberta-verify --model "$golden" --golden "$golden" --threads 1 --precision f64 --json
    for format in pt tf onnx; do
        if [[ -d made/$1/$format ]]; then
            observe "report/$1/$format" deberta-verify --model "made/$1/$format" --golden "$golden" --threads 1 --json
        fi
    done
    # A recording with the other masked rows, against the golden.
    for trace in "$golden"/padded{,.tf,.emd}.safetensors; do
        if [[ ! -e $trace ]]; then continue; fi
        format=$(basename "$trace" .safetensors)
        for rows in uniform zero; do
            "$programs/deberta-verify" record --model "$golden" --inputs "$trace" --masked-rows "$rows" -o "$rows" >/dev/null || continue 2
            observe_report "report/$1/compare-$format-$rows" deberta-verify compare "$trace" "$rows"
        done
        observe "report/$1/compare-$format-exact" deberta-verify compare uniform zero --atol 0
        rm uniform zero
    done
}

reports_of_recipes() {
    local name
    for name in small small-mask-decoder; do
        observe_report "report/recipe/$name" deberta-verify --golden "golden/sizes/$name" --threads 1
    done
}

policy() {
    local policy shard
    mkdir models
    cp -r golden/data/{masked-lm,model-p2c,sequence-regression} golden/trained/{nli,similarity} golden/trained/data/stsb models
    cat >models/verify.yaml <<'POLICY'
models:
  - model: ./masked-lm
    formats: [safetensors, pytorch]
  - model: ./model-p2c
    isolate: true
    tolerances: {default: {atol: 1.0e-7}}
  - model: ./nli
    tasks: [{task: stsb, data: [./stsb/dev.tsv], min: {pearson: 0.5}}]
  - model: ./similarity
    tasks: [{task: stsb, data: [./stsb/dev.tsv], min: {pearson: 0.5, spearman: 0.99}, limit: 20}]
  - model: ./sequence-regression
    goldens: [./masked-lm]
padding: fail
notes: fail
POLICY
    cp models/verify.yaml models/other.yaml
    sed -i 's/^padding.*/padding: allow\nundecided: allow/; /^notes/d' models/other.yaml
    for policy in verify other; do
        observe_report "report/policy/$policy" deberta-verify --policy "models/$policy.yaml" --threads 1
    done
    for shard in 1 2 3; do
        "$programs/deberta-verify" --policy models/verify.yaml --threads 1 --shard $shard/3 --json >shard-$shard.json || true
    done
    observe_report report/policy/merged deberta-verify merge shard-{1,2,3}.json
    observe_report report/policy/merged-two deberta-verify merge shard-{1,3}.json
}

for model in "${models[@]}"; do
    if [[ -e ${folders[$model]}/case.yaml ]]; then schedule reports_of "$model"; fi
done
schedule reports_of_recipes
schedule policy
