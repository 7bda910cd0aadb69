//! Reading `[server]`, `[tftp]`, `[control]` and `[log]`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use bootstorm_protocols::tftp::MULTICAST_PORT;

use super::fields::Fields;
use super::problem::{At, Fault, Problems};
use super::source::{Files, Place};
use super::tree::{Node, Value};
use super::{
    Control, EngineChoice, Log, LogFormat, LogLevel, MapRule, Multicast, Omapi, OmapiAlgorithm,
    OmapiKey, OtherServers, Server, Tftp, UploadMode,
};
use super::{disk, quirk_reader, schema, units};

/// The kernel's IFNAMSIZ, without the closing NUL.
const INTERFACE_NAME: usize = 15;
/// More shards than any machine has cores.
const SHARDS: u16 = 1024;

/// `[server]` and the places of its interfaces.
pub(super) fn server(
    node: Option<Node>,
    files: &Files,
    problems: &mut Problems,
) -> (Server, Vec<Place>) {
    let usual = Server::default();
    let opened = node.and_then(|node| Fields::open(node, &schema::SERVER, problems));
    let Some(mut fields) = opened else { return (usual, Vec::new()) };
    let given = fields.peek("interfaces").map(|node| match &node.value {
        Value::Array(nodes) if nodes.is_empty() => {
            let help = "leave the line out to serve every interface with an IPv4 address";
            problems.error(node.place, Fault::new("`interfaces` names no interface", help));
        }
        _ => {}
    });
    let interfaces = fields.list("interfaces", problems, interface);
    let (interfaces, places): (Vec<String>, Vec<Place>) = interfaces.into_iter().unzip();
    let user = fields.get("user", problems, |node| units::text(node).map(str::to_owned));
    if let (Some(place), None) = (fields.place_of("group"), &user) {
        let help = "name the user to become as well: user = \"bootstorm\"";
        problems.warn(place, Fault::new("`group` without `user` changes nothing", help));
    }
    let server = Server {
        interfaces: given.map(|()| interfaces),
        state_dir: path(&mut fields, "state-dir", files, problems).unwrap_or(usual.state_dir),
        shards: fields
            .get("shards", problems, |node| units::integer(node, 1..=SHARDS))
            .map(usize::from),
        engine: fields.get("engine", problems, engine).unwrap_or_default(),
        busy_poll: fields.get("busy-poll", problems, units::boolean).unwrap_or(usual.busy_poll),
        user,
        group: fields.get("group", problems, |node| units::text(node).map(str::to_owned)),
        allow_other_servers: other_servers(&mut fields, problems),
        lease_file: None,
    };
    (server, places)
}

fn interface(node: &Node) -> Result<String, Fault> {
    let name = units::text(node)?;
    let good = name.len() <= INTERFACE_NAME && !name.contains(['/', ' ', '\0']);
    if good {
        return Ok(name.to_owned());
    }
    Err(units::must_be("the name of an interface", node, "`ip link` lists them: \"eth1\""))
}

fn engine(node: &Node) -> Result<EngineChoice, Fault> {
    let words = [
        ("auto", EngineChoice::Auto),
        ("uring", EngineChoice::Uring),
        ("mmsg", EngineChoice::Mmsg),
    ];
    units::word(node, &words)
}

fn other_servers(fields: &mut Fields, problems: &mut Problems) -> OtherServers {
    let key = "allow-other-servers";
    match fields.peek(key).map(|node| &node.value) {
        None | Some(Value::Bool(false)) => OtherServers::None,
        Some(Value::Bool(true)) => OtherServers::All,
        Some(_) => {
            let address = |node: &Node| {
                let help = "write true, or their addresses: [\"10.1.0.2\"]";
                units::ipv4(node).map_err(|_| units::must_be("IPv4 addresses", node, help))
            };
            let list = fields.list(key, problems, address);
            OtherServers::List(list.into_iter().map(|(address, _)| address).collect())
        }
    }
}

/// `[tftp]`; `None` when there is no such table.
pub(super) fn tftp(node: Option<Node>, files: &mut Files, problems: &mut Problems) -> Option<Tftp> {
    let mut fields = Fields::open(node?, &schema::TFTP, problems)?;
    if fields.peek("root").is_none() {
        let help = "add root = \"/srv/tftp\", the directory with the boot files";
        problems.error(fields.place, Fault::new("[tftp] needs the key `root`", help));
    }
    let root = path(&mut fields, "root", files, problems).unwrap_or_default();
    let usual = Tftp::new(root);
    let map = map(&mut fields, files, problems);
    let quirks = quirk_reader::quirks(&mut fields, problems);
    let (timeout, min_retry) = retry_intervals(&mut fields, &usual, problems);
    let tftp = Tftp {
        upload: fields.get("upload", problems, upload).unwrap_or(usual.upload),
        // RFC 2348: 8 to 65464.
        max_blksize: fields
            .get("max-blksize", problems, |node| units::integer(node, 8..=65464))
            .unwrap_or(usual.max_blksize),
        max_windowsize: fields
            .get("max-windowsize", problems, |node| units::integer(node, 1..=u16::MAX))
            .unwrap_or(usual.max_windowsize),
        clamp_to_mtu: fields
            .get("clamp-to-mtu", problems, units::boolean)
            .unwrap_or(usual.clamp_to_mtu),
        max_transfers: fields
            .get("max-transfers", problems, |node| units::integer(node, 1..=10_000_000))
            .unwrap_or(usual.max_transfers),
        max_transfers_per_client: fields
            .get("max-transfers-per-client", problems, |node| units::integer(node, 1..=10_000_000))
            .unwrap_or(usual.max_transfers_per_client),
        single_port: single_port(&mut fields, problems),
        port_range: fields.get("port-range", problems, units::port_range),
        case_insensitive: fields
            .get("case-insensitive", problems, units::boolean)
            .unwrap_or(usual.case_insensitive),
        image_budget: fields
            .get("image-budget", problems, units::size)
            .unwrap_or(usual.image_budget),
        client_rate: fields.get("client-rate", problems, units::client_rate),
        interface_rates: fields
            .list("interface-rate", problems, units::interface_rate)
            .into_iter()
            .map(|(rate, _)| rate)
            .collect(),
        timeout,
        min_retry,
        retries: fields
            .get("retries", problems, |node| units::integer(node, 1..=100))
            .unwrap_or(usual.retries),
        multicast: multicast(&mut fields, problems),
        adaptive_windowsize: fields
            .get("adaptive-windowsize", problems, units::boolean)
            .unwrap_or(usual.adaptive_windowsize),
        map,
        quirks,
        ..usual
    };
    Some(tftp)
}

/// `upload`: a boolean, or `overwrite`.
fn upload(node: &Node) -> Result<UploadMode, Fault> {
    match &node.value {
        Value::Bool(false) => Ok(UploadMode::Off),
        Value::Bool(true) => Ok(UploadMode::Create),
        Value::Text(text) if &**text == "overwrite" => Ok(UploadMode::Overwrite),
        _ => Err(units::must_be(
            "true, false or \"overwrite\"",
            node,
            "write true for new files only, \"overwrite\" to let clients replace files as well",
        )),
    }
}

/// `timeout` and `min-retry`: the first interval of a transfer, and the shortest.
fn retry_intervals(
    fields: &mut Fields,
    usual: &Tftp,
    problems: &mut Problems,
) -> (Duration, Duration) {
    let place = fields.place_of("min-retry");
    let timeout = fields.get("timeout", problems, units::retry_interval).unwrap_or(usual.timeout);
    let min_retry = fields.get("min-retry", problems, units::retry_interval);
    if let (Some(min_retry), Some(place)) = (min_retry, place)
        && min_retry > timeout
    {
        let text = format!("min-retry is longer than the first interval, timeout = {timeout:?}");
        let help = "raise `timeout` to the same time, or lower `min-retry`";
        problems.error(place, Fault::new(text, help));
    }
    (timeout, min_retry.unwrap_or_else(|| usual.min_retry.min(timeout)))
}

/// `single-port`, which leaves no port for what other keys ask.
fn single_port(fields: &mut Fields, problems: &mut Problems) -> bool {
    let on = fields.get("single-port", problems, units::boolean).unwrap_or(false);
    for key in ["multicast", "port-range"] {
        if let (true, Some(place)) = (on, fields.place_of(key)) {
            let message = format!("there is no `{key}` with single-port = true");
            let help = "take one of the two away: transfers have no ports of their own then";
            problems.error(place, Fault::new(message, help));
        }
    }
    on
}

/// `multicast` and what goes with it.
fn multicast(fields: &mut Fields, problems: &mut Problems) -> Option<Multicast> {
    let place = fields.place_of("multicast-port").or_else(|| fields.place_of("multicast-ttl"));
    if let (None, Some(place)) = (fields.peek("multicast"), place) {
        let help = "add multicast = \"239.255.1.0/24\", the groups that streams are sent to";
        problems.error(place, Fault::new("there is no multicast without groups", help));
    }
    let groups = fields.get("multicast", problems, units::multicast_groups);
    let port = fields
        .get("multicast-port", problems, |node| units::integer(node, 1..=u16::MAX))
        .unwrap_or(MULTICAST_PORT);
    let ttl = fields
        .get("multicast-ttl", problems, |node| units::integer(node, 1..=u8::MAX))
        .unwrap_or(1);
    groups.map(|groups| Multicast { groups, port, ttl })
}

/// The rules of `map-file`, then those of `map`.
fn map(fields: &mut Fields, files: &mut Files, problems: &mut Problems) -> Vec<MapRule> {
    let place = fields.place_of("map-file");
    let path = path(fields, "map-file", files, problems);
    let mut rules = match (path, place) {
        (Some(path), Some(place)) => map_file(path, place, files, problems),
        _ => Vec::new(),
    };
    for mut fields in fields.tables("map", &schema::MAP_RULE, problems) {
        let text = |node: &Node| units::text(node).map(str::to_owned);
        let operation = fields.require("operation", "\"r\"", problems, text);
        // A label has no pattern, and a refusal no replacement.
        let may_be_empty = |node: &Node| match &node.value {
            Value::Text(text) => Ok(text.to_string()),
            _ => text(node),
        };
        let pattern = fields.get("pattern", problems, may_be_empty).unwrap_or_default();
        let replacement = fields.get("replacement", problems, may_be_empty).unwrap_or_default();
        if let Some((operation, place)) = operation {
            let at = At::of(place, files);
            rules.push(MapRule { at, ..MapRule::new(operation, pattern, replacement) });
        }
    }
    rules
}

/// A map file as tftpd-hpa reads it: an operation, a pattern and a replacement in each line, with
/// blanks between them; `#` begins a comment. File names are bytes, so it may be no UTF-8.
fn map_file(
    path: PathBuf,
    named: Place,
    files: &mut Files,
    problems: &mut Problems,
) -> Vec<MapRule> {
    let added = disk::read(&path).map_err(|error| error.to_string()).and_then(|(bytes, _)| {
        // What problems show of it.
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        Ok((files.add(path.clone(), shown.clone(), None)?, bytes, shown))
    });
    let (file, bytes, shown) = match added {
        Ok(added) => added,
        Err(error) => {
            let message = format!("the map file {} cannot be read: {error}", path.display());
            problems.error(named, Fault::plain(message));
            return Vec::new();
        }
    };
    let mut rules = Vec::new();
    let mut start = 0;
    for (line, shown) in
        bytes.split_inclusive(|&byte| byte == b'\n').zip(shown.split_inclusive('\n'))
    {
        let place = Place::of_line(file, start, shown);
        start += shown.len();
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut words = words.take_while(|word| !word.starts_with(b"#"));
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (operation, pattern, replacement) = (word(), word(), word());
        let operation = String::from_utf8_lossy(&operation).into_owned();
        if words.next().is_some() {
            let help = "write an operation, a pattern and a replacement: r ^old/ new/";
            problems.error(place, Fault::new("a map rule has at most three words", help));
        } else if !operation.is_empty() {
            rules.push(MapRule { at: At::of(place, files), operation, pattern, replacement });
        }
    }
    rules
}

/// `[control]`
pub(super) fn control(node: Option<Node>, problems: &mut Problems) -> Control {
    let usual = Control::default();
    let opened = node.and_then(|node| Fields::open(node, &schema::CONTROL, problems));
    let Some(mut fields) = opened else { return usual };
    let metrics = fields.get("metrics", problems, |node| match &node.value {
        Value::Bool(false) => Ok(None),
        Value::Text(text) if **text == *"off" => Ok(None),
        _ => units::socket_address(node).map(Some).map_err(|fault| Fault {
            help: fault.help.map(|help| format!("{help}, or \"off\" for no metrics")),
            ..fault
        }),
    });
    let omapi = omapi(&mut fields, problems);
    Control { metrics: metrics.unwrap_or(usual.metrics), omapi }
}

fn omapi(fields: &mut Fields, problems: &mut Problems) -> Option<Omapi> {
    let address = fields.get_placed("omapi", problems, units::socket_address);
    let mut keys = fields.tables("omapi-key", &schema::OMAPI_KEY, problems);
    let key = keys.pop().map(|fields| (fields.place, omapi_key(fields, problems)));
    match (address, &key) {
        (Some((address, place)), None) if !address.ip().is_loopback() => {
            let text = "whoever reaches this address may change hosts";
            let help = "add omapi-key = { name = \"k\", secret = \"...\" }, or listen on 127.0.0.1";
            problems.error(place, Fault::new(text, help));
        }
        (None, Some((place, _))) => {
            let help = "add omapi = \"127.0.0.1:7911\"";
            problems.warn(*place, Fault::new("`omapi-key` without `omapi` changes nothing", help));
        }
        _ => {}
    }
    let (address, _) = address?;
    Some(Omapi { address, key: key.and_then(|(_, key)| key) })
}

fn omapi_key(mut fields: Fields, problems: &mut Problems) -> Option<OmapiKey> {
    let name =
        fields.require("name", "\"omapi\"", problems, |node| units::text(node).map(str::to_owned));
    let algorithm =
        fields.get("algorithm", problems, |node| units::word(node, &OmapiAlgorithm::NAMES));
    let secret = fields.require("secret", "\"MDEyMzQ1Njc4OWFiY2RlZg==\"", problems, |node| {
        let text = units::text(node)?;
        match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(secret) if !secret.is_empty() => Ok(secret),
            _ => {
                let help = "tsig-keygen -a hmac-sha256 prints one";
                Err(Fault::new("must be bytes in base64", help))
            }
        }
    });
    let (name, secret) = (name?.0, secret?.0.into());
    Some(OmapiKey { name, algorithm: algorithm.unwrap_or_default(), secret })
}

/// `[log]`
pub(super) fn log(node: Option<Node>, problems: &mut Problems) -> Log {
    let opened = node.and_then(|node| Fields::open(node, &schema::LOG, problems));
    let Some(mut fields) = opened else { return Log::default() };
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    Log {
        level: fields.get("level", problems, |node| units::word(node, &levels)).unwrap_or_default(),
        format: fields
            .get("format", problems, |node| units::word(node, &formats))
            .unwrap_or_default(),
    }
}

/// A path; one that is not absolute begins at the directory of the file that it is written in.
fn path(fields: &mut Fields, key: &str, files: &Files, problems: &mut Problems) -> Option<PathBuf> {
    let (path, place) = fields.get_placed(key, problems, units::path)?;
    Some(files.beside(place, &path))
}
