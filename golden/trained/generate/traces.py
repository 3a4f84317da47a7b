"""The goldens of the trained models: what they are recorded with. As golden/generate/cases.py. Needs numpy alone."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "generate"))
from case import Case  # noqa: E402

MODELS = {
    "masked-lm": "A masked language model that learned who lives where; the last layer and the mask decoder.",
    "nli": "Natural language inference, in all four formats.",
    "similarity": "The similarity of two sentences.",
    "entities": "People, places and firms.",
    "questions": "Answers in a text, or none.",
    "choices": "One number that says how well an answer fits a text.",
    "v3-nli": "Natural language inference by version 3, in three formats, with all files of its tokenizer.",
    "v3-entities": "People, places and firms, by version 3.",
    "v3-questions": "Answers in a text, or none, by version 3.",
    "v3-choices": "Which of four answers fits a text, by version 3.",
    "v3-masked-lm": "A masked language model of version 3 that learned who lives where.",
    "v3-replaced-tokens": "A discriminator of version 3, which tells what is not so of who lives where.",
}
# A sentence, or a pair of them, that the model was not trained on.
TEXTS = {
    "masked-lm": [["Ada lives in[MASK] and works as a baker."], ["Peter likes[MASK]."]],
    "nli": [
        ["Ada owns a red kite and lives in Selby.", "The kite is red."],
        ["In Upton, Ben the baker has lost a blue tent.", "Ben is in Selby."],
    ],
    "similarity": [
        ["Ada has a red kite in Selby.", "In Selby, a red kite belongs to Ada."],
        ["Ada has a red kite in Selby.", "In Upton, a blue tent belongs to Ada."],
    ],
    "entities": [["Ada Lund works for Helix Bank in South Upton."], ["In Selby a cook saw Ben."]],
    "questions": [
        ["Where does Ada live?", "Ben likes honey. Ada lives in Selby. Clara slept well."],
        ["What does Ben own?", "Ada lives in Selby."],
    ],
    "choices": [["Ada lives in Selby. Ben likes soup.", f"Where does Ada live? {town}"] for town in ("Selby", "Upton")],
}
TEXTS |= {f"v3-{name}": TEXTS[name] for name in ("nli", "entities", "questions", "choices")}
TEXTS["v3-masked-lm"] = [["Ada likes [MASK] and lives in Caldmoor."], ["Peter likes [MASK]."]]
TEXTS["v3-replaced-tokens"] = [
    ["Ada lives in Norwick and works as a carpenter."],
    ["Peter likes plums and lives in Marston."],
]
NO_CLASS = {"": "transformers has no such class"}


def described(models, names):
    """Name and case of the models, or of those named."""
    for name in names or MODELS:
        folder = models / name
        config = json.loads((folder / "config.json").read_text())
        cls = config.get("architectures", ["ReplacedTokenDetectionModel"])[0]
        detects = cls == "ReplacedTokenDetectionModel"
        yield name, Case(
            MODELS[name],
            cls,
            {key: value for key, value in config.items() if key not in ("architectures", "model_type")},
            json_inputs(folder / "inputs.json"),
            no_tensorflow=NO_CLASS if detects else no_tensorflow(name),
            no_pytorch=NO_CLASS if detects else {},
            recorded_with={"legacy": False, "tie_word_embeddings": False} if detects else {},
            # logits of up to 34
            # Scores of answers reach 28, where single roundings are 2e-6.
            scale="1.0e-6" if name.startswith("v3-") or name == "choices" else "",
            microsoft="rtd" if detects else "emd" if name == "masked-lm" else "",
            outputs_only=frozenset({"texts"}),
        )


def no_tensorflow(name):
    return {"": "TFDebertaForMaskedLM has no such head"} if name == "masked-lm" else {}


def json_inputs(path):
    """Inputs that record.py leaves for record_tensorflow.py, which has no tokenizer."""
    return {
        name: {key: np.array(value, dtype=np.int64) for key, value in arguments.items()}
        for name, arguments in json.loads(path.read_text()).items()
    }
