//! Which options a reply carries, and in which order.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{OptionData, options, pxe};
use bumpalo::collections::Vec as BumpVec;

use super::machine::Firmware;
use super::reply::{FILE_LIMIT, Origin, Outgoing, Reply};
use crate::config::LeaseTime;

/// Options in the order they will be written; each code once, the first value stands. What comes
/// first has room first where a client takes only a short message, so what it cannot do without
/// stands at the beginning. Option 82 is not among them: see [`Reply::write`].
pub(super) struct Options<'a, 'r> {
    /// Whose options they are. They depend on nothing else: see [`Reply::key`].
    reply: &'r Reply<'a>,
    list: BumpVec<'a, Outgoing<'a>>,
    present: [u64; 4],
}

/// Option 43 that ends the search for boot servers (PXE 2.1 section 2.2.4).
const BOOT_FILE_AT_ONCE: [u8; 4] =
    [pxe::DISCOVERY_CONTROL, 1, pxe::BOOT_FILE_AT_ONCE, options::END];

/// Option 175 that ends iPXE's wait for a ProxyDHCP.
const NO_PROXY: [u8; 3] = [pxe::NO_PXEDHCP, 1, 1];

/// Codes that the rules alone decide about: nothing is sent for them because a client asks or a
/// scope has a value.
fn is_ours(code: u8) -> bool {
    options::is_protocol(code)
        || matches!(
            code,
            options::LEASE_TIME
                | options::SERVER_IDENTIFIER
                | options::MESSAGE
                | options::RENEWAL_TIME
                | options::REBINDING_TIME
        )
}

impl<'a, 'r> Options<'a, 'r> {
    /// The options of a reply.
    pub(super) fn of(reply: &'r Reply<'a>) -> &'a [Outgoing<'a>] {
        let list = BumpVec::with_capacity_in(24, reply.arena);
        let mut this = Self { reply, list, present: [0; 4] };
        this.begin();
        match reply.nak {
            // RFC 2131 table 3: of the parameters only message, server and client identifier.
            Some(reason) => this.explanation(reason.text()),
            None => {
                match reply.lease {
                    Some(lease) if reply.chain.dhcp().is_as_dhcpd() => this.lease_as_dhcpd(lease),
                    Some(lease) => this.lease(lease),
                    None => {}
                }
                if reply.rapid_commit {
                    // The client takes the ACK to its DISCOVER as such only with this option
                    // (RFC 4039 section 3).
                    this.make(options::RAPID_COMMIT, &[]);
                }
                if !reply.chain.dhcp().is_as_dhcpd() {
                    this.boot();
                }
                this.parameters();
            }
        }
        this.list.into_bump_slice()
    }

    /// The type of a DHCP reply and this server's identifier, and what the client gets back.
    fn begin(&mut self) {
        if self.reply.kind.is_none() && self.reply.chain.dhcp().is_as_dhcpd() {
            // dhcpd has these for options as others are.
            if let Some(server) = self.reply.chain.server_identifier() {
                self.make(options::SERVER_IDENTIFIER, &server.octets());
            }
            self.configured(options::RENEWAL_TIME);
            self.configured(options::REBINDING_TIME);
            if self.reply.asked.is_empty() {
                self.configured(options::PARAMETER_REQUEST_LIST);
            }
        }
        if let Some(kind) = self.reply.kind {
            self.make(options::MESSAGE_TYPE, &[kind.code()]);
            self.make(options::SERVER_IDENTIFIER, &self.reply.server_identifier.octets());
            // RFC 6842 section 3: the reply carries the client identifier of the request.
            self.echo(options::CLIENT_IDENTIFIER, self.reply.client_id);
        }
        // RFC 3011 section 2: an identical copy, or the client discards the reply.
        self.echo(options::SUBNET_SELECTION, self.reply.subnet_selection);
    }

    /// Lease, renewal and rebinding time (RFC 2131 section 4.4.5: half and seven eighths of the
    /// lease, unless the configuration says otherwise).
    fn lease(&mut self, lease: LeaseTime) {
        self.make(options::LEASE_TIME, &lease.seconds().to_be_bytes());
        if lease.is_infinite() {
            return;
        }
        let seconds = u64::from(lease.seconds());
        // Both fit 32 bits: they are less than the lease time.
        let (half, most) = ((seconds / 2) as u32, (seconds * 7 / 8) as u32);
        // T1 before T2 before the end, or the configured value does not count.
        let end = lease.seconds();
        let rebinding = self.configured_time(options::REBINDING_TIME, end).unwrap_or(most);
        let renewal = self.configured_time(options::RENEWAL_TIME, rebinding);
        let renewal = renewal.unwrap_or(half.min(rebinding));
        for (code, time) in [(options::RENEWAL_TIME, renewal), (options::REBINDING_TIME, rebinding)]
        {
            match self.reply.chain.option(code) {
                Some((value, scope)) if *value == time.to_be_bytes() => {
                    self.push(code, value, Origin::Scope(scope));
                }
                _ => self.make(code, &time.to_be_bytes()),
            }
        }
    }

    /// A time of the configuration that is not beyond `limit`.
    fn configured_time(&self, code: u8, limit: u32) -> Option<u32> {
        let (value, _) = self.reply.chain.option(code)?;
        Some(u32::from_be_bytes(value.try_into().ok()?)).filter(|time| *time <= limit)
    }

    /// The parameters of the client's scopes: the subnet mask, what the client asks for in its
    /// order of preference (RFC 2132 section 9.8), and what the configuration always sends. A
    /// client without a list gets everything.
    ///
    /// ISC dhcpd sends the mask by INFORM only to who asks for it.
    fn parameters(&mut self) {
        let Reply { kind, lease, asked, chain, .. } = self.reply;
        let informs = chain.dhcp().is_as_dhcpd() && kind.is_some() && lease.is_none();
        if !informs || asked.is_empty() || asked.contains(&options::SUBNET_MASK) {
            self.subnet_mask();
        }
        if asked.is_empty() {
            self.all_parameters();
            return;
        }
        for &code in asked.iter().filter(|code| !is_ours(**code)) {
            self.configured(code);
        }
        self.always_sent();
    }

    /// The subnet mask of the scopes; where none says what it is, that of the subnet.
    fn subnet_mask(&mut self) {
        // RFC 2132 section 3.3: the subnet mask stands before the routers.
        let chain = self.reply.chain;
        match (chain.decided(options::SUBNET_MASK), chain.subnet_mask()) {
            (None, Some(mask)) => self.make(options::SUBNET_MASK, &mask.octets()),
            _ => self.configured(options::SUBNET_MASK),
        }
    }

    /// What a client without a list gets: everything, with what it needs most first.
    fn all_parameters(&mut self) {
        for code in [options::ROUTERS, options::DOMAIN_NAME_SERVERS, options::HOST_NAME] {
            self.configured(code);
        }
        let as_dhcpd = self.reply.chain.dhcp().is_as_dhcpd();
        self.reply.chain.for_each(|scope_id, scope| {
            if let Some(code) = scope.without() {
                self.hide(code);
            }
            for (code, value) in scope.options.iter().filter(|(code, _)| !is_ours(*code)) {
                // dhcpd sends nothing that is empty.
                match value.is_empty() && as_dhcpd {
                    true => self.hide(code),
                    false => self.push(code, value, Origin::Scope(scope_id)),
                }
            }
        });
    }

    /// What is sent whether a client asks for it or not.
    fn always_sent(&mut self) {
        self.reply.chain.for_each(|_, scope| {
            for &code in scope.settings().always_send.iter().filter(|code| !is_ours(**code)) {
                self.configured(code);
            }
        });
    }

    /// Lease, renewal and rebinding time as ISC dhcpd sends them: the second and third only if they
    /// are configured, and each comes before the next.
    fn lease_as_dhcpd(&mut self, lease: LeaseTime) {
        self.make(options::LEASE_TIME, &lease.seconds().to_be_bytes());
        let mut limit = lease.seconds();
        for code in [options::REBINDING_TIME, options::RENEWAL_TIME] {
            let Some((value, scope)) = self.reply.chain.option(code) else { continue };
            let time = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            if let Some(time) = time.filter(|time| *time < limit) {
                self.push(code, value, Origin::Scope(scope));
                limit = time;
            }
        }
    }

    /// What a machine needs to boot besides `siaddr` and `file`. To be called before
    /// [`Options::parameters`], because these values stand before those of the scopes. ISC dhcpd
    /// sends none of it but what the configuration says.
    fn boot(&mut self) {
        let reply = self.reply;
        match reply.firmware {
            Firmware::Pxe => {
                // RFC 4578 section 2.3: in all packets of clients and servers.
                self.echo(options::PXE_CLIENT_ID, reply.uuid);
                self.boot_at_once();
            }
            Firmware::Ipxe => self.no_proxy(),
            Firmware::Http | Firmware::Other => {}
        }
        if reply.boot_scope.is_some() && reply.boot_file.is_empty() {
            // `file = "none"`: an option 67 of another level is not sent either.
            self.hide(options::BOOTFILE_NAME);
            self.hide(options::TFTP_SERVER_NAME);
            return;
        }
        self.boot_file_name();
        if reply.boot_scope.is_none() {
            return;
        }
        match reply.firmware {
            // A boot menu in option 43, which is meant for the firmware, counts for iPXE only with
            // this; then it would show the menu instead of loading its file.
            Firmware::Ipxe => self.hide(options::VENDOR_CLASS_IDENTIFIER),
            // UEFI 2.10 section 24.7.3.1: an offer without option 60 is no HTTP boot offer.
            Firmware::Http => self.make(options::VENDOR_CLASS_IDENTIFIER, pxe::HTTP_CLIENT),
            Firmware::Pxe | Firmware::Other => {}
        }
        if reply.firmware != Firmware::Http && self.is_wanted(options::TFTP_SERVER_NAME) {
            self.configured(options::TFTP_SERVER_NAME);
            let text = dotted(reply.arena, reply.siaddr);
            self.push(options::TFTP_SERVER_NAME, text, Origin::Protocol);
        }
    }

    /// Option 67, where the name in `file` is not enough: the machine asks for it, the
    /// configuration has one or always sends it, or `file` is too short. The name is that of the
    /// boot rule if there is one. What is no firmware gets a configured one as any other option.
    fn boot_file_name(&mut self) {
        let reply = self.reply;
        let boots = reply.firmware != Firmware::Other;
        let configured = reply.chain.option(options::BOOTFILE_NAME).filter(|_| boots);
        let name = reply.boot_scope.map(|scope| (reply.boot_file, scope)).or(configured);
        let wanted = configured.is_some()
            || reply.boot_file.len() > FILE_LIMIT
            || self.is_wanted(options::BOOTFILE_NAME);
        if let Some((name, scope)) = name.filter(|_| wanted) {
            let name = if boots { self.terminated(name) } else { name };
            self.push(options::BOOTFILE_NAME, name, Origin::Scope(scope));
        }
    }

    /// Whether the machine asks for an option, or the configuration sends it to all.
    fn is_wanted(&self, code: u8) -> bool {
        self.reply.asked.contains(&code) || self.reply.chain.always_sends(code)
    }

    /// A name with a NUL that its length counts: old PXE ROMs read option 67 as a C string, and go
    /// on with the code of the option behind it (dnsmasq counts one as well).
    fn terminated(&self, name: &'a [u8]) -> &'a [u8] {
        if name.last() == Some(&0) {
            return name;
        }
        let text = self.reply.arena.alloc_slice_fill_copy(name.len() + 1, 0);
        text[..name.len()].copy_from_slice(name);
        text
    }

    /// Options 60 and 43 for PXE firmware. PXE 2.1 section 2.4.4: the client goes on to discover
    /// boot servers at port 4011 unless bit 3 of the discovery control says that it has been told
    /// all. EDK2 obeys, and hangs when only one of the two options is there.
    fn boot_at_once(&mut self) {
        let has_file = self.reply.boot_scope.is_some() && !self.reply.boot_file.is_empty();
        let class = self.reply.chain.option(options::VENDOR_CLASS_IDENTIFIER);
        if has_file || class.is_some_and(|(class, _)| class.starts_with(pxe::PXE_CLIENT)) {
            self.configured(options::VENDOR_CLASS_IDENTIFIER);
            self.configured(options::VENDOR_ENCAPSULATED_OPTIONS);
            self.make(options::VENDOR_CLASS_IDENTIFIER, pxe::PXE_CLIENT);
            self.make(options::VENDOR_ENCAPSULATED_OPTIONS, &BOOT_FILE_AT_ONCE);
        }
    }

    /// Tells iPXE not to wait for a ProxyDHCP, which costs it three seconds, unless the
    /// configuration says otherwise. A ProxyDHCP of this configuration would be the second
    /// exception; there is none to configure yet.
    fn no_proxy(&mut self) {
        let configured = self.reply.chain.option(options::IPXE);
        let value = configured.map_or(&[][..], |(value, _)| value);
        if OptionData::from(value).encapsulated().find_code(pxe::NO_PXEDHCP).is_some() {
            // The option of the configuration is sent as it is.
            return;
        }
        // Before the configured sub-options, which may have an END of their own.
        let joined = self.reply.arena.alloc_slice_fill_copy(NO_PROXY.len() + value.len(), 0);
        let (ours, theirs) = joined.split_at_mut(NO_PROXY.len());
        ours.copy_from_slice(&NO_PROXY);
        theirs.copy_from_slice(value);
        let origin = configured.map_or(Origin::Protocol, |(_, scope)| Origin::Scope(scope));
        self.push(options::IPXE, joined, origin);
    }
}

impl<'a> Options<'a, '_> {
    /// Why a NAK was sent, for people who read packets (RFC 2132 section 9.9).
    fn explanation(&mut self, text: &'static str) {
        self.push(options::MESSAGE, text.as_bytes(), Origin::Protocol);
    }

    fn configured(&mut self, code: u8) {
        if self.is_present(code) {
            return;
        }
        let configured = match code {
            options::HOST_NAME => self.reply.host_name,
            options::ROUTERS if self.reply.is_own_router && !self.reply.yiaddr.is_unspecified() => {
                let own = self.reply.yiaddr.octets();
                return self.make(options::ROUTERS, &own);
            }
            _ => self.reply.chain.option(code),
        };
        if let Some((value, scope)) = configured {
            self.push(code, value, Origin::Scope(scope));
        }
    }

    fn echo(&mut self, code: u8, value: Option<&'a [u8]>) {
        if let Some(value) = value {
            self.push(code, value, Origin::Echo);
        }
    }

    fn make(&mut self, code: u8, value: &[u8]) {
        if !self.is_present(code) {
            let value = self.reply.arena.alloc_slice_copy(value);
            self.push(code, value, Origin::Protocol);
        }
    }

    fn push(&mut self, code: u8, value: &'a [u8], origin: Origin) {
        if !self.is_present(code) {
            self.hide(code);
            self.list.push(Outgoing { code, value, origin });
        }
    }

    fn is_present(&self, code: u8) -> bool {
        self.present[usize::from(code / 64)] >> (code % 64) & 1 == 1
    }

    /// Has the code count as present without sending it.
    fn hide(&mut self, code: u8) {
        self.present[usize::from(code / 64)] |= 1 << (code % 64);
    }
}

/// An address as text, in the arena.
fn dotted(arena: &bumpalo::Bump, address: Ipv4Addr) -> &[u8] {
    use std::fmt::Write;
    let mut text = bumpalo::collections::String::with_capacity_in(15, arena);
    // Writing to a string never fails.
    let _ = write!(text, "{address}");
    text.into_bump_str().as_bytes()
}
