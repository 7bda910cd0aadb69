//! Axes: ticks at round numbers, and their labels.

use crate::report::formatting;

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// Where, as a share of the axis from 0 to 1.
    pub(super) at: f64,
    /// What stands there.
    pub(super) label: String,
}

/// An axis from 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// The value at its end, above 0 and finite.
    pub(super) end: f64,
    /// Its marks, rising, 0 among them.
    pub(super) ticks: Vec<Tick>,
    /// What it is counted in.
    pub(super) unit: String,
}

impl Axis {
    /// For values up to `most`; it ends at a round number. `whole` has no marks between whole
    /// numbers.
    pub(super) fn values(most: f64, unit: &str, whole: bool) -> Self {
        // Far enough from the end of what a float can hold to reckon with.
        let most = if most.is_finite() && most > 0.0 { most.clamp(1e-9, 1e300) } else { 1.0 };
        let mut step = round_step(most / 5.0);
        if whole {
            step = step.max(1.0);
        }
        let steps = (most / step - 1e-9).ceil().clamp(1.0, 10.0);
        let end = steps * step;
        let ticks = (0..=steps as u32).map(|index| {
            let value = f64::from(index) * step;
            Tick { at: f64::from(index) / steps, label: short(value) }
        });
        Self { end, ticks: ticks.collect(), unit: unit.to_owned() }
    }

    /// For a run of some seconds; it ends with the run.
    pub(super) fn time(run_seconds: f64) -> Self {
        let end = if run_seconds.is_finite() && run_seconds > 0.0 {
            run_seconds.clamp(1e-6, 1e15)
        } else {
            1.0
        };
        let (unit_seconds, unit) = match end {
            s if s <= 300.0 => (1.0, "seconds"),
            s if s <= 3.0 * 3600.0 => (60.0, "minutes"),
            s if s <= 3.0 * 86_400.0 => (3600.0, "hours"),
            _ => (86_400.0, "days"),
        };
        let span = end / unit_seconds;
        let step = round_step(span / 8.0);
        let ticks = (0..=12_u32)
            .map(|index| f64::from(index) * step)
            .take_while(|value| *value <= span * 1.000_001);
        Self {
            end,
            ticks: ticks
                .map(|value| Tick { at: (value / span).min(1.0), label: short(value) })
                .collect(),
            unit: format!("{unit} since the run began"),
        }
    }

    /// Where a value stands, as a share of the axis; what is no number stands at 0.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = value / self.end;
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The least of 1, 2, 5, 10, … times a power of ten that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = least / power;
    let round =
        [1.0, 2.0, 5.0].into_iter().find(|round| factor <= round * 1.000_001).unwrap_or(10.0);
    round * power
}

/// A label of at most seven characters: `2,500`, `150,000`, `2.5 M`.
fn short(value: f64) -> String {
    for (size, letter) in [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")] {
        if value >= size * 1e4 {
            return format!("{value:.0e}");
        }
        if value >= size {
            return format!("{} {letter}", formatting::number(value / size));
        }
    }
    if value > 0.0 && value < 0.01 { format!("{value:.0e}") } else { formatting::number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        assert_eq!(
            labels(&Axis::values(10_000.0, "", true)),
            ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]
        );
        assert_eq!(
            labels(&Axis::values(7_300.0, "", true)),
            ["0", "2,000", "4,000", "6,000", "8,000"]
        );
        assert_eq!(labels(&Axis::values(0.0, "", true)), ["0", "1"]);
        assert_eq!(labels(&Axis::values(3.0, "", true)), ["0", "1", "2", "3"]);
        assert_eq!(
            labels(&Axis::values(2_400_000.0, "", true)),
            ["0", "500,000", "1 M", "1.5 M", "2 M", "2.5 M"]
        );
        assert_eq!(labels(&Axis::time(75.0)), ["0", "10", "20", "30", "40", "50", "60", "70"]);
        assert_eq!(labels(&Axis::time(1500.0)), ["0", "5", "10", "15", "20", "25"]);
    }

    #[test]
    fn any_number_has_an_axis() {
        let odd = [
            f64::NAN,
            f64::INFINITY,
            -1.0,
            1e-300,
            1e300,
            f64::MAX,
            f64::MIN_POSITIVE,
            u64::MAX as f64,
        ];
        for value in odd {
            for axis in
                [Axis::values(value, "", true), Axis::values(value, "", false), Axis::time(value)]
            {
                assert!(axis.end > 0.0 && axis.end.is_finite());
                assert!((1..=12).contains(&axis.ticks.len()), "{value}: {axis:?}");
                assert!(axis.ticks.iter().all(|tick| (0.0..=1.0).contains(&tick.at)));
                assert!(axis.ticks.iter().all(|tick| tick.label.chars().count() <= 7), "{axis:?}");
            }
        }
    }
}
