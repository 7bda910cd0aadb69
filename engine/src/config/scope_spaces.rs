//! Options that travel inside other options, as a scope of a TOML file says them.

use std::collections::BTreeMap;

use bootstorm_protocols::dhcpv4::options;

use super::SpaceId;
use super::definitions::VENDOR;
use super::option_types::OptionType;
use super::problem::{Fault, Problems};
use super::scope::SpaceOptions;
use super::scope_reader::{Collected, Names, ScopePlaces, encode};
use super::source::Place;
use super::statement::Key;
use super::tree::Table;

/// Values of options of one space, by their codes.
pub(super) type SpaceValues = BTreeMap<u8, (Vec<u8>, Place)>;

/// The name of the space whose list of options has an end of its own.
const PXE_SPACE: &str = "PXE";

impl Names<'_> {
    /// Takes out the values of spaces that are put together for each message.
    pub(super) fn merged_spaces(
        &self,
        collected: &mut Collected,
        places: &mut ScopePlaces,
    ) -> Box<[SpaceOptions]> {
        let mut merged: BTreeMap<SpaceId, SpaceValues> = BTreeMap::new();
        collected.spaces.retain_mut(|(space, values, _)| {
            let Some(id) = self.definitions.id(space) else { return true };
            // Those of the scope itself stand behind those for everybody.
            merged.entry(id).or_default().append(values);
            false
        });
        let options = merged.into_iter().map(|(id, values)| {
            let key = |code| Key::InSpace(id, u32::from(code));
            places.keys.extend(values.iter().map(|(&code, &(_, place))| (key(code), place)));
            let values = values.into_iter().map(|(code, (bytes, _))| (code.into(), bytes.into()));
            (id, values.collect())
        });
        options.collect()
    }

    /// The space that a table among the options is for: by its own name, or by that of the option
    /// that encapsulates it.
    pub(super) fn space_of(&self, key: &str) -> Option<Box<str>> {
        if self.definitions.has_space(key) {
            return Some(key.into());
        }
        match self.definitions.option(key).ok()?.kind? {
            OptionType::Encapsulate(space) => Some(space),
            _ => None,
        }
    }

    /// The values of one space.
    pub(super) fn space(&self, space: &str, table: Table, problems: &mut Problems) -> SpaceValues {
        let mut values = SpaceValues::new();
        for entry in table.entries {
            let definition = self.definitions.sub_option(space, &entry.key);
            let Some(definition) = problems.keep(entry.place, definition) else { continue };
            let place = entry.node.place;
            let Some(bytes) = encode(&definition, &entry.key, &entry.node, problems) else {
                continue;
            };
            if bytes.len() > usize::from(u8::MAX) {
                let text = format!("`{}` has {} bytes", entry.key, bytes.len());
                problems.error(place, Fault::new(text, "an option of a space has at most 255"));
            } else if let Some((_, first)) = values.insert(definition.code, (bytes, place)) {
                let text = format!("option {} of space {space} is set twice", definition.code);
                problems.conflict(place, Fault::new(text, "keep one"), first, "first set here");
            }
        }
        values
    }

    /// Puts the values of spaces into the options that carry them. Option 43 has room for one
    /// space: the one that `vendor-option-space` names.
    pub(super) fn choose_spaces(
        &self,
        collected: &mut Collected,
        chosen: Option<(Box<str>, Place)>,
        problems: &mut Problems,
    ) {
        if let Some((space, place)) = &chosen
            && !collected.spaces.iter().any(|(name, ..)| name == space)
        {
            match self.spaces.get(space) {
                Some((values, _)) => {
                    collected.spaces.push((space.clone(), values.clone(), *place));
                }
                None => problems.error(
                    *place,
                    Fault::new(
                        format!("space `{space}` has no values, neither here nor for everybody"),
                        format!("add them: options = {{ {space} = {{ ... }} }}"),
                    ),
                ),
            }
        }
        for (space, values, place) in std::mem::take(&mut collected.spaces) {
            let code = self.definitions.carrier(&space);
            if code == VENDOR && chosen.as_ref().is_some_and(|(chosen, _)| *chosen != space) {
                continue;
            }
            let bytes = encapsulated(&space, values);
            if let Some((_, first)) = collected.values.insert(code, (bytes, place)) {
                let text = format!("option {code} has two values in this scope");
                let help = format!("choose one space: vendor-option-space = \"{space}\"");
                problems.conflict(place, Fault::new(text, help), first, "the other is here");
            }
        }
    }
}

/// The values of one space as they travel in another option, each with code and length.
fn encapsulated(space: &str, values: SpaceValues) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (code, (bytes, _)) in values {
        // Longer values have been refused before.
        let Ok(length) = u8::try_from(bytes.len()) else { continue };
        encoded.extend([code, length]);
        encoded.extend(bytes);
    }
    if space == PXE_SPACE {
        // PXE 2.1, section 2.4: the list ends with PXE_END.
        encoded.push(options::END);
    }
    encoded
}
