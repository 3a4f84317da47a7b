# deberta-convert init: models of the recipe, with their digests; with --large, the published sizes.

init() { # init NAME ARGUMENT …
    observe "recipe/$1" deberta-convert init -o out/ "${@:2}"
}

recipes() {
    local head to
    for head in base mlm emd seqcls tokcls qa; do
        for to in safetensors pytorch tf onnx; do
            init "small/$head-$to" --config golden/sizes/small/config.json --head "$head" --to "$to"
        done
        init "fixture/$head" --config tests/fixtures/recipe/config.json --head "$head" --seed 42
        init "fixture/$head-f16" --config tests/fixtures/recipe/config.json --head "$head" --dtype f16 --format json
        init "fixture/$head-shards" --config tests/fixtures/recipe/config.json --head "$head" --max-shard-size 20KB
    done
}

published() { # published SIZE: beside it, the digest that golden/sizes has committed
    local case=golden/sizes/$1/case.yaml config head seed
    read -r config head seed < <(sed -nE 's/^model: \{recipe: [^,]*, config: ([^,]*), head: ([^,]*), seed: ([0-9]+)\}/\1 \2 \3/p' "$case")
    init "published/$1" --config "$config" --head "$head" --seed "$seed"
    grep '^digest' "$case" >>"$out/recipe/published/$1.txt"
}

schedule recipes
if [[ $large ]]; then
    for size in base large xlarge; do schedule published "$size"; done
else
    leave_out recipe/published "--large makes the published sizes"
fi
