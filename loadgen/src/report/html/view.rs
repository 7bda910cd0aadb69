//! The timeline as it can be drawn: every list as long as the others, and no more buckets than
//! there is room for.

use crate::report::Timeline;

/// Most buckets of a curve.
const CURVE: usize = 600;

/// Most columns of the heat map: below that, they are wide enough to be seen.
const MAP: usize = 200;

/// The timeline, tidied.
pub(super) struct View {
    /// Seconds of a bucket.
    pub(super) bucket: f64,
    /// How many buckets.
    pub(super) buckets: usize,
    /// Machines by phase at the end of each bucket, in the order of [`Phase::ALL`].
    pub(super) phases: [Vec<u64>; 6],
    pub(super) sent: Vec<u64>,
    pub(super) answered: Vec<u64>,
    pub(super) retransmissions: Vec<u64>,
    pub(super) bytes: Vec<u64>,
    pub(super) came_up: Vec<u64>,
    pub(super) gave_up: Vec<u64>,
    pub(super) map: Map,
}

/// The latency heat map.
pub(super) struct Map {
    /// Seconds of a column.
    pub(super) column: f64,
    /// How many columns.
    pub(super) columns: usize,
    /// Bounds in milliseconds; row `i` is below bound `i`, the last row has none.
    pub(super) bounds: Vec<f64>,
    /// Answers: one list for each row.
    pub(super) rows: Vec<Vec<u64>>,
}

/// A phase as it is drawn.
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
}

impl Phase {
    /// From the bottom of the chart to its top.
    pub(super) const ALL: [Self; 6] = [
        Self { name: "up", class: "c-up" },
        Self { name: "loading files", class: "c-loading" },
        Self { name: "waiting for an ACK", class: "c-requesting" },
        Self { name: "waiting for an OFFER", class: "c-discovering" },
        Self { name: "off or in self test", class: "c-off" },
        Self { name: "given up", class: "c-given" },
    ];
}

impl View {
    pub(super) fn new(time: &Timeline) -> Self {
        let states = [
            &time.phases.up,
            &time.phases.loading,
            &time.phases.requesting,
            &time.phases.discovering,
            &time.phases.off,
            &time.phases.given_up,
        ];
        let flows = [
            &time.sent,
            &time.answered,
            &time.retransmissions,
            &time.bytes,
            &time.came_up,
            &time.gave_up,
        ];
        let longest = states.iter().chain(&flows).map(|list| list.len()).max().unwrap_or(0);
        let longest = longest.max(time.latency.iter().map(Vec::len).max().unwrap_or(0));
        let merged = longest.div_ceil(CURVE).max(1);
        let given = time.bucket_seconds;
        let bucket = if given.is_finite() && given > 0.0 { given.clamp(1e-6, 1e9) } else { 1.0 };
        let [sent, answered, retransmissions, bytes, came_up, gave_up] =
            flows.map(|list| sums(list, longest, merged));
        Self {
            bucket: bucket * merged as f64,
            buckets: longest.div_ceil(merged),
            phases: states.map(|list| lasts(list, longest, merged)),
            sent,
            answered,
            retransmissions,
            bytes,
            came_up,
            gave_up,
            map: map(time, bucket, longest),
        }
    }

    /// How long the timeline is, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.bucket * self.buckets as f64
    }
}

/// Rows that are empty below the first and above the last answer are left out.
fn map(time: &Timeline, bucket: f64, longest: usize) -> Map {
    let merged = longest.div_ceil(MAP).max(1);
    let mut map = Map {
        column: bucket * merged as f64,
        columns: longest.div_ceil(merged),
        bounds: Vec::new(),
        rows: Vec::new(),
    };
    let filled = |row: &Vec<u64>| row.iter().any(|count| *count > 0);
    // More rows than bounds and one: nothing says what those are.
    let rows = time
        .latency
        .get(..time.latency.len().min(time.latency_bounds.len() + 1))
        .unwrap_or_default();
    let (Some(first), Some(last)) = (rows.iter().position(filled), rows.iter().rposition(filled))
    else {
        return map;
    };
    map.bounds = time
        .latency_bounds
        .get(first..(last + 1).min(time.latency_bounds.len()))
        .unwrap_or_default()
        .to_vec();
    map.rows = rows[first..=last].iter().map(|row| sums(row, longest, merged)).collect();
    if first > 0 {
        // The row below the first one, empty, so that its lower bound can be named.
        map.bounds.insert(0, time.latency_bounds[first - 1]);
        map.rows.insert(0, vec![0; map.columns]);
    }
    map
}

fn sums(list: &[u64], longest: usize, merged: usize) -> Vec<u64> {
    let mut out = vec![0_u64; longest.div_ceil(merged)];
    for (index, value) in list.iter().enumerate() {
        if let Some(sum) = out.get_mut(index / merged) {
            *sum = sum.saturating_add(*value);
        }
    }
    out
}

fn lasts(list: &[u64], longest: usize, merged: usize) -> Vec<u64> {
    let mut out = vec![0_u64; longest.div_ceil(merged)];
    for (index, value) in list.iter().enumerate() {
        if let Some(last) = out.get_mut(index / merged) {
            *last = *value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_equally_long_and_nothing_is_lost() {
        let mut time = Timeline { bucket_seconds: 0.5, sent: vec![1; 1201], ..Timeline::default() };
        time.phases.up = (0..1201).collect();
        time.latency_bounds = vec![1.0, 2.0, 5.0];
        time.latency = vec![vec![], vec![0; 3], vec![0, 7], vec![]];
        let view = View::new(&time);
        assert_eq!((view.buckets, view.bucket), (401, 1.5));
        assert_eq!(view.sent.iter().sum::<u64>(), 1201);
        assert_eq!(view.phases[0][0], 2);
        assert_eq!(view.phases[0][400], 1200);
        assert_eq!(view.bytes, vec![0; 401]);
        assert_eq!(view.map.bounds, [2.0, 5.0]);
        assert_eq!(view.map.rows.len(), 2);
        assert_eq!(view.map.rows[1][0], 7);
        assert_eq!(View::new(&Timeline::default()).buckets, 0);
    }
}
