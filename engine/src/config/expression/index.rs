//! Classes whose tests compare one expression with constants, found by its value.

use std::collections::HashMap;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use foldhash::fast::RandomState;

use super::{Boolean, ClassTest, Data, Facts};
use crate::config::{Class, ClassId};

/// Which classes are worth a look for one message. Classes that need an expression to have a value
/// are found by that value: it is worked out once, however many there are.
///
/// Without such classes it is empty, and every class is worth a look.
#[derive(Clone, Debug, Default)]
pub struct ClassIndex {
    selectors: Vec<Selector>,
    /// Classes that no selector finds.
    others: Vec<Candidate>,
}

/// One expression that several classes compare.
#[derive(Clone, Debug)]
struct Selector {
    expression: Data,
    classes: HashMap<Box<[u8]>, Vec<Candidate>, RandomState>,
}

/// A class that may have the sender as its member.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Candidate {
    pub(crate) class: ClassId,
    /// Its test is true.
    pub(crate) passed: bool,
}

impl ClassIndex {
    pub(in crate::config) fn new(classes: &[Class]) -> Self {
        let tests = || (0..).map(ClassId).zip(classes.iter().map(|class| class.test.as_ref()));
        let mut uses: HashMap<&Data, usize> = HashMap::new();
        for (expression, _) in tests().filter_map(|(_, test)| comparison(test?)) {
            *uses.entry(expression).or_default() += 1;
        }
        let mut index = Self::default();
        let mut places: HashMap<&Data, usize> = HashMap::new();
        for (class, test) in tests() {
            let shared = test.and_then(|test| Some((test, comparison(test)?)));
            let shared = shared.filter(|(_, (expression, _))| uses[expression] > 1);
            let Some((test, (expression, value))) = shared else {
                index.others.push(Candidate { class, passed: false });
                continue;
            };
            let place = *places.entry(expression).or_insert_with(|| {
                let expression = expression.clone();
                index.selectors.push(Selector { expression, classes: HashMap::default() });
                index.selectors.len() - 1
            });
            let passed = matches!(test.condition, Boolean::DataEqual(_));
            let classes = &mut index.selectors[place].classes;
            classes.entry(value.into()).or_default().push(Candidate { class, passed });
        }
        if index.selectors.is_empty() { Self::default() } else { index }
    }

    /// The classes that are worth a look, in their order; `None` where all are.
    pub(crate) fn candidates<'a>(
        &'a self,
        facts: &impl Facts<'a>,
        arena: &'a Bump,
    ) -> Option<BumpVec<'a, Candidate>> {
        if self.selectors.is_empty() {
            return None;
        }
        // A value that selects a class mostly selects just that one.
        let room = self.selectors.len() + self.others.len();
        let mut candidates = BumpVec::with_capacity_in(room, arena);
        for selector in &self.selectors {
            let value = selector.expression.evaluate(facts, arena);
            let found = value.and_then(|value| selector.classes.get(value));
            candidates.extend(found.into_iter().flatten().copied());
        }
        candidates.extend_from_slice(&self.others);
        candidates.sort_unstable();
        Some(candidates)
    }
}

/// What the test needs: an expression that depends on the message has this value.
fn comparison(test: &ClassTest) -> Option<(&Data, &[u8])> {
    let parts = match &test.condition {
        Boolean::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    parts.iter().find_map(|part| match part {
        Boolean::DataEqual(sides) => match &**sides {
            [Data::Constant(value), expression] | [expression, Data::Constant(value)] => {
                Some((expression, &**value))
            }
            _ => None,
        },
        _ => None,
    })
}
