"""The recorder: goldens from the models of transformers, in PyTorch and TensorFlow.

```text
command            the program deberta-record
golden             record: a golden as a folder, from a model
  loading            the model: by transformers, from a folder or the hub, complete and in f32
    weights            the tensors of its files
    settings           what its configuration says
    classes            the classes that can be recorded
  inputs             inputs that make a model use all that it has
  texts              texts and their tokens
  tokenizer_digest   the digest of the tokenizer
  taking             a run of the model, taken whole or as samples
    pytorch            runs a PyTorch model, by hooks
      points             which points there are, and what they are called
    tensorflow         runs a TensorFlow model
    padding            which numbers are of tokens
    samples            samples and statistics
      stream             random numbers of a name
  layers             the states between the layers
  sizes              what fits
  digest, blake3     the weight digest
  case               case.yaml
  output             whole or not at all
callback           a golden at the end of transformers' Trainer
safetensors_file   files with the same bytes on every run
```

The scripts of golden/generate record the project's own goldens by these modules. Nothing here imports a framework before a
model is loaded."""

from .error import RecordError
from .golden import Golden, record

__all__ = ["Golden", "RecordError", "record"]
