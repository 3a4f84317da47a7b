//! From the logits of windows to the answer of a question.
//!
//! Source: transformers, `examples/pytorch/question-answering/utils_qa.py`, `postprocess_qa_predictions`.

use std::cmp::Ordering;

/// What a window shows of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Where the text starts among the tokens of the sequence.
    pub(super) first: usize,
    /// The characters of the text that each token of the window is of.
    pub(super) offsets: Vec<(usize, usize)>,
}

/// How answers are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    /// Starts and ends that are combined, and combinations that are kept.
    pub(super) n_best: usize,
    /// Tokens of an answer, at most.
    pub(super) longest: usize,
    /// Whether no answer is an answer.
    pub(super) with_unanswerable: bool,
}

/// The best answer of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The characters of the text, start and end; nothing if no span is allowed.
    pub(super) span: Option<(usize, usize)>,
    /// Its score: the sum of both logits.
    pub(super) score: f32,
    /// By how much no answer scores better.
    pub(super) no_answer: f32,
    /// By how much it scores better than the next span.
    pub(super) margin: f32,
}

#[derive(Clone, Copy)]
struct Span {
    offsets: (usize, usize),
    start: f32,
    end: f32,
    score: f32,
}

/// The best answer of all windows of a text, each with the logits of start and end of its tokens [n, 2]; nothing if
/// there is no window or one without tokens.
pub(super) fn best(windows: &[(&Window, &[f32])], rules: Rules) -> Option<Found> {
    let (mut spans, mut none): (Vec<Span>, Option<Span>) = (Vec::new(), None);
    for (window, logits) in windows {
        let side = |side: usize| -> Vec<f32> { logits.chunks_exact(2).map(|pair| pair[side]).collect() };
        let (starts, ends) = (side(0), side(1));
        let (start, end) = (*starts.first()?, *ends.first()?);
        let score = start + end;
        if none.is_none_or(|none| none.score > score) {
            none = Some(Span { offsets: (0, 0), start, end, score });
        }
        let ends = highest(&ends, rules.n_best);
        for (start_at, start) in highest(&starts, rules.n_best) {
            for &(end_at, end) in &ends {
                let offsets = |at: usize| window.offsets.get(at.checked_sub(window.first)?);
                let (Some(first), Some(last)) = (offsets(start_at), offsets(end_at)) else { continue };
                if end_at >= start_at && end_at - start_at < rules.longest {
                    spans.push(Span { offsets: (first.0, last.1), start, end, score: start + end });
                }
            }
        }
    }
    let none = none?;
    if rules.with_unanswerable {
        spans.push(none);
    }
    // Stable: of equal ones, as 0 and -0 are, the first stays first.
    spans.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
    spans.truncate(rules.n_best);
    let mut with_text = spans.iter().filter(|span| span.offsets.0 < span.offsets.1);
    let best = with_text.next().filter(|_| rules.with_unanswerable).or(spans.first());
    let best = best.filter(|span| !rules.with_unanswerable || span.offsets.0 < span.offsets.1);
    let Some(best) = best else {
        // transformers makes up a span with logits of 0 here.
        return Some(Found { span: None, score: 0.0, no_answer: none.score, margin: f32::INFINITY });
    };
    let other = spans.iter().filter(|span| span.offsets != best.offsets && span.offsets != (0, 0));
    let next = other.map(|span| span.score).fold(f32::NEG_INFINITY, f32::max);
    Some(Found {
        span: Some(best.offsets),
        score: best.score,
        no_answer: none.score - best.start - best.end,
        margin: best.score - next,
    })
}

/// The places of the largest numbers, the largest first; of equal ones the last first, as numpy's `argsort` reversed.
fn highest(numbers: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = numbers.iter().copied().enumerate().collect();
    order.sort_by(|(i, a), (j, b)| b.partial_cmp(a).unwrap_or(Ordering::Equal).then(j.cmp(i)));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { n_best: 20, longest: 2, with_unanswerable: true };

    fn window() -> Window {
        // [CLS] q [SEP] a b c [SEP]
        Window { first: 3, offsets: vec![(0, 1), (1, 3), (3, 5)] }
    }

    fn logits(starts: [f32; 7], ends: [f32; 7]) -> Vec<f32> {
        starts.iter().zip(ends).flat_map(|(start, end)| [*start, end]).collect()
    }

    #[test]
    fn the_best_span_is_inside_the_text_and_short_enough() {
        // The question scores best, then a to c, which is too long.
        let logits = logits([0., 9., 0., 5., 4., 0., 0.], [1., 9., 0., 1., 2., 5., 0.]);
        let found = best(&[(&window(), &logits)], RULES).unwrap();
        assert_eq!(found, Found { span: Some((1, 5)), score: 9.0, no_answer: -8.0, margin: 2.0 });
    }

    #[test]
    fn the_window_that_is_surest_of_an_answer_says_whether_there_is_none() {
        let sure = logits([1., 0., 0., 3., 0., 0., 0.], [1., 0., 0., 3., 0., 0., 0.]);
        let unsure = logits([9., 0., 0., 0., 0., 0., 0.], [9., 0., 0., 0., 0., 0., 0.]);
        let found = best(&[(&window(), &unsure), (&window(), &sure)], RULES).unwrap();
        assert_eq!((found.span, found.no_answer), (Some((0, 1)), -4.0));
    }

    #[test]
    fn a_text_without_tokens_has_no_span() {
        let empty = Window { first: 3, offsets: vec![] };
        let logits = logits([1.; 7], [1.; 7]);
        let found = best(&[(&empty, &logits)], RULES).unwrap();
        assert_eq!((found.span, found.no_answer), (None, 2.0));
        assert_eq!(best(&[], RULES), None);
    }
}
