"""The cases of version 1, one function each: its name is the folder's, its docstring the description; and all cases by
their names. Needs numpy alone."""

import cases_v2  # noqa: F401  adds its cases to CASES
from case import CASES, case, floats, generator, ids, integers, make, mask, masked, masked_labels, normal

# Small, and no two of hidden, intermediate, vocabulary, positions and heads alike, so that a mixed-up shape shows.
V, H = 89, 24
BASE = {
    "vocab_size": V,
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 34,
    "max_position_embeddings": 20,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["c2p", "p2c"],
}
TINY = BASE | {"vocab_size": 61, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 22}
ABSOLUTE = BASE | {"relative_attention": False, "position_biased_input": True, "pos_att_type": None}


def selected(names):
    """Name and case of all cases, or of those named."""
    unknown = set(names) - {name for name, _ in CASES}
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    for name, function in CASES:
        if not names or name in names:
            described = function()
            described.description = " ".join(function.__doc__.split())
            yield name, described


def plain(seed="plain", n=9):
    """One sequence, longer than two times the heads of BASE, without a mask."""
    return {"input_ids": ids(seed, 1, n, 61)}


def padded(seed="padded"):
    """Padding on the right, on the left, and in the middle."""
    return masked(seed, 61, "1111111100", "0001111111", "1110011011")


# The base model


@case
def model():
    """The base model with both position terms: batches, lengths, paddings, a batch as large as the heads are many."""
    config = BASE | {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 42}
    inputs = {
        "plain": plain(n=10),
        "padded": padded(),
        "one-token": {"input_ids": ids("one", 2, 1, V)},
        "fewer-tokens-than-heads": {"input_ids": ids("few", 2, 3, V)},
        "as-many-tokens-as-heads": {"input_ids": ids("same", 3, 4, V)},
        "batch-of-heads": masked("batch", V, "11111", "11110", "01111", "11011"),
        "nothing-allowed": masked("nothing", V, "111111", "000000"),
        "all-positions": {"input_ids": ids("all", 1, 20, V)},
        "beyond-positions": masked("beyond", V, "1" * 27, "1" * 22 + "0" * 5),
    }
    few = ["batch-of-heads", "nothing-allowed", "all-positions", "beyond-positions"]
    return make("DebertaModel", config, inputs, outputs_only=frozenset(few))


@case
def model_c2p():
    """Content to position alone."""
    return make("DebertaModel", BASE | {"pos_att_type": ["c2p"]}, {"plain": plain(), "padded": padded()})


@case
def model_p2c():
    """Position to content alone."""
    return make("DebertaModel", BASE | {"pos_att_type": ["p2c"]}, {"plain": plain(), "padded": padded()})


@case
def model_no_terms():
    """Relative attention whose list of terms is empty: a table that nothing uses."""
    return make("DebertaModel", BASE | {"pos_att_type": []}, {"plain": plain()})


@case
def model_terms_in_a_string():
    """The terms as one string, in mixed case and with spaces."""
    return make("DebertaModel", BASE | {"pos_att_type": "c2p | P2C"}, {"plain": plain()})


@case
def model_none_in_a_string():
    """The string "None" for the terms: no term is computed, and the scale counts one."""
    return make("DebertaModel", ABSOLUTE | {"pos_att_type": "None"}, {"plain": plain()})


@case
def model_terms_that_only_scale():
    """Terms without relative attention: none is computed, and the scale counts two."""
    return make("DebertaModel", ABSOLUTE | {"pos_att_type": ["c2p", "p2c"]}, {"plain": plain()})


@case
def model_unknown_term():
    """A term that does not exist: it counts in the scale and nowhere else."""
    return make("DebertaModel", BASE | {"pos_att_type": ["c2p", "p2p"]}, {"plain": plain()})


@case
def model_short_spans():
    """At most 4 relative positions: longer distances share a row of the table."""
    inputs = {
        "plain": plain(n=11),
        "within": plain("within", n=4),
        "shorter": plain("shorter", n=3),
        "beyond-positions": masked("short", 61, "1" * 25, "0" * 6 + "1" * 19),
    }
    few = frozenset(["beyond-positions"])
    return make("DebertaModel", BASE | {"max_relative_positions": 4}, inputs, outputs_only=few)


@case
def model_long_spans():
    """More relative positions than absolute ones."""
    inputs = {"plain": plain(), "beyond-positions": plain("long", n=26)}
    few = frozenset(["beyond-positions"])
    return make("DebertaModel", BASE | {"max_relative_positions": 31}, inputs, outputs_only=few)


@case
def model_absolute():
    """Absolute positions, no relative attention; given positions, given embeddings."""
    inputs = {
        "plain": plain(),
        "padded": padded(),
        "all-positions": {"input_ids": ids("absolute", 1, 20, V)},
        "position-ids": {
            "input_ids": ids("positions", 2, 7, V),
            "position_ids": generator("positions").integers(0, 20, (2, 7)),
        },
        "position-ids-of-one": {
            "input_ids": ids("positions", 2, 7, V),
            "position_ids": integers([[6, 5, 4, 3, 2, 1, 19]]),
        },
        "embeddings": {"inputs_embeds": normal("absolute", 2, 6, H), "attention_mask": mask("111111", "111000")},
    }
    few = frozenset(["all-positions", "position-ids-of-one"])
    return make("DebertaModel", ABSOLUTE, inputs, outputs_only=few)


@case
def model_both_positions():
    """Absolute and relative positions, two token types, all arguments at once."""
    config = BASE | {"position_biased_input": True, "type_vocab_size": 2}
    everything = masked("everything", 61, "11111111", "11111000", "00111111") | {
        "token_type_ids": integers([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 1, 1]]),
        "position_ids": integers([[7, 6, 5, 4, 3, 2, 1, 0], list(range(8)), [0, 0, 0, 1, 2, 3, 4, 5]]),
    }
    return make("DebertaModel", config, {"plain": plain(), "everything": everything})


@case
def model_token_types():
    """Three token types and no absolute positions."""
    types = {"input_ids": ids("types", 2, 6, V), "token_type_ids": integers([[0, 0, 1, 1, 2, 2], [2, 1, 0, 0, 1, 2]])}
    return make("DebertaModel", BASE | {"type_vocab_size": 3}, {"plain": plain(n=6), "types": types})


@case
def model_embedding_size():
    """Embeddings narrower than the model, with absolute positions and token types."""
    config = BASE | {"embedding_size": 14, "position_biased_input": True, "type_vocab_size": 2}
    inputs = {
        "plain": plain(),
        "embeddings": {
            "inputs_embeds": normal("narrow", 2, 7, 14),
            "attention_mask": mask("1111111", "1111100"),
            "token_type_ids": integers([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0]]),
        },
    }
    reason = "TensorFlow's position table has the width of the model, not of the embeddings"
    return make("DebertaModel", config, inputs, no_tensorflow={"": reason})


@case
def model_talking_head():
    """Heads mixed before and after the softmax."""
    inputs = {"plain": plain(), "padded": padded()}
    reason = "the TensorFlow class cannot be built with talking_head"
    return make("DebertaModel", BASE | {"talking_head": True}, inputs, no_tensorflow={"": reason})


@case
def model_eps():
    """A layer_norm_eps that shows."""
    return make("DebertaModel", BASE | {"layer_norm_eps": 0.05}, {"plain": plain()})


@case
def model_pair_masks():
    """Masks of pairs. As transformers can: as many tokens as features, and rows of one value. And with its embeddings
    multiplied by 1 for every row that allows a key, which is done to transformers while recording: a causal mask, and
    one with blocks and a row of its own."""
    rows = mask("1" * 11 + "0" * 5, "0" * 4 + "1" * 12)
    triangle = [[[int(j <= i) for j in range(9)] for i in range(9)]]
    blocks = [[[int(i // 3 == j // 3 and i != 4) for j in range(9)] for i in range(9)]]
    inputs = {
        "rows": {"input_ids": ids("rows", 2, 16, 61), "attention_mask": floats(rows[:, :, None].repeat(16, 2))},
        "causal": plain("causal") | {"attention_mask": floats(triangle)},
        "blocks": plain("blocks") | {"attention_mask": floats(blocks)},
    }
    reason = "transformers multiplies the embeddings by the mask of pairs, which only fits as many tokens as features"
    return make(
        "DebertaModel",
        TINY,
        inputs,
        mask_of_rows=frozenset(["causal", "blocks"]),
        no_tensorflow={"causal": reason, "blocks": reason},
    )


@case
def model_bf16():
    """Weights stored as bf16, computed in f32."""
    return make("DebertaModel", BASE, {"plain": plain(), "padded": padded()}, dtype="BF16")


@case
def model_f16():
    """Weights stored as f16, computed in f32."""
    config = BASE | {"pos_att_type": ["p2c", "c2p"], "position_biased_input": True}
    return make("DebertaModel", config, {"plain": plain(), "padded": padded()}, dtype="F16")


# Masked language modelling


def masked_lm_inputs():
    return {
        "plain": plain(),
        "padded": padded(),
        "loss": padded("loss") | {"labels": masked_labels("loss", 3, 10)},
    }


@case
def masked_lm():
    """The head under cls.predictions, which decodes by the word embeddings."""
    return make("DebertaForMaskedLM", BASE, masked_lm_inputs(), outputs_only=frozenset(["loss"]))


@case
def masked_lm_absolute():
    """Masked language modelling with absolute positions and token types."""
    config = ABSOLUTE | {"type_vocab_size": 2, "hidden_act": "gelu_new"}
    return make("DebertaForMaskedLM", config, {"loss": plain("loss") | {"labels": masked_labels("one", 1, 9)}})


@case
def masked_lm_untied():
    """A decoder of its own under cls.predictions."""
    reason = "the TensorFlow class always decodes by the word embeddings"
    inputs = {"plain": plain(), "loss": plain("loss") | {"labels": masked_labels("untied", 1, 9)}}
    config = BASE | {"tie_word_embeddings": False}
    return make("DebertaForMaskedLM", config, inputs, no_tensorflow={"": reason})


@case
def masked_lm_embedding_size():
    """Embeddings narrower than the model: the head's transform narrows too."""
    inputs = {
        "plain": plain(),
        "embeddings": {"inputs_embeds": normal("head", 2, 5, 13), "labels": masked_labels("narrow", 2, 5)},
    }
    return make("DebertaForMaskedLM", BASE | {"embedding_size": 13}, inputs)


NO_NEW_HEAD = "the TensorFlow class has only the head under cls.predictions"


@case
def masked_lm_new():
    """The head under lm_predictions, in a configuration that transformers can load: tie_word_embeddings false."""
    config = BASE | {"legacy": False, "tie_word_embeddings": False}
    few = frozenset(["loss"])
    return make("DebertaForMaskedLM", config, masked_lm_inputs(), outputs_only=few, no_tensorflow={"": NO_NEW_HEAD})


@case
def masked_lm_new_tied():
    """The head under lm_predictions with tie_word_embeddings true, with which transformers fails. Recorded with
    tie_word_embeddings false: the head decodes by the word embeddings either way."""
    return make(
        "DebertaForMaskedLM",
        BASE | {"legacy": False, "hidden_act": "silu"},
        {"plain": plain()},
        recorded_with={"tie_word_embeddings": False},
        no_tensorflow={"": NO_NEW_HEAD},
    )


# Sequence classification


@case
def sequence_classification():
    """Three labels, dropout configured everywhere; the label -1 is ignored, soft labels are told by their shape."""
    config = BASE | {
        "num_labels": 3,
        "cls_dropout": 0.3,
        "pooler_dropout": 0.2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    inputs = {
        "plain": plain(),
        "padded": padded(),
        "loss": padded("loss") | {"labels": integers([2, 0, 1])},
        "loss-ignored": padded("loss") | {"labels": integers([2, -1, 1])},
        "loss-all-ignored": padded("loss") | {"labels": integers([-1, -1, -1])},
        "loss-soft": padded("loss") | {"labels": floats([[0.2, 0.5, 0.3], [1, 0, 0], [0.1, 0.1, 0.8]])},
    }
    return make(
        "DebertaForSequenceClassification",
        config,
        inputs,
        outputs_only=frozenset(name for name in inputs if name.startswith("loss")),
        no_tensorflow={
            "loss-ignored": "TensorFlow's loss refuses negative labels",
            "loss-all-ignored": "TensorFlow's loss refuses negative labels",
            "loss-soft": "TensorFlow's loss knows classes alone",
        },
    )


@case
def sequence_regression():
    """One label: a number. The names of the labels say how many there are."""
    config = TINY | {"id2label": {"0": "similarity"}, "label2id": {"similarity": 0}, "pooler_hidden_act": "tanh"}
    inputs = {"plain": plain(), "loss": padded("loss") | {"labels": floats([0.5, -1.25, 3.0])}}
    return make("DebertaForSequenceClassification", config, inputs)


@case
def sequence_regression_named():
    """One label, and problem_type says regression."""
    config = TINY | {"num_labels": 1, "problem_type": "regression"}
    inputs = {"loss": padded("loss") | {"labels": floats([0.5, -1.25, 3.0])}}
    return make("DebertaForSequenceClassification", config, inputs)


@case
def sequence_regression_several():
    """Three numbers a sequence."""
    config = TINY | {"num_labels": 3, "problem_type": "regression"}
    inputs = {"loss": padded("loss") | {"labels": normal("targets", 3, 3)}}
    reason = {"loss": "TensorFlow's loss is cross-entropy whenever there are several labels"}
    return make("DebertaForSequenceClassification", config, inputs, no_tensorflow=reason)


@case
def sequence_single_label():
    """problem_type says one of four labels; -100 is ignored."""
    config = TINY | {"num_labels": 4, "problem_type": "single_label_classification"}
    inputs = {
        "loss": padded("loss") | {"labels": integers([3, 0, 2])},
        "loss-ignored": padded("loss") | {"labels": integers([3, -100, 1])},
    }
    reason = {"loss-ignored": "TensorFlow's loss refuses negative labels"}
    return make("DebertaForSequenceClassification", config, inputs, no_tensorflow=reason)


@case
def sequence_multi_label():
    """Any of four labels at once."""
    config = TINY | {"num_labels": 4, "problem_type": "multi_label_classification"}
    inputs = {"loss": padded("loss") | {"labels": floats([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0.5, 0]])}}
    reason = {"loss": "TensorFlow's loss is cross-entropy whenever there are several labels"}
    return make("DebertaForSequenceClassification", config, inputs, no_tensorflow=reason)


# Token classification and question answering


@case
def token_classification():
    """Five labels a token; -100 is ignored."""
    labels = generator("tokens").integers(0, 5, (3, 10))
    labels[1, :3] = labels[0, 8:] = -100
    inputs = {"plain": plain(), "padded": padded(), "loss": padded("loss") | {"labels": labels}}
    config = BASE | {"num_labels": 5}
    return make("DebertaForTokenClassification", config, inputs, outputs_only=frozenset(["loss"]))


@case
def question_answering():
    """Start and end; positions outside of the text are clamped to it or ignored."""
    loss = padded("loss") | {"start_positions": integers([0, 3, 9]), "end_positions": integers([4, 9, 9])}
    # Ten tokens: 10 and above are ignored, negative ones are 0.
    outside = padded("loss") | {"start_positions": integers([-7, 3, 10]), "end_positions": integers([14, 9, 400])}
    return make(
        "DebertaForQuestionAnswering",
        BASE,
        {"plain": plain(), "padded": padded(), "loss": loss, "loss-outside": outside},
        outputs_only=frozenset(["loss", "loss-outside"]),
        no_tensorflow={"loss-outside": "TensorFlow's loss refuses positions outside of the text"},
    )


# Every activation, in the feed-forward layers and in the pooler


ACTIVATIONS = [
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "relu",
    "silu",
    "swish",
    "tanh",
    "mish",
    "linear",
    "sigmoid",
]


def activation(name, pooler):
    def described():
        config = TINY | {"num_hidden_layers": 1, "hidden_act": name, "pooler_hidden_act": pooler, "num_labels": 2}
        unknown = [act for act in (name, pooler) if act in ("linear", "gelu_pytorch_tanh")]
        reason = {"": f"TensorFlow does not know the activation {unknown[0]}"} if unknown else {}
        inputs = {"plain": plain(n=6)}
        return make("DebertaForSequenceClassification", config, inputs, no_tensorflow=reason)

    described.__name__ = f"activation_{name}"
    described.__doc__ = f"The activation {name}, and {pooler} in the pooler."
    return case(described)


for at, act in enumerate(ACTIVATIONS):
    activation(act, ACTIVATIONS[(at + 4) % len(ACTIVATIONS)])


# The enhanced mask decoder


@case
def mask_decoder():
    """A pre-training checkpoint as Microsoft publishes it: the last layer decodes twice, from absolute positions. The
    PyTorch traces are what transformers makes of it."""
    config = BASE | {"num_hidden_layers": 3, "legacy": False, "tie_word_embeddings": False}
    inputs = {
        "plain": plain(),
        "padded": padded(),
        "nothing-allowed": masked("nothing", 61, "111111", "000000"),
        "all-positions": {"input_ids": ids("decoder", 1, 20, V)},
        "loss": padded("loss") | {"labels": masked_labels("decoder", 3, 10)},
        "position-ids": plain("positions") | {"position_ids": integers([[8, 7, 6, 5, 4, 3, 2, 1, 19]])},
    }
    return make(
        "DebertaForMaskedLM",
        config,
        inputs,
        outputs_only=frozenset(set(inputs) - {"plain"}),
        no_pytorch={name: "the mask decoder alone" for name in inputs if name not in ("plain", "padded")},
        no_tensorflow={"": NO_NEW_HEAD},
        microsoft="emd",
    )


@case
def mask_decoder_biased():
    """With absolute positions in the input the mask decoder is the last layer, once."""
    config = BASE | {"legacy": False, "tie_word_embeddings": False, "position_biased_input": True}
    return make(
        "DebertaForMaskedLM",
        config,
        {"plain": plain(), "padded": padded()},
        outputs_only=frozenset(["padded"]),
        no_tensorflow={"": NO_NEW_HEAD},
        microsoft="emd",
    )
