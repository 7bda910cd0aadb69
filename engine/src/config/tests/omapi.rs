//! OMAPI and its key.

use std::path::Path;

use super::super::*;
use super::good;

const DHCP: &str = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/24\"\n";

#[test]
fn who_may_change_hosts_is_said() {
    let local = good(&format!("{DHCP}[control]\nomapi = \"127.0.0.1:7911\"\n"));
    assert_eq!(local.control.omapi.unwrap().key, None);
    let unused = "[control]\nomapi-key = { name = \"k\", secret = \"YQ==\" }\n";
    let unused = parse(Path::new("m.toml"), format!("{DHCP}{unused}").as_bytes()).unwrap();
    assert!(unused.warnings[0].one_line().to_string().contains("without `omapi`"));
    assert_eq!(unused.control.omapi, None);

    let key = |key: &str| format!("omapi = \"10.0.0.1:7911\"\nomapi-key = {{ {key} }}");
    for (text, expected) in [
        ("omapi = \"10.0.0.1:7911\"".to_owned(), "whoever reaches this address may change hosts"),
        (key("name = \"k\""), "needs the key `secret`"),
        (key("name = \"k\", secret = \"%\""), "`secret` must be bytes in base64"),
        (key("name = \"k\", secret = \"YQ==\", algorithm = \"md4\""), "`algorithm`"),
        (key("name = \"k\", secret = \"YQ==\", colour = 1"), "has no key `colour`"),
    ] {
        let text = format!("{DHCP}[control]\n{text}\n");
        let error = parse(Path::new("m.toml"), text.as_bytes()).unwrap_err().render(false);
        assert!(error.contains(expected), "{error}");
    }
}
