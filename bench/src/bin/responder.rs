//! The generator's bare responder by itself: an address and a network of this host, and how long.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bootstorm_loadgen::responder::{Net, Setting, serve};
use bootstorm_net::EngineChoice;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

#[derive(Parser)]
#[command(about = "Answers every DHCP request at once, to measure load generators with")]
struct Args {
    /// An address of this host: port 67 of it, the server identifier, and siaddr. Broadcasts are
    /// answered, too.
    #[arg(long)]
    listen: Ipv4Addr,
    /// uring, mmsg or auto.
    #[arg(long, default_value = "auto", value_parser = engine)]
    engine: EngineChoice,
    /// Where the addresses come from: /8 to /23.
    #[arg(long, default_value = "10.100.0.0/16")]
    net: Net,
    /// How long; without it, until SIGINT or SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
}

fn engine(name: &str) -> Result<EngineChoice, &'static str> {
    match name {
        "auto" => Ok(EngineChoice::Auto),
        "uring" => Ok(EngineChoice::Uring),
        "mmsg" => Ok(EngineChoice::Mmsg),
        _ => Err("uring, mmsg or auto"),
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let (kind, denied) = args.engine.resolve().map_err(io::Error::other)?;
    if let Some(denied) = denied {
        eprintln!("{denied}");
    }
    let setting = Setting {
        listen: args.listen,
        net: args.net,
        broadcasts: true,
        lasts: args.seconds.map(Duration::from_secs),
    };
    let served = serve(kind, &setting, &stop, || ())?;
    println!(
        "{{\"discovers\":{},\"requests\":{},\"unheard\":{},\"unsent\":{}}}",
        served.discovers, served.requests, served.unheard, served.unsent
    );
    Ok(())
}
