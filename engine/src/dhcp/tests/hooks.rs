//! `on commit`, `on release`, `on expiry`, `execute` and `add`, with dhcpd.conf. The expectations
//! are what dhcpd 4.4 runs of the same file.

use std::time::Duration;

use bootstorm_protocols::dhcpv4::{MessageType, options};

use super::*;

/// Words of a program, with blanks between them.
type Run = Vec<String>;

const FILE: &str = r#"
authoritative;
ping-check false;
default-lease-time 600;
dhcp-cache-threshold 0;
class "late" {
  match if option host-name = "nobody";
  option domain-name "late";
  set late = "yes";
  on commit { execute("/bin/x", "late"); }
}
class "adds" { match if option vendor-class-identifier = "adds"; add "late"; }
on commit { execute("/bin/x", "global"); }
on release { execute("/bin/x", "release", ip, pick-first-value(keep, "none")); }
execute("/bin/x", "plain", option vendor-class-identifier);
subnet 10.1.0.0 netmask 255.255.0.0 {
  range 10.1.4.0 10.1.4.9;
  set ip = binary-to-ascii(10, 8, ".", leased-address);
  if option vendor-class-identifier = "add" { add "late"; }
  on commit or expiry {
    execute("/bin/x", "commit", ip, binary-to-ascii(16, 8, ":", suffix(hardware, 2)),
            pick-first-value(late, "none"));
    execute("/bin/x", "null", option nis-domain);
    log(info, concat("done ", ip));
    set keep = "kept";
  }
}
"#;

fn asks(number: u8, class: &str) -> Client {
    Client::plain(mac(number))
        .with(options::PARAMETER_REQUEST_LIST, &[15])
        .with(options::VENDOR_CLASS_IDENTIFIER, class.as_bytes())
}

fn expect(server: &mut Server, kind: MessageType, datagram: &Datagram) -> (Answer, Run) {
    let answer = server.expect(kind, datagram);
    (answer, server.take_run())
}

#[test]
fn what_is_asked_for_at_commit_is_done_when_the_lease_is_durable() {
    let mut server = Server::new(FILE);
    let client = asks(1, "v");
    let (offer, run) = expect(&mut server, MessageType::Offer, &client.discover());
    assert_eq!(run, ["/bin/x plain v"]);
    let (ack, run) = expect(&mut server, MessageType::Ack, &client.select(&offer));
    // The narrower `on commit` takes the place of the wider one, and null is no argument.
    let commit = "/bin/x commit 10.1.4.0 0:1 none";
    assert_eq!(run, ["log done 10.1.4.0", "/bin/x plain v", commit]);
    let (_, again) = expect(&mut server, MessageType::Ack, &client.renew(ack.yiaddr()));
    assert_eq!(again, run);
    let (_, inform) = expect(&mut server, MessageType::Ack, &client.inform(ip("10.1.0.99")));
    assert_eq!(inform, ["/bin/x plain v"]);
}

#[test]
fn a_lease_that_ends_runs_what_was_said_when_it_was_given() {
    let mut server = Server::new(FILE);
    let client = asks(1, "v");
    let address = server.lease(&client);
    server.take_run();
    let _ = server.receive(&client.release(address));
    assert_eq!(server.take_run(), ["/bin/x release 10.1.4.0 kept"]);
    let _ = server.receive(&client.release(address));
    assert_eq!(server.take_run(), Run::new());

    let expiry = ["log done 10.1.4.0", "/bin/x commit 10.1.4.0 0:1 none"];
    server.lease(&client);
    // The file may have changed its other lines.
    server.restart();
    server.reload(&format!("# more\n{FILE}"));
    server.take_run();
    server.pass(Duration::from_secs(599));
    server.sweep();
    assert_eq!(server.take_run(), Run::new());
    server.pass(Duration::from_secs(1));
    server.sweep();
    assert_eq!(server.take_run(), expiry);
    server.sweep();
    assert_eq!(server.take_run(), Run::new());
    // Whoever comes before the sweep does not keep it from being done.
    server.lease(&client);
    server.take_run();
    server.pass(Duration::from_secs(600));
    let run = expect(&mut server, MessageType::Offer, &client.discover()).1;
    assert_eq!(run, [&expiry[..], &["/bin/x plain v"]].concat());
    // What the configuration says no more is not done.
    server.lease(&client);
    server.reload(&FILE.replace("on commit or expiry", "on commit"));
    server.take_run();
    server.pass(Duration::from_secs(600));
    server.sweep();
    assert_eq!(server.take_run(), Run::new());
}

#[test]
fn statements_of_an_added_class_run_before_those_of_other_classes() {
    let mut server = Server::new(FILE);
    let client = asks(1, "add");
    let (offer, _) = expect(&mut server, MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::DOMAIN_NAME).as_deref(), Some(&b"late"[..]));
    let (_, run) = expect(&mut server, MessageType::Ack, &client.select(&offer));
    assert_eq!(run, ["/bin/x plain add", "/bin/x late"]);
    // A class is added too late by a class.
    let client = asks(2, "adds");
    let (offer, _) = expect(&mut server, MessageType::Offer, &client.discover());
    assert_eq!(offer.option(options::DOMAIN_NAME), None);
    let (_, run) = expect(&mut server, MessageType::Ack, &client.select(&offer));
    assert_eq!(run[2], "/bin/x commit 10.1.4.1 0:2 none");
}
