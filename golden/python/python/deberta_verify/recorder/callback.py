"""A golden at the end of training, by transformers' Trainer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from .golden import Golden, record

log = logging.getLogger("deberta_verify.record")


class RecordGolden(TrainerCallback):
    """Records the model that a Trainer has trained, into the folder `golden` of its output_dir.

    ```python
    trainer = Trainer(model, arguments, …, callbacks=[RecordGolden(tokenizer=tokenizer, texts=["I love you."])])
    trainer.train()
    ```

    With `load_best_model_at_end` the best model is in memory by then. Only the first process records. A model that cannot be
    recorded faithfully ends the run by RecordError, after training; `trainer.save_model()` still saves it.
    """

    def __init__(self, *, out: str | Path | None = None, **options: Any) -> None:
        """`out`: another folder. The options are those of `record`."""
        self.out, self.options = out, options
        self.golden: Golden | None = None

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Records the model."""
        if not state.is_world_process_zero:
            return
        tokenizer = given.get("processing_class") or given.get("tokenizer")
        options = {"tokenizer": tokenizer, "overwrite": True} | self.options
        self.golden = record(given["model"], out=self.out or Path(args.output_dir) / "golden", **options)
        log.info("golden: %s, digest %s", self.golden.folder, self.golden.digest)
