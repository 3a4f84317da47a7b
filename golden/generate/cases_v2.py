"""The cases of versions 2 and 3, as cases.py has those of version 1. Needs numpy alone."""

from case import case, floats, generator, ids, integers, make, mask, masked, masked_labels, normal

# As v3 is configured, and small. No two of hidden, intermediate, vocabulary, positions, buckets, rows of the table and
# heads alike. Distances of 1 to 15 have the buckets 1 to 9: one each up to 5, then 6 6 7 7 7 8 8 8 8 9.
V, H = 89, 24
BASE_V2 = {
    "vocab_size": V,
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 34,
    "max_position_embeddings": 21,
    "max_relative_positions": -1,
    "position_buckets": 10,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
}
# Distances of 1 to 11 have the buckets 1 2 3 4 4 4 4 5 5 5 5.
TINY = {"vocab_size": 61, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 26}
TINY_V2 = BASE_V2 | TINY | {"max_position_embeddings": 18, "position_buckets": 6}
# The defaults of transformers: a row of the table for every distance, keys and queries of positions by layers of their
# own, no layer norm of the table.
PLAIN_V2 = {k: v for k, v in TINY_V2.items() if k not in ("position_buckets", "norm_rel_ebd", "share_att_key")}
# As in deberta-v2-xlarge.
CONVOLUTION = {"conv_kernel_size": 3, "conv_act": "gelu"}


def plain(seed="plain", n=12):
    """One sequence without a mask, with distances in several of the shared buckets."""
    return {"input_ids": ids(seed, 1, n, 61)}


def padded(seed="padded"):
    """Padding on the right, on the left, and in the middle."""
    return masked(seed, 61, "111111111100", "000111111111", "111001101111")


def model(config, inputs=None, few=("padded",), **more):
    """A case of the base model."""
    inputs = inputs or {"plain": plain(), "padded": padded()}
    return make("DebertaV2Model", config, inputs, outputs_only=frozenset(few), **more)


# The base model


@case
def v2_model():
    """The base model as v3 has it: log buckets, one set of layers for contents and positions, a normalised table."""
    inputs = {
        "plain": plain(n=16),
        "padded": padded(),
        "one-token": {"input_ids": ids("one", 2, 1, V)},
        "nothing-allowed": masked("nothing", V, "111111", "000000"),
        "all-positions": {"input_ids": ids("all", 1, 21, V)},
    }
    return model(BASE_V2 | {"num_hidden_layers": 3}, inputs, few=["one-token", "nothing-allowed", "all-positions"])


@case
def v2_model_separate():
    """Keys and queries of positions by layers of their own, pos_key_proj and pos_query_proj."""
    return model(BASE_V2 | {"share_att_key": False})


@case
def v2_model_no_buckets():
    """A row of the table for every distance, at most 5; the table is not normalised."""
    inputs = {"plain": plain(), "within": plain("within", n=4), "padded": padded()}
    return model(PLAIN_V2 | {"share_att_key": True, "max_relative_positions": 5}, inputs)


@case
def v2_model_conv():
    """A convolution beside the first layer, as in v2's xlarge and xxlarge; a kernel that is longer than the text."""
    inputs = {"plain": plain(), "padded": padded(), "one-token": {"input_ids": ids("one", 2, 1, V)}}
    return model(BASE_V2 | CONVOLUTION | {"attention_head_size": 8}, inputs, few=["one-token"])


@case
def v2_model_conv_groups():
    """A convolution in four groups."""
    reason = "the TensorFlow class ignores conv_groups"
    return model(TINY_V2 | CONVOLUTION | {"conv_groups": 4}, no_tensorflow={"": reason})


@case
def v2_model_conv_tanh():
    """A convolution over five tokens with the activation that it has by default, tanh; one layer."""
    return model(TINY_V2 | {"conv_kernel_size": 5, "num_hidden_layers": 1})


@case
def v2_model_c2p():
    """Content to position alone."""
    return model(TINY_V2 | {"pos_att_type": "c2p"})


@case
def v2_model_p2c():
    """Position to content alone, by a layer of its own."""
    return model(TINY_V2 | {"pos_att_type": "p2c", "share_att_key": False})


@case
def v2_model_list():
    """The terms as a list, and the normalisation of the table in mixed case beside another word."""
    return model(TINY_V2 | {"pos_att_type": ["c2p", "p2c"], "norm_rel_ebd": "none | Layer_Norm"}, {"plain": plain()})


@case
def v2_model_unknown_term():
    """A term that does not exist and one that is named twice: the scale counts c2p and p2c, each once."""
    return model(TINY_V2 | {"pos_att_type": "c2p|p2p|c2p"}, {"plain": plain()})


@case
def v2_model_absolute():
    """Absolute positions and two token types beside relative positions; all arguments at once, given embeddings."""
    types = integers([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 1, 1]])
    inputs = {
        "plain": plain(),
        "everything": masked("everything", 61, "11111111", "11111000", "00111111")
        | {
            "token_type_ids": types,
            "position_ids": integers([[7, 6, 5, 4, 3, 2, 1, 0], list(range(8)), [0, 0, 0, 1, 2, 3, 4, 5]]),
        },
        "position-ids-of-one": {
            "input_ids": ids("positions", 2, 7, V),
            "position_ids": integers([[6, 5, 4, 3, 2, 1, 20]]),
        },
        "embeddings": {"inputs_embeds": normal("absolute", 2, 6, H), "attention_mask": mask("111111", "111000")},
    }
    few = ["position-ids-of-one", "embeddings"]
    return model(BASE_V2 | {"position_biased_input": True, "type_vocab_size": 2}, inputs, few=few)


@case
def v2_model_no_relative():
    """Absolute positions alone. The table and its terms are configured, and only the layer norm of the table is there,
    which nothing uses; the scale counts both terms."""
    return model(TINY_V2 | {"relative_attention": False, "position_biased_input": True})


@case
def v2_model_embedding_size():
    """Embeddings narrower than the model, with three token types."""
    types = integers([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0, 0]])
    narrow = {"inputs_embeds": normal("narrow", 2, 7, 10), "attention_mask": mask("1111111", "1111100")}
    inputs = {"plain": plain(), "embeddings": narrow | {"token_type_ids": types}}
    return model(TINY_V2 | {"embedding_size": 10, "type_vocab_size": 3}, inputs, few=[])


@case
def v2_model_long():
    """More tokens than relative positions, of which there are 12: where a token is 12 or more before another, the row
    is 0, which shorter texts never use; after another, the last. An odd number of buckets."""
    inputs = {
        "plain": plain(n=11),
        "far": plain("far", n=17),
        "beyond-positions": masked("far", 61, "1" * 25, "1" * 19 + "0" * 6, "0" * 3 + "1" * 22),
    }
    return model(TINY_V2 | {"position_buckets": 5, "max_relative_positions": 12}, inputs, few=["beyond-positions"])


@case
def v2_model_rounding():
    """Buckets that the frameworks round differently: a token that is 14 before another has row 1 in PyTorch and row 0
    in TensorFlow, which rounds the ratio of the logarithms elsewhere. So the traces of the two differ."""
    return model(TINY_V2 | {"max_relative_positions": 15}, {"plain": plain(n=15)})


@case
def v2_model_eps():
    """A layer_norm_eps that shows, in the layer norms of the table and of the convolution, too."""
    return model(TINY_V2 | CONVOLUTION | {"layer_norm_eps": 0.05}, {"plain": plain()})


@case
def v2_model_pair_masks():
    """Masks of pairs. As transformers can: as many tokens as features, and rows of one value. And with its embeddings
    multiplied by 1 for every row that allows a key, which is done to transformers while recording: a causal mask, and
    one with blocks and a row of its own."""
    rows = mask("1" * 11 + "0" * 5, "0" * 4 + "1" * 12)
    triangle = [[[int(j <= i) for j in range(9)] for i in range(9)]]
    blocks = [[[int(i // 3 == j // 3 and i != 4) for j in range(9)] for i in range(9)]]
    inputs = {
        "rows": {"input_ids": ids("rows", 2, 16, 61), "attention_mask": floats(rows[:, :, None].repeat(16, 2))},
        "causal": plain("causal", n=9) | {"attention_mask": floats(triangle)},
        "blocks": plain("blocks", n=9) | {"attention_mask": floats(blocks)},
    }
    reason = "transformers multiplies the embeddings by the mask of pairs, which only fits as many tokens as features"
    of_rows = ["causal", "blocks"]
    absent = dict.fromkeys(of_rows, reason)
    return model(TINY_V2, inputs, few=["rows"], mask_of_rows=frozenset(of_rows), no_tensorflow=absent)


@case
def v2_model_f16():
    """Weights stored as f16, computed in f32."""
    return model(TINY_V2 | CONVOLUTION, dtype="F16")


# Masked language modelling


@case
def v2_masked_lm():
    """The head under cls.predictions, which decodes by the word embeddings."""
    loss = padded("loss") | {"labels": masked_labels("loss", 3, 12)}
    inputs = {"plain": plain(n=16), "padded": padded(), "loss": loss}
    return make("DebertaV2ForMaskedLM", BASE_V2, inputs, outputs_only=frozenset(["padded", "loss"]))


@case
def v2_masked_lm_embedding_size():
    """Embeddings narrower than the model: the head's transform narrows too."""
    narrow = {"inputs_embeds": normal("head", 2, 5, 13), "labels": masked_labels("narrow", 2, 5)}
    inputs = {"plain": plain(), "embeddings": narrow}
    return make("DebertaV2ForMaskedLM", TINY_V2 | {"embedding_size": 13}, inputs)


@case
def v2_masked_lm_untied():
    """A decoder of its own under cls.predictions."""
    reason = "the TensorFlow class always decodes by the word embeddings"
    inputs = {"plain": plain(), "loss": plain("loss") | {"labels": masked_labels("untied", 1, 12)}}
    config = TINY_V2 | {"tie_word_embeddings": False}
    few = frozenset(["loss"])
    return make("DebertaV2ForMaskedLM", config, inputs, outputs_only=few, no_tensorflow={"": reason})


NO_NEW_HEAD = "the TensorFlow class has only the head under cls.predictions"
NEW_HEAD = {"legacy": False, "tie_word_embeddings": False}


@case
def v2_masked_lm_new():
    """The head under lm_predictions, in a configuration that transformers can load: tie_word_embeddings false."""
    inputs = {"plain": plain(), "loss": padded("loss") | {"labels": masked_labels("loss", 3, 12)}}
    few, reason = frozenset(["loss"]), {"": NO_NEW_HEAD}
    return make("DebertaV2ForMaskedLM", TINY_V2 | NEW_HEAD, inputs, outputs_only=few, no_tensorflow=reason)


# The other heads of transformers


@case
def v2_sequence_single_label():
    """Three labels; the label -100 is ignored, soft labels are told by their shape."""
    inputs = {
        "plain": plain(),
        "loss": padded("loss") | {"labels": integers([2, 0, 1])},
        "loss-ignored": padded("loss") | {"labels": integers([2, -100, 1])},
        "loss-soft": padded("loss") | {"labels": floats([[0.2, 0.5, 0.3], [1, 0, 0], [0.1, 0.1, 0.8]])},
    }
    return make(
        "DebertaV2ForSequenceClassification",
        TINY_V2 | {"num_labels": 3, "cls_dropout": 0.3},
        inputs,
        outputs_only=frozenset(name for name in inputs if name.startswith("loss")),
        no_tensorflow={
            "loss-ignored": "TensorFlow's loss refuses negative labels",
            "loss-soft": "TensorFlow's loss knows classes alone",
        },
    )


@case
def v2_sequence_regression():
    """One label: a number. The names of the labels say how many there are."""
    config = TINY_V2 | {"id2label": {"0": "similarity"}, "label2id": {"similarity": 0}, "pooler_hidden_act": "tanh"}
    inputs = {"plain": plain(), "loss": padded("loss") | {"labels": floats([0.5, -1.25, 3.0])}}
    return make("DebertaV2ForSequenceClassification", config, inputs, outputs_only=frozenset(["loss"]))


@case
def v2_sequence_multi_label():
    """Any of four labels at once, on v2's convolution."""
    config = TINY_V2 | CONVOLUTION | {"num_labels": 4, "problem_type": "multi_label_classification"}
    inputs = {"loss": padded("loss") | {"labels": floats([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0.5, 0]])}}
    reason = {"loss": "TensorFlow's loss is cross-entropy whenever there are several labels"}
    return make("DebertaV2ForSequenceClassification", config, inputs, no_tensorflow=reason)


@case
def v2_token_classification():
    """Five labels a token; -100 is ignored."""
    labels = generator("tokens").integers(0, 5, (3, 12))
    labels[1, :3] = labels[0, 10:] = -100
    inputs = {"plain": plain(), "padded": padded(), "loss": padded("loss") | {"labels": labels}}
    few = frozenset(["padded", "loss"])
    return make("DebertaV2ForTokenClassification", TINY_V2 | {"num_labels": 5}, inputs, outputs_only=few)


@case
def v2_question_answering():
    """Start and end; positions outside of the text are clamped to it or ignored."""
    loss = padded("loss") | {"start_positions": integers([0, 3, 9]), "end_positions": integers([4, 11, 9])}
    # Twelve tokens: 12 and above are ignored, negative ones are 0.
    outside = padded("loss") | {"start_positions": integers([-7, 3, 12]), "end_positions": integers([14, 9, 400])}
    return make(
        "DebertaV2ForQuestionAnswering",
        TINY_V2,
        {"plain": plain(), "padded": padded(), "loss": loss, "loss-outside": outside},
        outputs_only=frozenset(["padded", "loss", "loss-outside"]),
        no_tensorflow={"loss-outside": "TensorFlow's loss refuses positions outside of the text"},
    )


@case
def v2_multiple_choice():
    """Several texts a question, one number each; num_labels does not count. Activations have a row for every text."""
    texts = ["11111111111", "11111110000", "11111111000", "11111100000", "11111111111", "00111111110"]
    rows = {key: value.reshape(2, 3, 11) for key, value in masked("choices", 61, *texts).items()}
    rows["token_type_ids"] = generator("choices").integers(0, 2, (2, 3, 11))
    inputs = {
        "plain": {"input_ids": ids("plain", 4, 12, 61)[None]},
        "padded": rows,
        "loss": rows | {"labels": integers([2, 0])},
        "position-ids": {
            "input_ids": ids("positions", 6, 7, 61).reshape(2, 3, 7),
            "position_ids": generator("positions").integers(0, 18, (2, 3, 7)),
        },
        "embeddings": {"inputs_embeds": normal("choices", 1, 2, 6, 16), "labels": integers([1])},
    }
    config = TINY_V2 | {"num_labels": 3, "type_vocab_size": 2, "position_biased_input": True}
    few = frozenset(set(inputs) - {"plain"})
    return make("DebertaV2ForMultipleChoice", config, inputs, outputs_only=few)


# The heads of Microsoft's code


def decoder(config, inputs, **more):
    """A case of the enhanced mask decoder. Its labels are -100 or above 0: Microsoft's loss leaves out 0, too."""
    inputs |= {"loss": padded("loss") | {"labels": masked_labels("decoder", 3, 12, lowest=1)}}
    return make(
        "DebertaV2ForMaskedLM",
        config | NEW_HEAD,
        inputs,
        outputs_only=frozenset(["loss"]),
        no_pytorch={name: "the mask decoder alone" for name in inputs if name != "plain"},
        no_tensorflow={"": NO_NEW_HEAD},
        microsoft="emd",
        **more,
    )


@case
def v2_mask_decoder():
    """A pre-training checkpoint as Microsoft publishes it: the last layer decodes twice, from absolute positions. The
    PyTorch traces are what transformers makes of it."""
    places = plain("positions", n=9) | {"position_ids": integers([[8, 7, 6, 5, 4, 3, 2, 1, 20]])}
    # Distances of 21 to 23 are beyond the relative positions, of which there are as many as positions: 21.
    long = plain("long", n=24) | {"position_ids": integers([[*range(21), 18, 19, 20]])}
    long |= {"labels": masked_labels("long", 1, 24, lowest=1)}
    inputs = {"plain": plain(), "position-ids": places, "long": long}
    return decoder(BASE_V2 | {"num_hidden_layers": 3}, inputs, clamped=frozenset(["long"]))


@case
def v2_mask_decoder_conv():
    """With two layers the mask decoder starts from what the convolution made of the first; it has none itself."""
    return decoder(TINY_V2 | CONVOLUTION, {"plain": plain()})


def before_replacement(input_ids):
    """Labels of the detection of replaced tokens: three tenths are 0, as many other tokens, the rest the same."""
    labels, random = input_ids.copy(), generator("replaced")
    replaced = random.random(labels.shape)
    labels[replaced < 0.6] = random.integers(1, 61, labels.shape)[replaced < 0.6]
    labels[replaced < 0.3] = 0
    labels[0, 1] = -100
    return labels


@case
def v2_replaced_tokens():
    """A discriminator as Microsoft publishes v3: which tokens a generator replaced. The checkpoint has the head of
    masked language modelling and absolute positions, too, which this class does not use. A label is the token that
    the text had, or 0 or less where the generator was not asked."""
    inputs = {"plain": plain(n=16), "padded": padded(), "loss": padded("replaced"), "long": plain("long", n=24)}
    for name in ("loss", "long"):
        inputs[name]["labels"] = before_replacement(inputs[name]["input_ids"])
    return make(
        "ReplacedTokenDetectionModel",
        BASE_V2,
        inputs,
        clamped=frozenset(["long"]),
        recorded_with=NEW_HEAD,
        no_pytorch={"": "transformers has no such class"},
        no_tensorflow={"": "transformers has no such class"},
        microsoft="rtd",
    )
