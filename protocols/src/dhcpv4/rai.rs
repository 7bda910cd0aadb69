//! Relay agent information, option 82 (RFC 3046) and the sub-options later documents added.

use core::net::Ipv4Addr;

use super::data::{OptionData, SubOptions};

/// Agent circuit id (RFC 3046 section 3.1).
pub const CIRCUIT_ID: u8 = 1;
/// Agent remote id (RFC 3046 section 3.2).
pub const REMOTE_ID: u8 = 2;
/// Link selection (RFC 3527).
const LINK_SELECTION: u8 = 5;
/// Server identifier override (RFC 5107).
const SERVER_IDENTIFIER_OVERRIDE: u8 = 11;
/// Relay source port (RFC 8357).
const RELAY_SOURCE_PORT: u8 = 19;

/// What a relay agent says about where a message came from. To be echoed as it is in every reply
/// (RFC 3046 section 2.2): [`super::MessageWriter::echo`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RelayAgentInformation<'a>(OptionData<'a>);

impl<'a> RelayAgentInformation<'a> {
    /// The view of the value of option 82.
    #[must_use]
    pub const fn new(data: OptionData<'a>) -> Self {
        Self(data)
    }

    /// The whole value, for the echo.
    #[must_use]
    pub const fn data(&self) -> OptionData<'a> {
        self.0
    }

    /// The sub-options in order; ends at the first that is cut off.
    #[must_use]
    pub const fn sub_options(&self) -> SubOptions<'a> {
        self.0.sub_options()
    }

    /// The sub-option of this code.
    #[must_use]
    pub fn sub_option(&self, code: u8) -> Option<OptionData<'a>> {
        self.sub_options().find_code(code)
    }

    /// The port or circuit of the relay that the client hangs on (RFC 3046 section 3.1).
    #[must_use]
    pub fn circuit_id(&self) -> Option<OptionData<'a>> {
        self.sub_option(CIRCUIT_ID)
    }

    /// The client's end of the circuit as the relay knows it (RFC 3046 section 3.2).
    #[must_use]
    pub fn remote_id(&self) -> Option<OptionData<'a>> {
        self.sub_option(REMOTE_ID)
    }

    /// An address of the subnet to allocate from, in place of giaddr (RFC 3527 section 2).
    #[must_use]
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        self.sub_option(LINK_SELECTION)?.ipv4()
    }

    /// The address to give as server identifier, so that renewals pass the relay (RFC 5107).
    #[must_use]
    pub fn server_identifier_override(&self) -> Option<Ipv4Addr> {
        self.sub_option(SERVER_IDENTIFIER_OVERRIDE)?.ipv4()
    }

    /// True when replies must go to the UDP source port of the request instead of 67; the
    /// sub-option is empty on the wire (RFC 8357 section 5.1).
    #[must_use]
    pub fn relay_source_port(&self) -> bool {
        self.sub_option(RELAY_SOURCE_PORT).is_some()
    }
}
