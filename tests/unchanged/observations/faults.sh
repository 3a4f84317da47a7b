# Models and configurations that were damaged, in reports with a diagnosis; and what bless says of them. Weights are damaged by
# their bytes in model.safetensors: eight bytes of length, a header in JSON, numbers of four bytes.

# locate TENSOR: sets $name, $begin (byte in broken/model.safetensors), $rows and $columns of the tensor whose name ends so
locate() {
    local file=broken/model.safetensors length entry
    length=$(od -An -t u8 -N 8 $file)
    entry=$(head -c $((8 + length)) $file | tail -c +9 | grep -oE "\"([a-z]+\.)*$1\":\{[^}]*\}")
    [[ $entry =~ ^\"([^\"]*)\".*\"shape\":\[([0-9]+),?([0-9]*)\].*\"data_offsets\":\[([0-9]+), ]]
    name=${BASH_REMATCH[1]} rows=${BASH_REMATCH[2]} columns=${BASH_REMATCH[3]:-1}
    begin=$((8 + length + BASH_REMATCH[4]))
}

# numbers: the tensor that was located, in hexadecimal digits, eight a number
numbers() {
    dd if=broken/model.safetensors iflag=skip_bytes,count_bytes skip="$begin" count=$((4 * rows * columns)) status=none |
        basenc --base16 --wrap=0
}

# put DIGITS [NUMBER]: writes numbers from that one on of the tensor that was located
put() {
    basenc --base16 --decode <<<"$1" |
        dd of=broken/model.safetensors conv=notrunc oflag=seek_bytes seek=$((begin + 4 * ${2:-0})) status=none
}

# rename FROM TO: exchanges names of the same length in the header
rename() {
    sed -i "s/$1\"/<$1>/; s/$2\"/$1\"/; s/<$1>/$2\"/" broken/model.safetensors
}

transposed() {
    local digits row column out=''
    locate encoder.layer.1.attention.output.dense.weight
    digits=$(numbers)
    for ((row = 0; row < rows; row++)); do
        for ((column = 0; column < columns; column++)); do out+=${digits:8*(column*columns+row):8}; done
    done
    put "$out"
}
# Rows of queries and keys, in in_proj.
exchanged() {
    local digits half
    locate encoder.layer.0.attention.self.in_proj.weight
    digits=$(numbers) half=$((8 * rows / 3 * columns))
    put "${digits:half:half}${digits:0:half}${digits:2*half}"
}
swapped() { rename layer.0.output.dense.weight layer.1.output.dense.weight; }
missing() { sed -i 's/layer.1.output.dense.bias"/layer.1.output.dense.bics"/' broken/model.safetensors; }
nudged() { locate encoder.layer.1.intermediate.dense.weight && put 0000803F 30; }
no_bias() { locate encoder.layer.0.output.dense.bias && put "$(printf '%0*d' $((8 * rows)) 0)"; }
not_a_number() { locate encoder.layer.1.output.LayerNorm.weight && put 0000C07F 3; }
positions_shifted() {
    local digits
    locate encoder.rel_embeddings.weight
    digits=$(numbers)
    put "${digits:8*columns}${digits:0:8*columns}"
}
configured() { sed -i "\$s/}/, $1}/" broken/config.json; }
epsilon() { configured '"layer_norm_eps": 0.01'; }
activation() { configured '"hidden_act": "relu"'; }
terms() { configured '"pos_att_type": ["c2p"]'; }
distances() { configured '"max_relative_positions": 4'; }
absolute() { configured '"relative_attention": false'; }
heads() { configured '"num_attention_heads": 4'; }
padding_id() { configured '"pad_token_id": 5'; }
half() {
    "$programs/deberta-convert" st2pt broken -o broken/ --dtype f16 >/dev/null
    rm broken/model.safetensors
}

faults_of() { # faults_of MODEL
    local fault name begin rows columns golden=${folders[$1]}
    for fault in transposed exchanged swapped missing nudged no_bias not_a_number positions_shifted \
        epsilon activation terms distances absolute heads padding_id half; do
        mkdir broken
        cp "$golden"/{model.safetensors,config.json} broken
        "$fault"
        observe_report "fault/$1/$fault" deberta-verify --model broken --golden "$golden" --threads 1
        observe "fault/$1/$fault-isolate" deberta-verify --model broken --golden "$golden" --threads 1 --isolate --json
        observe "fault/$1/$fault-undiagnosed" deberta-verify --model broken --golden "$golden" --threads 1 --no-diagnosis
        rm -r broken
    done
}

blessing() {
    local model=golden/data/masked-lm fault name begin rows columns
    mkdir broken own
    cp $model/{model.safetensors,config.json} broken
    nudged
    "$programs/deberta-verify" record --model $model --inputs $model/padded.safetensors -o own/padded.safetensors >/dev/null
    observe fault/bless/evidence deberta-verify bless --model broken --golden $model --write
    observe fault/bless/nothing deberta-verify bless --model $model --golden own
    observe fault/bless/shown deberta-verify bless --model broken --golden own
    observe fault/bless/written deberta-verify bless --model broken --golden own --write
    observe fault/bless/after deberta-verify bless --model broken --golden own
    observe fault/bless/selftest deberta-verify selftest --model $model --golden $model --threads 1
}

for model in data/{masked-lm,sequence-classification,model-both-positions,mask-decoder}; do schedule faults_of "$model"; done
schedule blessing
