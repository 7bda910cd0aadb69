//! The kinds of violations.

macro_rules! kinds {
    ($($variant:ident $name:literal $meaning:literal,)*) => {
        /// What a server can do wrong.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Kind {
            $(#[doc = $meaning] $variant,)*
        }

        impl Kind {
            /// In kebab case, as in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Kind::$variant => $meaning,)* }
            }
        }
    };
}

kinds! {
    DuplicateAddress "duplicate-address"
        "An address was given to a machine while another held it.",
    HeldAddressOffered "held-address-offered"
        "An address was offered while another machine held it.",
    DeclinedAddress "declined-address"
        "An address was offered less than a minute after a machine had found it in use.",
    AddressChanged "address-changed"
        "An ACK gave another address than the one requested.",
    OfferChanged "offer-changed" "A repeated DISCOVER was answered with another address.",
    StageAddress "stage-address" "A machine was given another address while its lease of one ran.",
    Subnet "subnet"
        "An address does not belong to the network that the machine is on.",
    ReservedAddress "reserved-address"
        "An address was given that belongs to the network itself, a relay agent or the server.",
    Xid "xid"
        "An answer carried the transaction id of another exchange.",
    Chaddr "chaddr"
        "An answer carried another machine's hardware address.",
    Giaddr "giaddr"
        "An answer carried another relay agent's address.",
    RelayOption "relay-option"
        "The relay agent's information (option 82) did not come back as sent.",
    ServerIdentifier "server-identifier"
        "The server identifier was missing, or changed.",
    LeaseTime "lease-time"
        "The lease time made no sense, or differed between OFFER and ACK.",
    SubnetMask "subnet-mask" "The subnet mask was not that of the machine's network, or changed.",
    Router "router"
        "The router was outside of the machine's network, not the one expected, or changed.",
    NextServer "next-server"
        "The server of boot files (siaddr) was not the one expected, or changed.",
    Option43 "option-43" "Option 43 was malformed, not the one expected, or changed.",
    NakUnwarranted "nak-unwarranted"
        "A NAK refused an address that was offered a moment ago, or that the machine holds.",
    NakMalformed "nak-malformed"
        "A NAK carried what it must not (RFC 2131 table 3), or could not reach its machine.",
    Delivery "delivery"
        "An answer came by broadcast to a machine that takes unicast, or the other way round.",
    InformAck "inform-ack"
        "The answer to an INFORM gave an address or a lease.",
    BootFile "boot-file" "The boot file was not the one expected.",
    Malformed "malformed" "An answer was no DHCP message.",
    Content "content" "A file arrived with wrong bytes.",
    FileSize "file-size" "A file arrived with a wrong length.",
    TftpProtocol "tftp-protocol" "A packet broke the rules of TFTP.",
    DuplicateBlocks "duplicate-blocks" "Blocks of a file came twice without being asked for again.",
    HttpProtocol "http-protocol" "An HTTP answer was of a kind that nobody asked for.",
}
