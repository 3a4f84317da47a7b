//! Keys and queries of relative positions: `reference/src/relative.rs` as nodes.
//!
//! The relative position table is normalised and projected as a whole. That depends on the weights alone, so that a runtime does
//! it when it loads the model (in f32, because ONNX Runtime has no other kernels for it); what is left for every run is to take
//! the rows within reach.

use deberta_reference::{Conventions, PositionProjection};

use super::graph::{Dim, Graph, Module, Value};
use crate::error::{Error, Kind, Result};
use crate::format::onnx::Attribute;
use crate::tensor::Dtype;

/// Relative positions: r rows of the table are within reach of n tokens.
pub(super) struct Positions {
    table: Table,
    /// δ: the row of the distance between query and key, counted from `first` [b, h, n, n]
    pub(super) delta: Value,
    /// The first row within reach [1].
    first: Value,
    /// The row after the last one within reach [1].
    end: Value,
}

/// The relative position table [2S, H].
enum Table {
    /// As it is stored.
    Stored(Value),
    /// After its normalisation, in f32.
    Normalised(Value),
}

/// Relative positions, for all layers at once.
pub(super) fn positions(
    g: &mut Graph<'_>,
    at: &Module,
    n: &Value,
    conventions: Conventions,
) -> Result<Positions> {
    let lookup = g
        .config
        .distances()
        .under(conventions)
        .lookup()
        .map_err(|error| Error::new(Kind::Request, error.to_string()))?;
    let [delta, first, end] = match lookup {
        Some(rows) => bucketed(g, at, n, &rows),
        None => clamped(g, at, n),
    };
    Ok(Positions { table: table(g, at), delta, first, end })
}

/// Without buckets: s = min(n, K), δ(i, j) = clamp(i - j + s, 0, 2s - 1); the first row is K - s, that after the last one K + s.
fn clamped(g: &mut Graph<'_>, at: &Module, n: &Value) -> [Value; 3] {
    let max = g.config.max_relative() as i64;
    let (zero, one, two, max) = (g.integer(0), g.integer(1), g.integer(2), g.integer(max));
    let axis = g.integers(&[0]);
    let span = g.node(at, "Min", &[n, &max], &[]);
    let distance = distance(g, at, n);
    let delta = g.node(at, "Add", &[&distance, &span], &[]);
    let all = g.node(at, "Mul", &[&span, &two], &[]);
    let last = g.node(at, "Sub", &[&all, &one], &[]);
    let delta = g.node(at, "Clip", &[&delta, &zero, &last], &[]);
    let delta = for_all_heads(g, at, &delta);
    let first = g.node(at, "Sub", &[&max, &span], &[]);
    let end = g.node(at, "Add", &[&max, &span], &[]);
    let [first, end] = [first, end].map(|place| g.node(at, "Unsqueeze", &[&place, &axis], &[]));
    [delta, first, end]
}

/// With buckets: `rows` are those of the distances -D .. D, beyond which nothing changes. The rows of the distances from -(n - 1)
/// to n - 1 are within reach, and of these δ(i, j) is that of i - j, counted from the first one.
fn bucketed(g: &mut Graph<'_>, at: &Module, n: &Value, rows: &[usize]) -> [Value; 3] {
    let (one, farthest) = (g.integer(1), (rows.len() / 2) as i64);
    let lookup = g.table("rows of distances", &rows.iter().map(|&row| row as i64).collect::<Vec<_>>());
    let before = g.node(at, "Sub", &[&one, n], &[]);
    let distances = g.node(at, "Range", &[&before, n, &one], &[]); //                    [2n - 1]
    let (least, most) = (g.integer(-farthest), g.integer(farthest));
    let distances = g.node(at, "Clip", &[&distances, &least, &most], &[]);
    let places = g.node(at, "Add", &[&distances, &most], &[]);
    let rows = g.node(at, "Gather", &[&lookup, &places], &[Attribute::Int("axis", 0)]);

    let [first, last] = [0, -1].map(|place| {
        let place = g.integers(&[place]);
        g.node(at, "Gather", &[&rows, &place], &[Attribute::Int("axis", 0)])
    });
    let end = g.node(at, "Add", &[&last, &one], &[]);
    let rows = g.node(at, "Sub", &[&rows, &first], &[]);
    let distance = distance(g, at, n);
    let places = g.node(at, "Sub", &[&distance, &before], &[]); //                       i - j + n - 1
    let delta = g.node(at, "Gather", &[&rows, &places], &[Attribute::Int("axis", 0)]);
    // Half the memory to read for every layer.
    let delta = g.cast(at, &delta, Dtype::I32);
    [for_all_heads(g, at, &delta), first, end]
}

/// δ [n, n] for every sequence and head, as `GatherElements` wants it: [b, h, n, n].
fn for_all_heads(g: &mut Graph<'_>, at: &Module, delta: &Value) -> Value {
    let tokens = g.tokens_shape(&[g.config.num_attention_heads]);
    let order = g.integers(&[0, 2, 1, 1]);
    let shape = g.node(at, "Gather", &[&tokens, &order], &[]);
    g.node(at, "Expand", &[delta, &shape], &[])
}

/// i - j, [n, n].
fn distance(g: &mut Graph<'_>, at: &Module, n: &Value) -> Value {
    let (zero, one) = (g.integer(0), g.integer(1));
    let ids = g.node(at, "Range", &[&zero, n, &one], &[]);
    let second_axis = g.integers(&[1]);
    let queries = g.node(at, "Unsqueeze", &[&ids, &second_axis], &[]); //                [n, 1]
    g.node(at, "Sub", &[&queries, &ids], &[])
}

/// R = the table, or LayerNorm(R).
fn table(g: &mut Graph<'_>, at: &Module) -> Table {
    let stored = at.at("rel_embeddings").parameter("weight");
    if !g.config.norm_rel_ebd {
        return Table::Stored(stored);
    }
    let norm = at.at("LayerNorm");
    let operands = [stored, norm.parameter("weight"), norm.parameter("bias")];
    let [r, weight, bias] = operands.map(|operand| g.widened(at, &operand));
    let r = g.normalise(&norm, [&r, &weight, &bias]);
    if g.wants_at(&norm) {
        let narrow = g.narrowed(&norm, &r);
        g.keep(
            &norm,
            "",
            &narrow,
            &[Dim::Of(2 * g.config.distances().span()), Dim::Of(g.config.hidden_size)],
        );
    }
    Table::Normalised(r)
}

/// pos_key = pos_key_proj R, for the rows R within reach, by heads and turned: [h, d, r].
pub(super) fn keys(g: &mut Graph<'_>, at: &Module, positions: &Positions) -> Value {
    let [projection, _] = g.config.position_projections();
    let (proj, table) = project(g, at, projection, positions);
    let rows = rows_by_head(g, &proj, &table, positions);
    g.transpose(&proj, &rows, &[0, 2, 1])
}

/// pos_query = (pos_query_proj R + b) / scale, for the rows R within reach, by heads: [h, r, d].
pub(super) fn queries(g: &mut Graph<'_>, at: &Module, positions: &Positions) -> Value {
    let [_, projection] = g.config.position_projections();
    let (proj, table) = project(g, at, projection, positions);
    let divisor = g.number(g.config.attention_scale() as f32, Dtype::F32);
    let table = g.node(&proj, "Div", &[&table, &divisor], &[]);
    rows_by_head(g, &proj, &table, positions)
}

/// A projection of the table [2S, H], and its module. `at` is the attention's.
fn project(
    g: &mut Graph<'_>,
    at: &Module,
    projection: PositionProjection,
    positions: &Positions,
) -> (Module, Value) {
    let proj = at.at(projection.name).with_weights_of(&at.at(projection.parameters));
    let mut operands = vec![match &positions.table {
        Table::Stored(table) => g.widened(&proj, table),
        Table::Normalised(table) => table.clone(),
    }];
    let names = if projection.biased { &["weight", "bias"][..] } else { &["weight"] };
    operands.extend(names.iter().map(|name| g.widened(&proj, &proj.parameter(name))));
    let operands: Vec<&Value> = operands.iter().collect();
    let table = g.node(&proj, "Gemm", &operands, &[Attribute::Int("transB", 1)]); //     [2S, H]
    keep_rows(g, &proj, &table, positions);
    (proj, table)
}

/// The rows of the projected table [2S, H] within reach, by heads: [h, r, d].
fn rows_by_head(g: &mut Graph<'_>, at: &Module, table: &Value, positions: &Positions) -> Value {
    let (h, d) = (g.config.num_attention_heads as i64, g.config.head_size() as i64);
    let table = g.narrowed(at, table);
    let table = g.reshape(at, &table, &[-1, h, d]);
    let table = g.transpose(at, &table, &[1, 0, 2]); //                                  [h, 2S, d]
    let axis = g.integers(&[1]);
    g.node(at, "Slice", &[&table, &positions.first, &positions.end, &axis], &[])
}

/// The activation of a position projection: [1, rows, H], with all rows or those within reach.
fn keep_rows(g: &mut Graph<'_>, at: &Module, table: &Value, positions: &Positions) {
    if !g.wants_at(at) {
        return;
    }
    let axis = g.integers(&[0]);
    let mut rows = g.narrowed(at, table);
    let mut count = Dim::Of(2 * g.config.distances().span());
    if !g.config.distances().records_all() {
        rows = g.node(at, "Slice", &[&rows, &positions.first, &positions.end, &axis], &[]);
        count = Dim::Positions;
    }
    let rows = g.node(at, "Unsqueeze", &[&rows, &axis], &[]);
    g.keep(at, "", &rows, &[Dim::Of(1), count, Dim::Of(g.config.hidden_size)]);
}
