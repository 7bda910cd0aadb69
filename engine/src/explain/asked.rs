//! Which machine is meant, as a person describes it, and the message that it would send.

use std::net::Ipv4Addr;

use bootstorm_protocols::dhcpv4::pxe::{Architecture, MachineId};
use bootstorm_protocols::dhcpv4::{
    ETHERNET, Header, MIN_MESSAGE, MessageType, MessageWriter, RelayAgentInformation, options, rai,
};
use serde::{Deserialize, Serialize};

use crate::config::{bytes_of_text, option_of_text};
use crate::leases::Hardware;

/// A machine, and the message that it sends. Everything but the hardware address may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    /// Hardware address, as `52:54:00:12:34:56`.
    pub mac: String,
    /// The last message that the server received from the machine counts, and no other field but
    /// `mac`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub last: bool,
    /// `discover` if empty, or `request`, `inform`, `release`, `decline`, `bootp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// It renews the lease that it has: a REQUEST.
    #[serde(skip_serializing_if = "super::is_default")]
    pub renew: bool,
    /// The address that it has (ciaddr); a REQUEST with it renews that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciaddr: Option<Ipv4Addr>,
    /// The address that it asks for (option 50).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Processor and firmware (option 93), as `x86-64-efi` or `7`. Without a vendor class it sends
    /// that of firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Address of the relay agent (giaddr).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// Option 97.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Option 77, raw as iPXE sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_class: Option<String>,
    /// Option 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_class: Option<String>,
    /// Option 82, sub-option 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_id: Option<String>,
    /// Option 82, sub-option 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    /// Option 61, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// More options, as `CODE=VALUE` or `NAME=VALUE`.
    #[serde(rename = "option", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The interface that the message comes in on, by its name or one of its addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What a machine sends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Discover,
    /// It takes an offer, or remembers an address.
    Request,
    /// It goes on with the address that it has.
    Renew,
    /// It says something of the address that it has.
    Has(MessageType),
    Bootp,
}

/// The longest message that is made here, in bytes.
const ROOM: usize = 4096;

/// Tells its messages from others in a trace.
const XID: u32 = 0xe971_a140;

impl Asked {
    /// The hardware address.
    ///
    /// # Errors
    /// It is none.
    pub fn hardware(&self) -> Result<Hardware, String> {
        Hardware::of_text(&self.mac)
    }

    /// What the machine sends.
    ///
    /// # Errors
    /// There is no such message, or it needs an address that is not given.
    pub(super) fn kind(&self) -> Result<Kind, String> {
        Ok(match &*self.message {
            "" | "request" if self.renew => Kind::Renew,
            _ if self.renew => return Err("only a REQUEST renews a lease".to_owned()),
            "" | "discover" => Kind::Discover,
            "request" if self.ciaddr.is_some() => Kind::Renew,
            "request" => Kind::Request,
            "bootp" => Kind::Bootp,
            "inform" if self.ciaddr.is_none() => {
                return Err("which address does it have? name it with --ciaddr".to_owned());
            }
            "inform" => Kind::Has(MessageType::Inform),
            "release" => Kind::Has(MessageType::Release),
            "decline" => Kind::Has(MessageType::Decline),
            other => {
                let known = "discover, request, inform, release, decline, bootp";
                return Err(format!("there is no message {other:?}; there are {known}"));
            }
        })
    }

    /// A DISCOVER, or with `offered` the REQUEST of that address, of the server behind it if there
    /// is one.
    ///
    /// # Errors
    /// What cannot be sent so, and what to write instead.
    pub fn message(
        &self,
        offered: Option<(Ipv4Addr, Option<Ipv4Addr>)>,
    ) -> Result<Vec<u8>, String> {
        match offered {
            None => self.written(Some(MessageType::Discover), None, (self.address, None)),
            Some((address, server)) => {
                self.written(Some(MessageType::Request), None, (Some(address), server))
            }
        }
    }

    /// A BOOTP request.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub(super) fn bootp(&self) -> Result<Vec<u8>, String> {
        self.written(None, None, (None, None))
    }

    /// The message of a machine that has an address: it renews it, gives it back or refuses it, or
    /// asks for parameters.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub(super) fn of_holder(&self, kind: MessageType, has: Ipv4Addr) -> Result<Vec<u8>, String> {
        match kind {
            MessageType::Decline => self.written(Some(kind), None, (Some(has), None)),
            _ => self.written(Some(kind), Some(has), (None, None)),
        }
    }

    /// `kind` is none for BOOTP; then ciaddr, and options 50 and 54.
    fn written(
        &self,
        kind: Option<MessageType>,
        ciaddr: Option<Ipv4Addr>,
        (address, server): (Option<Ipv4Addr>, Option<Ipv4Addr>),
    ) -> Result<Vec<u8>, String> {
        let hardware = self.hardware()?;
        // Past the relay agents: it has an address.
        let relay = self.relay.filter(|_| ciaddr.is_none() || kind == Some(MessageType::Inform));
        let header = Header {
            hops: relay.is_some().into(),
            giaddr: relay.unwrap_or(Ipv4Addr::UNSPECIFIED),
            ciaddr: ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED),
            ..Header::request(ETHERNET, hardware.address(), XID)
        };
        let mut list = Options(Vec::new());
        list.put_some(options::MESSAGE_TYPE, kind.map(|kind| vec![kind.code()]))?;
        list.put_some(options::REQUESTED_ADDRESS, address.map(|ip| ip.octets().into()))?;
        list.put_some(options::SERVER_IDENTIFIER, server.map(|ip| ip.octets().into()))?;
        self.describe(&mut list)?;
        let information = self.relay_information()?;
        let mut buf = vec![0; ROOM];
        let mut writer =
            MessageWriter::new(&mut buf, ROOM, &header).map_err(|error| error.to_string())?;
        writer.forbid_overload();
        if !information.is_empty() && (relay.is_some() || ciaddr.is_none()) {
            let information = RelayAgentInformation::new((&*information).into());
            writer.echo(&information).map_err(|error| error.to_string())?;
        }
        for (code, value) in &list.0 {
            writer.option(*code, value).map_err(|error| error.to_string())?;
        }
        let len = writer.finish().max(MIN_MESSAGE);
        buf.truncate(len);
        Ok(buf)
    }

    fn describe(&self, list: &mut Options) -> Result<(), String> {
        let bytes = |name: &str, text: &Option<String>| {
            text.as_deref().map(|text| bytes_of_text(name, text)).transpose()
        };
        let arch = self.arch.as_deref().map(architecture).transpose()?;
        let firmware = arch.map(|arch| {
            let client = match arch.name() {
                Some(name) if name.ends_with("-http") => "HTTPClient",
                _ => "PXEClient",
            };
            format!("{client}:Arch:{:05}:UNDI:003016", arch.code()).into_bytes()
        });
        let vendor_class = bytes("vendor-class", &self.vendor_class)?;
        list.put_some(options::VENDOR_CLASS_IDENTIFIER, vendor_class.or(firmware))?;
        list.put_some(options::PXE_SYSTEM_TYPE, arch.map(|arch| arch.code().to_be_bytes().into()))?;
        list.put_some(options::USER_CLASS, bytes("user-class", &self.user_class)?)?;
        list.put_some(options::CLIENT_IDENTIFIER, bytes("client-id", &self.client_id)?)?;
        if let Some(text) = &self.uuid {
            let uuid = MachineId::from_text(text).ok_or_else(|| {
                format!("{text:?} is not a UUID; write 4c4c4544-0042-3510-8051-b2c04f4b3532")
            })?;
            list.put(options::PXE_CLIENT_ID, [&[0], &uuid.as_bytes()[..]].concat())?;
        }
        for option in &self.options {
            let (name, value) = option.split_once('=').ok_or_else(|| {
                format!(
                    "option {option:?} has no value; write CODE=VALUE, as 12=n01 or 93=hex:0007"
                )
            })?;
            let (code, value) = option_of_text(name.trim(), value)?;
            list.put(code, value)?;
        }
        Ok(())
    }

    /// The value of option 82; empty for none.
    fn relay_information(&self) -> Result<Vec<u8>, String> {
        let mut information = Vec::new();
        for (code, name, text) in [
            (rai::CIRCUIT_ID, "circuit-id", &self.circuit_id),
            (rai::REMOTE_ID, "remote-id", &self.remote_id),
        ] {
            let Some(text) = text else { continue };
            let value = bytes_of_text(name, text)?;
            let len = u8::try_from(value.len())
                .map_err(|_| format!("{name} must be at most 255 bytes, not {}", value.len()))?;
            information.extend([code, len]);
            information.extend(value);
        }
        Ok(information)
    }
}

/// Options of a message that is being made.
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn put(&mut self, code: u8, value: Vec<u8>) -> Result<(), String> {
        if self.0.iter().any(|(known, _)| *known == code) {
            return Err(format!("option {code} is given twice"));
        }
        self.0.push((code, value));
        Ok(())
    }

    fn put_some(&mut self, code: u8, value: Option<Vec<u8>>) -> Result<(), String> {
        value.map_or(Ok(()), |value| self.put(code, value))
    }
}

fn architecture(text: &str) -> Result<Architecture, String> {
    let number = || text.parse().ok().map(Architecture::from_code);
    Architecture::by_name(text).or_else(number).ok_or_else(|| {
        let names: Vec<&str> = Architecture::names().collect();
        format!("there is no architecture {text:?}; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use bootstorm_protocols::dhcpv4::Message;
    use bootstorm_protocols::dhcpv4::pxe::ClientStage;

    use super::*;

    fn asked() -> Asked {
        Asked { mac: "52:54:00:12:34:56".to_owned(), ..Asked::default() }
    }

    #[test]
    fn the_message_says_what_was_asked() {
        let some = |text: &str| Some(text.to_owned());
        let asked = Asked {
            arch: some("x86-64-efi"),
            relay: Some(Ipv4Addr::new(10, 2, 0, 1)),
            uuid: some("4c4c4544-0042-3510-8051-b2c04f4b3532"),
            circuit_id: some("eth0/1"),
            remote_id: some("hex:0102"),
            client_id: some("hex:01525400123456"),
            options: vec!["55=1,3,67".to_owned(), "host-name=n01".to_owned()],
            ..asked()
        };
        let bytes = asked.message(None).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.message_type(), Some(MessageType::Discover));
        assert_eq!(message.chaddr(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(message.giaddr(), Ipv4Addr::new(10, 2, 0, 1));
        assert_eq!(message.stage(), ClientStage::Firmware);
        assert_eq!(message.architecture().map(Architecture::code), Some(7));
        assert!(message.machine_id().is_some());
        let relay = message.relay_agent_information().unwrap();
        assert!(relay.circuit_id().unwrap().bytes().eq(*b"eth0/1"));
        assert!(relay.remote_id().unwrap().bytes().eq([1, 2]));
        assert_eq!(message.client_id().unwrap().len(), 7);
        assert!(message.requests(67) && message.option(12).unwrap().bytes().eq(*b"n01"));
    }

    #[test]
    fn a_request_names_address_and_server() {
        let (ip, server) = (Ipv4Addr::new(10, 1, 4, 7), Ipv4Addr::new(10, 1, 0, 6));
        let bytes = asked().message(Some((ip, Some(server)))).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.message_type(), Some(MessageType::Request));
        assert_eq!(message.requested_address(), Some(ip));
        assert_eq!(message.server_identifier(), Some(server));
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        let some = |text: &str| Some(text.to_owned());
        let wrong = |asked: Asked| asked.message(None).unwrap_err();
        let mac = Asked { mac: "5254".repeat(9), ..asked() };
        assert!(wrong(mac).contains("is not a hardware address"));
        assert!(wrong(Asked { arch: some("x86"), ..asked() }).contains("there are x86-bios, "));
        assert!(wrong(Asked { uuid: some("1"), ..asked() }).contains("is not a UUID; write "));
        let option = |text: &str| Asked { options: vec![text.to_owned()], ..asked() };
        assert!(wrong(option("12")).contains("write CODE=VALUE"));
        assert!(wrong(option("53=1")).contains("option 53 is given twice"));
        let twice = Asked { options: vec!["60=a".to_owned()], arch: some("7"), ..asked() };
        assert!(wrong(twice).contains("option 60 is given twice"));
        let message = Asked { message: "offer".to_owned(), ..asked() };
        assert!(message.kind().unwrap_err().contains("there are discover, request, "));
        let inform = Asked { message: "inform".to_owned(), ..asked() };
        assert!(inform.kind().unwrap_err().contains("--ciaddr"));
    }
}
