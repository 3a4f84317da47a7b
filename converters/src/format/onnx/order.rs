//! The order of nodes: every value is made before it is used. Some tools put a node behind those that take what it makes, and
//! runtimes put it in front again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};
use crate::error::{Error, Result};

/// Puts the nodes of a graph in order, and leaves them as they are as far as that is possible.
///
/// # Errors
/// A value that nothing makes, or that is made twice; a cycle.
pub(crate) fn put_in_order(graph: &mut GraphProto) -> Result<()> {
    let order = order_of(graph)?;
    if !order.is_sorted() {
        let mut nodes: Vec<Option<NodeProto>> =
            std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        graph.node = order.into_iter().filter_map(|at| nodes.get_mut(at)?.take()).collect();
    }
    Ok(())
}

/// The places of the nodes, each behind those that make what it takes, and in front of the ones that were behind it, if it can be.
fn order_of(graph: &GraphProto) -> Result<Vec<usize>> {
    // Before version 4 of the format, initializers are inputs, too.
    let mut given: HashSet<&str> = graph.input.iter().map(|input| input.name()).collect();
    given.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut missing = vec![0_usize; graph.node.len()];
    for ((at, node), missing) in graph.node.iter().enumerate().zip(&mut missing) {
        for name in node.input.iter().filter(|name| !name.is_empty() && !given.contains(name.as_str())) {
            waiting.entry(name).or_default().push(at);
            *missing += 1;
        }
    }
    let of_none = missing.iter().enumerate().filter(|(_, missing)| **missing == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = of_none.map(|(at, _)| Reverse(at)).collect();
    let mut order = Vec::with_capacity(graph.node.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for name in graph.node.get(at).into_iter().flat_map(|node| &node.output) {
            for taker in waiting.remove(name.as_str()).unwrap_or_default() {
                let Some(missing) = missing.get_mut(taker) else { continue };
                *missing -= 1;
                if *missing == 0 {
                    ready.push(Reverse(taker));
                }
            }
        }
    }
    let left = graph.node.iter().zip(&missing).filter(|(_, missing)| **missing > 0);
    let takes = left.flat_map(|(node, _)| node.input.iter().map(move |name| (node, name)));
    let mut unmade = takes.filter(|(_, name)| waiting.contains_key(name.as_str()));
    let Some(first) = unmade.next() else { return Ok(order) };
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    let lacking = std::iter::once(first).chain(unmade).find(|(_, name)| !made.contains(name.as_str()));
    let (why, (node, name)) = match lacking {
        Some(lacking) => ("nothing makes", lacking),
        None => ("is made of what it makes itself: a cycle", first),
    };
    Err(Error::malformed(format!(
        "node \"{}\" ({}) takes \"{name}\", which {why}",
        node.name(),
        node.op_type()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::onnx::proto::{TensorProto, ValueInfoProto};

    #[test]
    fn what_is_made_stands_in_front_of_what_takes_it() {
        let node = |input: &[&str], output: &str| NodeProto {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let ordered = |node: Vec<NodeProto>| {
            let input = vec![ValueInfoProto { name: Some("x".into()), ..ValueInfoProto::default() }];
            let initializer = vec![TensorProto { name: Some("w".into()), ..TensorProto::default() }];
            let mut graph = GraphProto { node, input, initializer, ..GraphProto::default() };
            put_in_order(&mut graph).unwrap();
            graph.node.iter().flat_map(|node| node.output.clone()).collect::<String>()
        };
        let [a, b, c, d] =
            [node(&["x", "w"], "a"), node(&["a", ""], "b"), node(&["x"], "c"), node(&["a", "b"], "d")];
        assert_eq!(ordered(vec![a.clone(), c.clone(), b.clone(), d.clone()]), "acbd");
        assert_eq!(ordered(vec![d.clone(), b.clone(), c.clone(), a.clone()]), "cabd");
        assert_eq!(ordered(vec![b, a, d, c]), "abdc");
    }
}
