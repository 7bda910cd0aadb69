//! The packet engine. It knows bytes and addresses, never DHCP or TFTP.
