"""A golden at the end of training."""

import pytest

pytest.importorskip("accelerate")


def test_the_trained_model_is_recorded(make, judge, tmp_path):
    import torch
    import transformers
    from deberta_verify import RecordGolden

    model = make("DebertaForSequenceClassification", hidden_dropout_prob=0.1)
    data = [{"input_ids": torch.arange(5, 11), "labels": torch.tensor(at % 2)} for at in range(8)]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=3, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    golden = RecordGolden(description="three steps")
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[golden])
    trainer.train()
    trainer.save_model(tmp_path / "model")
    assert golden.golden.folder == tmp_path / "out/golden"
    status, said = judge(tmp_path / "model", golden.golden.folder)
    assert status == 0, said
