//! The shortest story that still shows the fault.

use std::path::Path;
use std::time::Duration;

use bootstorm_protocols::time::Moment;

use crate::oracle::Invariant;
use crate::play::play;
use crate::story::{Story, What};

/// Attempts at most.
const MOST_ATTEMPTS: u32 = 1500;

struct Shrinker<'a> {
    root: &'a Path,
    invariant: Invariant,
    story: Story,
    attempts: u32,
}

/// Leaves out machines and events and ends the story early, for as long as the same invariant is
/// violated. The story, and how many attempts it took.
pub(crate) fn shrink(story: &Story, invariant: Invariant, root: &Path) -> (Story, u32) {
    let mut shrinker = Shrinker { root, invariant, story: story.clone(), attempts: 0 };
    shrinker.cut_end();
    loop {
        let before = (shrinker.story.events.len(), present(&shrinker.story));
        shrinker.leave_out_machines();
        shrinker.leave_out_events();
        shrinker.simplify();
        let after = (shrinker.story.events.len(), present(&shrinker.story));
        if before == after || shrinker.attempts >= MOST_ATTEMPTS {
            break;
        }
    }
    (shrinker.story, shrinker.attempts)
}

fn present(story: &Story) -> usize {
    story.machines.iter().filter(|plan| !plan.absent).count()
}

fn machine_of(what: &What) -> Option<usize> {
    match what {
        What::Boot { machine }
        | What::Reset { machine }
        | What::Off { machine }
        | What::Release { machine }
        | What::WillDecline { machine }
        | What::Move { machine, .. }
        | What::Inform { machine }
        | What::Hostile { machine, .. } => Some(*machine),
        _ => None,
    }
}

impl Shrinker<'_> {
    /// Takes the candidate if it shows the same fault.
    fn try_story(&mut self, candidate: Story) -> bool {
        if self.attempts >= MOST_ATTEMPTS {
            return false;
        }
        self.attempts += 1;
        let outcome = play(&candidate, self.root, false);
        let same = outcome.violation.is_some_and(|found| found.invariant == self.invariant);
        if same {
            self.story = candidate;
        }
        same
    }

    /// What comes after the violation is of no interest.
    fn cut_end(&mut self) {
        let outcome = play(&self.story, self.root, false);
        let Some(violation) = outcome.violation else { return };
        let mut candidate = self.story.clone();
        candidate.events.retain(|event| event.at <= violation.at);
        self.try_story(candidate);
    }

    fn leave_out_machines(&mut self) {
        let mut size = present(&self.story).div_ceil(2);
        while size > 0 {
            let there: Vec<usize> = (0..self.story.machines.len())
                .filter(|at| !self.story.machines[*at].absent)
                .collect();
            for some in there.chunks(size) {
                let mut candidate = self.story.clone();
                some.iter().for_each(|machine| candidate.machines[*machine].absent = true);
                candidate
                    .events
                    .retain(|event| machine_of(&event.what).is_none_or(|it| !some.contains(&it)));
                self.try_story(candidate);
            }
            size /= 2;
        }
    }

    fn leave_out_events(&mut self) {
        let mut size = self.story.events.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.story.events.len() {
                let mut candidate = self.story.clone();
                let until = (from + size).min(candidate.events.len());
                candidate.events.drain(from..until);
                if !self.try_story(candidate) {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn simplify(&mut self) {
        let mut candidate = self.story.clone();
        candidate.shards = 1;
        self.try_story(candidate);
        for host in (0..self.story.site.hosts.len()).rev() {
            let mut candidate = self.story.clone();
            candidate.site.hosts.remove(host);
            self.try_story(candidate);
        }
        for machine in 0..self.story.machines.len() {
            if self.story.machines[machine].absent || !self.story.machines[machine].reads {
                continue;
            }
            let mut candidate = self.story.clone();
            candidate.machines[machine].reads = false;
            self.try_story(candidate);
        }
        // The quiet time begins as soon as the last event is over.
        let last =
            self.story.events.iter().map(|event| event.at).max().unwrap_or(Moment::default());
        for wait in [1, 10, 30] {
            let calm = last + Duration::from_secs(wait);
            if calm < self.story.calm {
                let candidate = Story { calm, ..self.story.clone() };
                if self.try_story(candidate) {
                    break;
                }
            }
        }
    }
}
