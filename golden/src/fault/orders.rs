//! Orders of rows and columns: what happens to heads.

/// The order that puts rows of several parts in every head, as `[q; k; v]` in `in_proj`, into all of the first part, then
/// all of the second, and so on.
pub(crate) fn by_head_to_parts(heads: usize, parts: usize, d: usize) -> Vec<usize> {
    let row = |part: usize, head: usize, feature: usize| (head * parts + part) * d + feature;
    (0..parts)
        .flat_map(|part| (0..heads).flat_map(move |head| (0..d).map(move |feature| row(part, head, feature))))
        .collect()
}

/// The order that undoes another one.
pub(crate) fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse: Vec<usize> = (0..order.len()).collect();
    inverse.sort_by_key(|&at| order.get(at));
    inverse
}

/// The order that exchanges two blocks of `width`.
pub(crate) fn exchange(len: usize, width: usize, a: usize, b: usize) -> Vec<usize> {
    (0..len)
        .map(|at| match at / width.max(1) {
            block if block == a => at + b * width - a * width,
            block if block == b => at + a * width - b * width,
            _ => at,
        })
        .collect()
}

/// All orders of `0..n` but the usual one.
pub(crate) fn permutations(n: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..n {
        let longer = |order: Vec<usize>| {
            (0..=order.len()).rev().map(move |at| {
                let mut order = order.clone();
                order.insert(at, next);
                order
            })
        };
        orders = orders.into_iter().flat_map(longer).collect();
    }
    orders.retain(|order| !order.is_sorted());
    orders
}

/// Any two of some heads exchanged, or all orders of few.
pub(crate) fn orders_of_heads(h: usize) -> Vec<Vec<usize>> {
    if h <= 4 {
        return permutations(h);
    }
    let pairs = (0..h.min(16)).flat_map(|a| (a + 1..h.min(16)).map(move |b| (a, b)));
    let exchanged = |(a, b): (usize, usize)| {
        let mut heads: Vec<usize> = (0..h).collect();
        heads.swap(a, b);
        heads
    };
    let rotated = [1, h - 1].map(|by| (0..h).map(|head| (head + by) % h).collect());
    pairs.map(exchanged).chain(rotated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_undone() {
        let thirds = by_head_to_parts(2, 3, 2);
        assert_eq!(thirds, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        let back = inverse(&thirds);
        assert!(thirds.iter().enumerate().all(|(at, &old)| back[old] == at));
        assert_eq!(permutations(2), [[1, 0]]);
        assert_eq!(permutations(4).len(), 23);
        assert_eq!(exchange(6, 2, 0, 2), [4, 5, 2, 3, 0, 1]);
    }
}
