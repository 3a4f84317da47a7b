"""The models in PyTorch, one text at a time and without padding; the answers of questions as transformers' `run_qa.py`
chooses them."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, DebertaTokenizerFast, DebertaV2TokenizerFast

sys.path.insert(0, str(Path(__file__).parents[3] / "golden" / "generate"))
import mask_decoder  # noqa: E402
import replaced_tokens  # noqa: E402
import package  # noqa: E402, F401
from deberta_verify.recorder import safetensors_file  # noqa: E402

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
POSITIONS = "deberta.embeddings.position_embeddings.weight"


TOKENIZERS = {"deberta": DebertaTokenizerFast, "deberta-v2": DebertaV2TokenizerFast}
DETECTION = "mask_predictions."


def load(folder, words=False):
    config = AutoConfig.from_pretrained(folder)
    weights = {k: torch.from_numpy(v.copy()) for k, v in safetensors_file.read(folder / "model.safetensors")[0].items()}
    detection = {name: weights.pop(name).float() for name in list(weights) if name.startswith(DETECTION)}
    name = "DebertaV2ForMaskedLM" if detection else config.architectures[0]
    if detection:
        # Beside the detection of replaced tokens is the head of the mask decoder.
        config.legacy, config.tie_word_embeddings = False, False
    model = getattr(transformers, name)(config).eval()
    model.detection, model.position_table = detection, weights.pop(POSITIONS, None)
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(weights), set(parameters) ^ set(weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    prefix = {"add_prefix_space": words} if config.model_type == "deberta" else {}
    return model, TOKENIZERS[config.model_type].from_pretrained(folder, **prefix)


def logits(model, tokenizer, texts):
    """The logits of every pair of texts; of multiple choice those of a question with one choice."""
    choices = "MultipleChoice" in type(model).__name__

    def one(pair):
        given = inputs(tokenizer(*pair, return_tensors="pt"))
        return model(**{name: value[None] if choices else value for name, value in given.items()}).logits[0]

    with torch.no_grad():
        return torch.stack([one(pair) for pair in texts]).numpy()


def detected(model, ids):
    """The logits of all tokens, above 0 for those that were replaced."""
    with torch.no_grad():
        return replaced_tokens.run(model, model.detection, torch.tensor([ids]))["outputs.logits"][0].numpy()


def inputs(encoding):
    return {name: torch.as_tensor(encoding[name]) for name in ("input_ids", "attention_mask")}


def word_labels(model, tokenizer, sentences):
    """The label of every word: that of its first token."""
    labels = []
    for words in sentences:
        encoding = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            best = model(**inputs(encoding)).logits[0].argmax(-1).tolist()
        ids = encoding.word_ids()
        first = {word: at for at, word in reversed(list(enumerate(ids))) if word is not None}
        labels.append([model.config.id2label[best[first[at]]] for at in range(len(words))])
    return labels


def answers(model, tokenizer, path, length, stride, n_best, negative, longest=30):
    """The best text of every question, and by how much no answer is better."""
    texts, none = {}, {}
    paragraphs = [p for article in json.loads(path.read_text())["data"] for p in article["paragraphs"]]
    for paragraph in paragraphs:
        for qas in paragraph["qas"]:
            encoding = tokenizer(
                qas["question"].lstrip(),
                paragraph["context"],
                truncation="only_second",
                max_length=length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            windows = []
            for at in range(len(encoding["input_ids"])):
                with torch.no_grad():
                    output = model(**{k: torch.tensor([encoding[k][at]]) for k in ("input_ids", "attention_mask")})
                inside = [each == 1 for each in encoding.sequence_ids(at)]
                offsets = [o if i else None for o, i in zip(encoding["offset_mapping"][at], inside)]
                windows.append((output.start_logits[0].numpy(), output.end_logits[0].numpy(), offsets))
            texts[qas["id"]], none[qas["id"]] = choose(paragraph["context"], windows, n_best, longest, negative)
    return texts, none


def choose(context, windows, n_best, longest, negative):
    """What `postprocess_qa_predictions` does, written anew."""
    spans, null = [], None
    for start_logits, end_logits, offsets in windows:
        score = start_logits[0] + end_logits[0]
        if null is None or score < null[0]:
            null = (score, (0, 0), start_logits[0], end_logits[0])
        for start in np.argsort(start_logits)[: -n_best - 1 : -1].tolist():
            for end in np.argsort(end_logits)[: -n_best - 1 : -1].tolist():
                if offsets[start] is None or offsets[end] is None:
                    continue
                if start <= end < start + longest:
                    span = (offsets[start][0], offsets[end][1])
                    spans.append((start_logits[start] + end_logits[end], span, start_logits[start], end_logits[end]))
    if negative:
        spans.append(null)
    spans = sorted(spans, key=lambda span: span[0], reverse=True)[:n_best]
    texts = [(context[slice(*span[1])], span) for span in spans]
    if not negative:
        return texts[0][0], 0.0
    text, best = next(each for each in texts if each[0])
    return text, float(null[0] - best[2] - best[3])


def pseudo_likelihoods(folder, lines, decoder):
    """The sum of the log-probabilities of every line's tokens, each masked in turn; how many of them are guessed, of how
    many."""
    model, tokenizer = load(folder)
    sums, right, count = [], 0, 0
    for line in lines:
        encoding = tokenizer(line, return_tensors="pt", return_special_tokens_mask=True)
        ids, places = encoding["input_ids"][0], (encoding["special_tokens_mask"][0] == 0).nonzero()[:, 0]
        masked = ids.repeat(len(places), 1)
        masked[range(len(places)), places] = tokenizer.mask_token_id
        arguments = {"input_ids": masked, "attention_mask": torch.ones_like(masked)}
        with torch.no_grad():
            if decoder == "emd":
                made = mask_decoder.run(model, model.position_table, **arguments)["outputs.logits"]
            else:
                made = model(**arguments).logits
        made = made[range(len(places)), places].double().log_softmax(-1)
        targets = ids[places]
        sums.append(float(made[range(len(places)), targets].sum()))
        right += int((made.argmax(-1) == targets).sum())
        count += len(places)
    return sums, right, count
