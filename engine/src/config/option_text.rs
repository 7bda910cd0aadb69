//! Values of options as a person writes them on a command line.

use bootstorm_protocols::dhcpv4::options::{self, Kind};

use super::option_types::OptionType;
use super::problem::Fault;
use super::source::Place;
use super::tree::{Node, Value};

/// The code of a standard option by its number or name, and the bytes of a value, which is written
/// as in a configuration, with commas between the elements of a list. `hex:` and digits stand for
/// the bytes of every option.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn option_of_text(name: &str, value: &str) -> Result<(u8, Vec<u8>), String> {
    let code = match name.parse() {
        Ok(code) => Some(code),
        Err(_) => options::by_name(name).map(|known| known.code),
    };
    let code =
        code.filter(|code| ![options::PAD, options::END].contains(code)).ok_or_else(|| {
            format!(
                "there is no option {name:?}; write its number, 1 to 254, or its name in dhcpd.conf"
            )
        })?;
    let kind = options::by_code(code).map_or(Kind::Bytes, |known| known.kind);
    encoded(&OptionType::of(&kind), &format!("option {name}"), value).map(|bytes| (code, bytes))
}

/// Bytes: a text stands for itself, and `hex:` goes before hexadecimal digits. `name` is what they
/// are, for the error.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn bytes_of_text(name: &str, value: &str) -> Result<Vec<u8>, String> {
    encoded(&OptionType::Octets, name, value)
}

fn encoded(option_type: &OptionType, name: &str, value: &str) -> Result<Vec<u8>, String> {
    let node = Node { place: NOWHERE, value: value_of(option_type, value) };
    option_type.encode(&node).map_err(|Fault { message, help }| {
        let help = help.map_or(String::new(), |help| format!("; {help}"));
        format!("{name} {message}{help}")
    })
}

/// The text stands in no file.
const NOWHERE: Place = Place { file: u32::MAX, start: 0, end: 0 };

fn value_of(option_type: &OptionType, text: &str) -> Value {
    match option_type {
        _ if text.starts_with("hex:") => Value::Text(text.into()),
        OptionType::Flag | OptionType::Boolean => {
            text.parse().map_or_else(|_| Value::Text(text.into()), Value::Bool)
        }
        OptionType::Unsigned(_) | OptionType::Signed(_) => {
            text.parse().map_or_else(|_| Value::Text(text.into()), Value::Integer)
        }
        OptionType::Array(element) => Value::Array(nodes_of(element, text)),
        OptionType::DomainList { .. } | OptionType::Routes | OptionType::SipServers => {
            Value::Array(nodes_of(&OptionType::Text, text))
        }
        _ => Value::Text(text.into()),
    }
}

fn nodes_of(element: &OptionType, text: &str) -> Vec<Node> {
    let words = text.split(',').map(str::trim);
    words.map(|word| Node { place: NOWHERE, value: value_of(element, word) }).collect()
}

#[cfg(test)]
mod tests {
    use super::option_of_text;

    #[test]
    fn values_are_those_of_a_configuration() {
        let value = |name, value| option_of_text(name, value).unwrap();
        assert_eq!(value("routers", "10.0.0.1, 10.0.0.2"), (3, vec![10, 0, 0, 1, 10, 0, 0, 2]));
        assert_eq!(value("55", "1,3,66"), (55, vec![1, 3, 66]));
        assert_eq!(value("57", "1500"), (57, vec![5, 220]));
        assert_eq!(value("host-name", "n01"), (12, b"n01".to_vec()));
        assert_eq!(value("host-name", "17"), (12, b"17".to_vec()));
        assert_eq!(value("93", "hex:0007"), (93, vec![0, 7]));
        assert_eq!(value("224", "text"), (224, b"text".to_vec()));
        assert_eq!(value("80", "true"), (80, vec![]));
    }

    #[test]
    fn what_is_no_option_or_no_value_of_it_is_refused_with_a_way_out() {
        let wrong = |name, value| option_of_text(name, value).unwrap_err();
        assert!(wrong("hostname", "x").contains("there is no option \"hostname\""));
        assert!(wrong("0", "x").contains("there is no option"));
        assert!(wrong("255", "x").contains("there is no option"));
        assert!(wrong("300", "x").contains("there is no option"));
        assert!(wrong("routers", "10.0.0").contains("option routers "));
        assert!(wrong("57", "many").contains("option 57 must be"), "{}", wrong("57", "many"));
        assert!(wrong("93", "hex:00f").contains("hexadecimal"));
    }
}
