//! Encodes a machine's DHCP message.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::{
    BOOTREQUEST, BROADCAST_FLAG, ETHERNET, Header, MessageType, MessageWriter, NoRoom, options,
};

use crate::firmware::DhcpBehaviour;

/// The fields of a message.
pub(super) struct Encoder<'a> {
    pub(super) kind: MessageType,
    pub(super) mac: [u8; 6],
    pub(super) xid: u32,
    pub(super) secs: u16,
    pub(super) giaddr: Ipv4Addr,
    pub(super) relay_option: &'a [u8],
    pub(super) address: Ipv4Addr,
    pub(super) server_id: Ipv4Addr,
    pub(super) renewing: bool,
    pub(super) behaviour: &'static DhcpBehaviour,
    pub(super) client_id: [u8; 32],
    pub(super) client_id_len: usize,
    pub(super) uuid: [u8; 16],
    pub(super) lease_time: Option<u32>,
}

impl Encoder<'_> {
    /// Writes it and returns its length.
    pub(super) fn write(&self, buf: &mut [u8]) -> usize {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&self.mac);
        let relayed = !self.giaddr.is_unspecified();
        let header = Header {
            op: BOOTREQUEST,
            htype: ETHERNET,
            hlen: 6,
            hops: relayed.into(),
            xid: self.xid,
            secs: self.secs,
            flags: if self.behaviour.broadcast && !self.renewing { BROADCAST_FLAG } else { 0 },
            ciaddr: if self.renewing { self.address } else { Ipv4Addr::UNSPECIFIED },
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: self.giaddr,
            chaddr,
            sname: &[],
            file: &[],
        };
        let len = buf.len();
        let Ok(mut writer) = MessageWriter::new(buf, len, &header) else { return 0 };
        // Every message of ours fits the buffer.
        let _ = self.write_options(&mut writer);
        writer.finish()
    }

    fn write_options(&self, writer: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        let behaviour = self.behaviour;
        writer.option(options::MESSAGE_TYPE, &[self.kind.code()])?;
        let takes = matches!(self.kind, MessageType::Request | MessageType::Decline);
        if takes && !self.renewing {
            writer.option(options::REQUESTED_ADDRESS, &self.address.octets())?;
            writer.option(options::SERVER_IDENTIFIER, &self.server_id.octets())?;
        }
        if self.client_id_len > 0 {
            let id = &self.client_id[..self.client_id_len];
            writer.option(options::CLIENT_IDENTIFIER, id)?;
        }
        if self.kind != MessageType::Decline {
            self.write_wishes(writer)?;
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

    fn write_wishes(&self, writer: &mut MessageWriter<'_>) -> Result<(), NoRoom> {
        writer.option(options::PARAMETER_REQUEST_LIST, self.behaviour.parameters)?;
        if let Some(max) = self.behaviour.max_message {
            writer.option(options::MAX_MESSAGE_SIZE, &max.to_be_bytes())?;
        }
        if let Some(seconds) = self.lease_time {
            writer.option(options::LEASE_TIME, &seconds.to_be_bytes())?;
        }
        Ok(())
    }
}
