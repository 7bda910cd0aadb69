//! `bootstorm-load` plays thousands of booting machines against any DHCP and TFTP server, and judges the answers.

pub mod report;
