//! Encodes a machine's DHCP message.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{
    BROADCAST_FLAG, ETHERNET, Header, MessageType, MessageWriter, NoRoom, options,
};

use crate::firmware::DhcpBehaviour;

/// The messages of a client, by the fields that they must and must not have (RFC 2131 table 5).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Discover,
    /// A REQUEST that takes an offer.
    Selecting,
    /// A REQUEST of a client that remembers its address (INIT-REBOOT).
    Rebooting,
    /// A REQUEST for more time.
    Renewing,
    Decline,
    Release,
    Inform,
}

impl Form {
    /// Option 53.
    pub(super) const fn message_type(self) -> MessageType {
        match self {
            Form::Discover => MessageType::Discover,
            Form::Selecting | Form::Rebooting | Form::Renewing => MessageType::Request,
            Form::Decline => MessageType::Decline,
            Form::Release => MessageType::Release,
            Form::Inform => MessageType::Inform,
        }
    }

    /// Whether the client uses its address: it stands in ciaddr, and the message goes straight to
    /// the server where it can.
    pub(super) const fn has_address(self) -> bool {
        matches!(self, Form::Renewing | Form::Release | Form::Inform)
    }

    /// Option 50.
    const fn requests_address(self) -> bool {
        matches!(self, Form::Selecting | Form::Rebooting | Form::Decline)
    }

    /// Option 54.
    const fn names_server(self) -> bool {
        matches!(self, Form::Selecting | Form::Decline | Form::Release)
    }

    /// Options 55 and 57.
    const fn wants_parameters(self) -> bool {
        !matches!(self, Form::Decline | Form::Release)
    }
}

/// The fields of a message.
pub(super) struct Encoder<'a> {
    pub(super) form: Form,
    pub(super) mac: [u8; 6],
    pub(super) xid: u32,
    pub(super) secs: u16,
    pub(super) giaddr: Ipv4Addr,
    pub(super) relay_option: &'a [u8],
    pub(super) address: Ipv4Addr,
    pub(super) server_id: Ipv4Addr,
    pub(super) behaviour: &'static DhcpBehaviour,
    pub(super) client_id: [u8; 32],
    pub(super) client_id_len: usize,
    pub(super) uuid: [u8; 16],
    pub(super) lease_time: Option<u32>,
}

impl Encoder<'_> {
    /// Whether the answer is to be a broadcast.
    fn asks_for_broadcast(&self) -> bool {
        self.behaviour.broadcast && !self.form.has_address()
    }

    /// Writes it and returns its length.
    pub(super) fn write(&self, buf: &mut [u8]) -> usize {
        let relayed = !self.giaddr.is_unspecified();
        let header = Header {
            hops: relayed.into(),
            secs: self.secs,
            flags: if self.asks_for_broadcast() { BROADCAST_FLAG } else { 0 },
            ciaddr: if self.form.has_address() { self.address } else { Ipv4Addr::UNSPECIFIED },
            giaddr: self.giaddr,
            ..Header::request(ETHERNET, &self.mac, self.xid)
        };
        let len = buf.len();
        let Ok(mut writer) = MessageWriter::new(buf, len, &header) else { return 0 };
        // Every message of ours fits the buffer.
        let _ = self.write_options(&mut writer);
        writer.finish()
    }

    fn write_options(&self, writer: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        let behaviour = self.behaviour;
        writer.option(options::MESSAGE_TYPE, &[self.form.message_type().code()])?;
        if self.form.requests_address() {
            writer.option(options::REQUESTED_ADDRESS, &self.address.octets())?;
        }
        if self.form.names_server() {
            writer.option(options::SERVER_IDENTIFIER, &self.server_id.octets())?;
        }
        if self.client_id_len > 0 {
            let id = &self.client_id[..self.client_id_len];
            writer.option(options::CLIENT_IDENTIFIER, id)?;
        }
        if self.form.wants_parameters() {
            self.write_parameters(writer)?;
        }
        if let Some(class) = behaviour.vendor_class {
            writer.option(options::VENDOR_CLASS_IDENTIFIER, class)?;
        }
        if let Some(class) = behaviour.user_class {
            writer.option(options::USER_CLASS, class)?;
        }
        if let Some(architecture) = behaviour.architecture {
            let [a, b] = architecture.to_be_bytes();
            let mut uuid = [0; 17];
            uuid[1..].copy_from_slice(&self.uuid);
            writer.option(options::PXE_SYSTEM_TYPE, &[a, b])?;
            writer.option(options::PXE_INTERFACE_ID, &behaviour.interface)?;
            writer.option(options::PXE_CLIENT_ID, &uuid)?;
        }
        if !behaviour.ipxe_features.is_empty() {
            writer.option(options::IPXE, behaviour.ipxe_features)?;
        }
        if !self.relay_option.is_empty() {
            writer.option(options::RELAY_AGENT_INFORMATION, self.relay_option)?;
        }
        Ok(())
    }

    fn write_parameters(&self, writer: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        writer.option(options::PARAMETER_REQUEST_LIST, self.behaviour.parameters)?;
        if let Some(max) = self.behaviour.max_message {
            writer.option(options::MAX_MESSAGE_SIZE, &max.to_be_bytes())?;
        }
        if let Some(seconds) = self.lease_time.filter(|_| self.form != Form::Inform) {
            writer.option(options::LEASE_TIME, &seconds.to_be_bytes())?;
        }
        Ok(())
    }
}
