//! Non-maximum suppression.

use guiji_domain::BBox;

/// Keeps the best-scored things; drops what overlaps a kept one too much. Returns them best first, at most `max`.
pub(crate) fn suppress<T>(
    mut things: Vec<T>,
    max: usize,
    score: impl Fn(&T) -> f32,
    is_double: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    things.sort_by(|a, b| score(b).total_cmp(&score(a)));
    // A noisy picture must not cost quadratic time.
    things.truncate(max * 8);
    let mut kept: Vec<T> = Vec::new();
    for thing in things {
        if kept.len() < max && !kept.iter().any(|k| is_double(k, &thing)) {
            kept.push(thing);
        }
    }
    kept
}

/// Whether two boxes overlap more than this (intersection over union).
pub(crate) fn overlaps(a: &BBox, b: &BBox, iou_max: f32) -> bool {
    a.iou(b) > iou_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_does_not_overlap_and_what_is_dropped_does(
            boxes in prop::collection::vec((0f32..100.0, 0f32..100.0, 1f32..40.0, 1f32..40.0, 0f32..1.0), 0..40),
        ) {
            let boxes: Vec<_> = boxes.into_iter()
                .map(|(x, y, w, h, s)| (BBox::new(x, y, x + w, y + h).unwrap(), s)).collect();
            let double = |a: &(BBox, f32), b: &(BBox, f32)| overlaps(&a.0, &b.0, 0.5);
            let kept = suppress(boxes.clone(), 100, |b| b.1, double);
            prop_assert!(kept.windows(2).all(|w| w[0].1 >= w[1].1));
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(kept[i + 1..].iter().all(|b| !double(a, b)));
            }
            for b in &boxes {
                prop_assert!(kept.iter().any(|k| k == b || (double(k, b) && k.1 >= b.1)));
            }
        }
    }

    #[test]
    fn no_more_than_asked_for() {
        let far = |i: usize| BBox::new(i as f32 * 10.0, 0.0, i as f32 * 10.0 + 5.0, 5.0).unwrap();
        let kept = suppress((0..50).map(far).collect(), 7, |_| 1.0, |a, b| overlaps(a, b, 0.5));
        assert_eq!(kept.len(), 7);
    }
}
