//! How two lists of numbers go together: Pearson's and Spearman's coefficients.

/// Pearson's coefficient of correlation; nothing for fewer than two pairs, a list whose numbers are all the same, or
/// numbers that are not finite.
///
/// Both lists must have the same length.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.len() < 2 || !x.iter().chain(y).all(|number| number.is_finite()) {
        return None;
    }
    let constant = |list: &[f64]| list.iter().all(|number| Some(number) == list.first());
    if constant(x) || constant(y) {
        return None;
    }
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let r = dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Spearman's coefficient: Pearson's of the ranks, where equal numbers share the mean of theirs.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if !x.iter().chain(y).all(|number| number.is_finite()) {
        return None;
    }
    pearson(&ranks(x), &ranks(y))
}

fn centred(list: &[f64]) -> Vec<f64> {
    let mean = list.iter().sum::<f64>() / list.len() as f64;
    list.iter().map(|number| number - mean).collect()
}

/// The rank of every number, from 1.
fn ranks(list: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = list.iter().copied().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut ranks = vec![0.0; list.len()];
    let mut before = 0;
    for equal in order.chunk_by(|(_, a), (_, b)| a == b) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        for (at, _) in equal {
            if let Some(place) = ranks.get_mut(*at) {
                *place = rank;
            }
        }
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, want: f64) {
        let found = found.unwrap();
        assert!((found - want).abs() < 1e-12, "{found} {want}");
    }

    #[test]
    fn pearson_is_that_of_scipys_documentation() {
        // scipy.stats.pearsonr, "Examples".
        let (x, y) = ([1., 2., 3., 4., 5., 6., 7.], [10., 9., 2.5, 6., 4., 3., 2.]);
        close(pearson(&x, &y), -0.828_503_883_588_428);
    }

    #[test]
    fn spearman_is_that_of_scipys_documentation() {
        // scipy.stats.spearmanr, "Examples".
        close(spearman(&[1., 2., 3., 4., 5.], &[5., 6., 7., 8., 7.]), 0.820_782_681_668_123_3);
    }

    #[test]
    fn spearman_is_that_of_the_iq_and_television_example() {
        // Wikipedia, "Spearman's rank correlation coefficient", Example: rho = -29/165.
        let iq = [106., 100., 86., 101., 99., 103., 97., 113., 112., 110.];
        let hours = [7., 27., 2., 50., 28., 29., 20., 12., 6., 17.];
        close(spearman(&iq, &hours), -29.0 / 165.0);
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        assert_eq!(pearson(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[0.1, 0.1]), None);
        assert_eq!(pearson(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[2.0, 3.0]), None);
    }
}
