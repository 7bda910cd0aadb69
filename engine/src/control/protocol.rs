//! The protocol of the control socket: one JSON object a line, requests one way, responses the
//! other. `docs/OPERATIONS.md` describes it for those who write their own client.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::lease_row::LeaseRow;
use super::status::Status;
use crate::event::row::Row;
use crate::explain::{Asked, Explanation};
use crate::live_hosts::{Change, HostObject};

/// The longest line, in bytes.
pub const LINE_LIMIT: usize = 64 * 1024;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the server is. Answered by `status`.
    Status {},
    /// All leases. Answered by any number of `lease`, then `end`.
    LeasesList {},
    /// The leases of one address or one machine. Answered as `leases-list`.
    LeasesShow {
        /// An IPv4 address or a hardware address.
        of: String,
    },
    /// Give an address back to its pool, durably. Answered by the `lease` as it was, then `end`.
    LeasesRelease {
        /// The address.
        ip: Ipv4Addr,
    },
    /// What would be answered to a machine, and why. Answered by `explained` or `error`.
    Explain(Box<Asked>),
    /// Read the configuration again. Answered by `reloaded` or `error`.
    Reload {},
    /// Change live hosts, all or none of them. As many lines as `count` follow, each an object with
    /// the keys of `[[dhcp.host]]`; of a host to be removed its `name` is enough. Answered by
    /// `hosts-changed` or `error`.
    HostsChange {
        /// `add`, `set` or `remove`.
        change: Change,
        /// How many lines follow.
        count: u32,
    },
    /// All live hosts. Answered by any number of `host`, then `end`.
    HostsList {},
    /// Events as they happen, until the client closes. Answered by `event` and `lost`.
    Events {
        /// Only this machine's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<String>,
    },
}

/// What the server answers. Every answer but that to `events` ends with `end`, `status`,
/// `explained`, `reloaded`, `hosts-changed` or `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// One lease.
    Lease(LeaseRow),
    /// One event.
    Event(Row),
    /// So many events were lost, because this client reads too slowly.
    Lost(u64),
    /// How the server is.
    Status(Box<Status>),
    /// What would be answered, and why.
    Explained(Box<Explanation>),
    /// The new configuration holds; what changed.
    Reloaded(String),
    /// One live host.
    Host(HostObject),
    /// The hosts are as they were asked to be, durably.
    HostsChanged(String),
    /// The answer is complete, with so many rows.
    End(u64),
    /// The request failed; what was wrong and what to do.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() {
        let request = |line| serde_json::from_str::<Request>(line);
        assert_eq!(request(r#"{"command":"status"}"#).unwrap(), Request::Status {});
        assert_eq!(
            request(r#"{"command":"leases-release","ip":"10.1.4.7"}"#).unwrap(),
            Request::LeasesRelease { ip: Ipv4Addr::new(10, 1, 4, 7) }
        );
        assert_eq!(request(r#"{"command":"events"}"#).unwrap(), Request::Events { mac: None });
        let asked = r#"{"command":"explain","mac":"52:54:00:12:34:56","user-class":"iPXE"}"#;
        let Ok(Request::Explain(asked)) = request(asked) else { panic!("{:?}", request(asked)) };
        assert_eq!((&*asked.mac, asked.user_class.as_deref()), ("52:54:00:12:34:56", Some("iPXE")));
        assert!(request(r#"{"command":"explain","mac":"1","colour":"red"}"#).is_err());
        assert!(request(r#"{"command":"leases-release"}"#).is_err());
        assert!(request(r#"{"command":"status","verbose":true}"#).is_err());
        assert!(request(r#"{"command":"dance"}"#).is_err());
    }

    #[test]
    fn responses_are_one_key_objects() {
        let line = |response: Response| serde_json::to_string(&response).unwrap();
        assert_eq!(line(Response::End(3)), r#"{"end":3}"#);
        assert_eq!(line(Response::Error("no".to_owned())), r#"{"error":"no"}"#);
    }
}
