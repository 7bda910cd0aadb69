//! Playing stories.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::oracle::{Invariant, Violation};
use crate::story::Story;
use crate::world::{Outcome, World};

/// Plays a story. A panic is a violation.
pub(crate) fn play(story: &Story, root: &Path, telling: bool) -> Outcome {
    let story = story.clone();
    let calm = story.calm;
    let played = catch_unwind(AssertUnwindSafe(|| World::new(story, root, telling).play()));
    played.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        let detail = format!("panic: {text}");
        let violation = Violation { invariant: Invariant::Runs, at: calm, step: 0, detail };
        Outcome { violation: Some(violation), hash: 0, steps: 0, datagrams: 0, told: Vec::new() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Trouble, Troubles};
    use crate::transfers::write_files;

    fn files() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path()).unwrap();
        root
    }

    #[test]
    fn the_server_keeps_its_promises() {
        let root = files();
        for seed in 0..40 {
            let story = Story::of(seed, Troubles::withstood().without(Trouble::Crowd));
            let outcome = play(&story, root.path(), false);
            let violation = outcome.violation.map(|violation| violation.to_string());
            assert_eq!(violation, None, "seed {seed}");
            assert!(outcome.datagrams > 50, "seed {seed}: nothing happens");
        }
    }

    #[test]
    fn one_seed_is_one_run() {
        let root = files();
        let hash = |seed| {
            let story = Story::of(seed, Troubles::withstood().without(Trouble::Crowd));
            play(&story, root.path(), false).hash
        };
        for seed in 100..106 {
            assert_eq!(hash(seed), hash(seed), "seed {seed}");
        }
        assert_ne!(hash(100), hash(101));
    }

    #[test]
    fn telling_changes_nothing_and_tells() {
        let root = files();
        let story = Story::of(3, Troubles::none());
        let (silent, told) = (play(&story, root.path(), false), play(&story, root.path(), true));
        assert_eq!(silent.hash, told.hash);
        assert!(silent.told.is_empty());
        assert!(told.told.iter().any(|sentence| sentence.contains("DISCOVER")));
    }
}
