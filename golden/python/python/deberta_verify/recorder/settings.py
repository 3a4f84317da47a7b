"""What of a configuration decides which points a model has and which inputs exercise it, read as transformers' classes
read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .error import RecordError

V1, V2 = "deberta", "deberta-v2"


@dataclass(frozen=True)
class Settings:
    """The lines of config.json that count here, their defaults filled in."""

    version_2: bool
    hidden_size: int
    embedding_size: int
    layers: int
    heads: int
    vocab_size: int
    positions: int
    """max_position_embeddings: rows of the table of absolute positions."""
    span: int
    """max_relative_positions: from this distance on, all are one."""
    token_types: int
    position_biased: bool
    """Whether absolute positions are added to the input."""
    terms: tuple[str, ...]
    """The position terms that are computed: c2p, p2c."""
    relative: bool
    share_att_key: bool
    norm_rel_ebd: bool
    kernel: int
    """Tokens that the convolution sees at a time; 0 without one."""
    groups: int
    """Groups of the convolution."""
    talking_head: bool
    legacy: bool
    tied: bool

    @classmethod
    def of(cls, config: Mapping) -> Settings:
        """Of the keys of config.json. Raises RecordError for another model than DeBERTa."""
        model_type = config.get("model_type")
        if model_type not in (V1, V2):
            why = f'config.json: model_type is {model_type!r}, expected "{V1}" or "{V2}"'
            raise RecordError(why, file="config.json", want=f"{V1} or {V2}", got=str(model_type))
        version_2 = model_type == V2

        def get(key: str, default):
            return default if config.get(key) is None else config[key]

        terms = get("pos_att_type", [])
        terms = [term.strip() for term in terms.lower().split("|")] if isinstance(terms, str) else terms
        relative, positions = bool(get("relative_attention", False)), get("max_position_embeddings", 512)
        span = get("max_relative_positions", -1)
        hidden = get("hidden_size", 1536 if version_2 else 768)
        return cls(
            version_2=version_2,
            hidden_size=hidden,
            embedding_size=get("embedding_size", hidden),
            layers=get("num_hidden_layers", 24 if version_2 else 12),
            heads=get("num_attention_heads", 24 if version_2 else 12),
            vocab_size=get("vocab_size", 128100 if version_2 else 50265),
            positions=positions,
            span=positions if span < 1 else span,
            token_types=get("type_vocab_size", 0),
            position_biased=bool(get("position_biased_input", True)),
            terms=tuple(term for term in ("c2p", "p2c") if relative and term in terms),
            relative=relative,
            share_att_key=version_2 and bool(get("share_att_key", False)),
            norm_rel_ebd=version_2
            and "layer_norm" in [word.strip() for word in get("norm_rel_ebd", "none").lower().split("|")],
            kernel=max(get("conv_kernel_size", 0), 0) if version_2 else 0,
            groups=get("conv_groups", 1),
            talking_head=not version_2 and bool(get("talking_head", False)),
            legacy=bool(get("legacy", True)),
            tied=bool(get("tie_word_embeddings", True)),
        )
