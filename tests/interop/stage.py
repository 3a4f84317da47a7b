"""Lays every case out below one folder, each source alone with its configuration, so that a loader cannot pick another file."""

import json
import shutil

from cases import RANDOM


class Staged:
    """A case with its folder, and the files that the checks compare with."""

    def __init__(self, case, folder):
        self.case, self.folder = case, folder
        self.truth = folder / "truth.safetensors"
        """The tensors under today's names."""
        self.keras_truth = folder / "truth.keras.safetensors"
        """The same as HDF5 can hold them: bfloat16 as float32."""
        self.before = folder / "before.npz"
        """What PyTorch computes from them."""
        self.tf_before = folder / "before.tf.npz"
        """What TensorFlow computes from its own file, when there is one."""

    @property
    def config(self):
        folder = next(iter(self.case.sources.values())).parent
        microsoft = folder / "model_config.json"
        return microsoft if microsoft.exists() else folder / "config.json"

    def out(self, name):
        return self.folder / name


def stage(case, folder):
    """Copies the sources of a committed case, and points the case at the copies."""
    place = folder / case.name
    place.mkdir(parents=True, exist_ok=True)
    if not case.name.startswith("random/"):
        for form, source in case.sources.items():
            target = place / "source" / form
            target.mkdir(parents=True)
            files = [source] + [source.with_name(name) for name in ("config.json", "model_config.json")]
            if source.suffix == ".json":
                files += {source.with_name(shard) for shard in json.loads(source.read_text())["weight_map"].values()}
            for file in files:
                if file.exists():
                    shutil.copyfile(file, target / file.name)
            case.sources[form] = target / source.name
    return Staged(case, place)


def prepare_pytorch(staged, pt):
    """Random models, the truth of every case, and what PyTorch computes from it."""
    case = staged.case
    if case.name.startswith("random/"):
        name = case.name.removeprefix("random/")
        cls, config, dtype = RANDOM[name]
        files = {form: case.sources[form] for form in ("pt", "st")}
        pt.add(None, "make", cls=cls, config=config, dtype=dtype, seed=list(RANDOM).index(name), layout=name.removeprefix("v2-"), **files)
    readable = [form for form in ("st", "pt", "pt-legacy") if form in case.sources]
    for form in readable:
        target = staged.truth if form == readable[0] else staged.out(f"truth.{form}.safetensors")
        source = dict(source=case.sources[form], form=form, aliases=case.aliases)
        pt.add(None, "truth", target=target, keras_target=staged.keras_truth, **source)
        if target != staged.truth:
            pt.add(f"{case.name}: its {form} and {readable[0]} files hold the same tensors", "check_st", file=target, truth=staged.truth)
    model = dict(cls=case.cls, config=staged.config, overrides=case.overrides, aliases=case.aliases)
    if case.computes:
        pt.add(None, "before", truth=staged.truth, target=staged.before, **model)


def prepare_tensorflow(staged, tf):
    """TensorFlow's own files of the random models, and what TensorFlow computes from every file that it wrote."""
    case = staged.case
    if case.name.startswith("random/") and "tf" in case.sources:
        files = dict(h5=case.sources["tf"], named=case.sources["tf-names"])
        tf.add(None, "make", cls=case.cls, truth=staged.keras_truth, config=staged.config, **files)
    for form in ("tf", "tf-names"):
        if form in case.sources:
            target = staged.tf_before if form == "tf" else staged.out("before.tf-names.npz")
            folder = case.sources[form].parent
            label = f"{case.name}: TensorFlow computes from its own {form} file what PyTorch computes"
            tf.add(label, "before", folder=folder, cls=case.cls, before=staged.before, target=target)
