//! Files of leases: of ISC dhcpd, of Kea, and our own CSV.

use std::io::{Write, sink};
use std::path::Path;

use bootstorm::config::Dhcp;
use bootstorm::lease_files::{self, Format, Item, Taken, Writer};
use bootstorm::leases::Clock;

use super::Target;
use crate::mutation::Good;
use crate::random::Random;

const DHCPD: &str = r#"authoring-byte-order little-endian;
server-duid "\000\001\000\001/\016\352\032RT\000\0224V";
failover peer "pair" state { my state normal at 6 2026/11/28 01:00:00; mclt 3600; }
class "rack" { spawning subclass "rack" 1:2; }
lease 10.0.0.10 {
  starts 6 2026/11/28 02:00:00;
  ends 6 2026/11/28 14:00:00;
  cltt 6 2026/11/28 02:00:00;
  binding state active;
  next binding state expired;
  billing subclass "rack" 1:2:a;
  hardware ethernet 52:54:00:12:34:56;
  uid "\001RT\000\0224V\"\\";
  set vendor-class-identifier = "PXEClient:Arch:00000";
  set count = %-7;
  set seen = true;
  option agent.circuit-id 0:4:0:1f;
  client-hostname "n01";
  on expiry or release { set gone = "yes"; if exists agent.circuit-id { unset gone; } }
}
lease 10.0.0.11 { starts epoch 1795831565; ends never; binding state free; reserved; uid ff:0; }
host n7 {
  dynamic;
  hardware ethernet 52:54:00:00:00:07;
  fixed-address 10.0.0.77, 10.0.1.77;
  filename "a \"b\"";
  option domain-name-servers 10.0.0.1, 10.0.0.2;
}
host n8 { dynamic; deleted; }
"#;

const KEA: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,\
hostname,state,user_context,pool_id\n\
10.0.0.10,52:54:00:12:34:56,01:52:54:00:12:34:56,3600,1795831565,1,0,0,n01,0,,0\n\
10.0.0.11,,ff:00,4294967295,4294967295,1,1,1,a.b&#x2cc,1,{ \"ISC\": { \"relay-agent-info\": \
\"0x0104\" } },0\n10.0.0.12,52:54:00:12:34:57,,3600,1795831566,1,0,0,,2,,0\n";

/// Addresses that are taken over: any.
const CONFIG: &str =
    "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\npools = [\"10.0.0.10-10.200.0.0\"]\n";

pub(crate) struct LeaseFiles {
    good: Good,
    file: tempfile::NamedTempFile,
    dhcp: Dhcp,
}

impl LeaseFiles {
    pub(crate) fn new() -> Self {
        let mut texts = vec![DHCPD.as_bytes().to_vec(), KEA.as_bytes().to_vec()];
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), DHCPD).expect("a temporary file");
        let mut csv = Vec::new();
        convert(file.path(), Format::Csv, &mut csv);
        texts.push(csv);
        let config = bootstorm::config::parse("x.toml".as_ref(), CONFIG.as_bytes());
        let dhcp = config.expect("a configuration").dhcp;
        Self { good: Good::of(texts), file, dhcp }
    }
}

/// Writes the leases of a file in another format.
fn convert(file: &Path, format: Format, out: &mut dyn Write) {
    let Ok(mut writer) = Writer::new(format, out) else { return };
    drop(lease_files::read(file, &mut |item| {
        if let Item::Lease(entry) = item {
            drop(writer.lease(&entry, 1));
        }
    }));
}

impl Target for LeaseFiles {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        self.good.damaged(random)
    }

    fn feed(&self, input: &[u8]) {
        std::fs::write(self.file.path(), input).expect("a temporary file");
        let _has_some = lease_files::has_leases(self.file.path());
        for format in [Format::Dhcpd, Format::Kea, Format::Csv] {
            convert(self.file.path(), format, &mut sink());
        }
        let mut taken = Taken::new(&self.dhcp);
        drop(taken.read(self.file.path()));
        let _hosts = taken.take_hosts();
        let (_leases, report) = taken.finish(&Clock::default());
        let _lines = report.lines();
    }
}
