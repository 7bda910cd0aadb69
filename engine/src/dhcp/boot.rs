//! Which boot file a machine gets in the stage it is in.

use std::net::Ipv4Addr;

use super::machine::{Condition, Firmware, Machine};
use crate::config::{BootFile, BootRule, Boots, ClassId, ScopeChain, ScopeId};

/// What the rules say to one machine in one stage.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Boot<'a> {
    /// Path or URL; empty when there is nothing to boot.
    pub(super) file: &'a [u8],
    /// The server that the rule or a scope names.
    pub(super) next_server: Option<Ipv4Addr>,
    /// The level whose rule decided; `None` when no rule matched.
    pub(super) scope: Option<ScopeId>,
    /// A rule would have handed iPXE to iPXE and was passed over.
    pub(super) loop_avoided: bool,
}

impl<'a> Boot<'a> {
    /// The first rule that matches in the narrowest scope with a matching rule. A rule that the
    /// machine cannot use in this stage does not match.
    pub(super) fn choose(
        chain: &ScopeChain<'a>,
        machine: &Machine<'_>,
        classes: &[ClassId],
    ) -> Self {
        let mut loop_avoided = false;
        let as_dhcpd = chain.dhcp().is_as_dhcpd();
        let found = chain.boot(|rule| match passed_over(rule, machine, classes, as_dhcpd) {
            None => true,
            Some(why) => {
                loop_avoided |= why == PassedOver::Loop;
                false
            }
        });
        let next_server = chain.next_server();
        let (rule, scope) = match found {
            Some((Boots::Rule(rule), scope)) => (rule, scope),
            Some((Boots::File(file), scope)) => {
                return Self { file, next_server, scope: Some(scope), loop_avoided };
            }
            None => return Self { loop_avoided, next_server, ..Self::default() },
        };
        let file: &[u8] = match &rule.file {
            BootFile::None => &[],
            BootFile::File(file) | BootFile::Url(file) => file,
        };
        let next_server = match &rule.file {
            BootFile::None if !as_dhcpd => None,
            _ => rule.next_server.or(next_server),
        };
        Self { file, next_server, scope: Some(scope), loop_avoided }
    }
}

impl Boot<'_> {
    /// What is to be said about the choice to whoever wonders why a machine does not boot.
    pub(super) fn reason(&self, firmware: Firmware) -> &'static str {
        match (self.file.is_empty(), self.scope, self.loop_avoided) {
            _ if firmware == Firmware::Other => "",
            (true, _, true) => "iPXE would load itself, and no other boot rule matches",
            (false, _, true) => "iPXE would load itself, so the next boot rule",
            (true, None, false) => "no boot rule matches",
            (true, Some(_), false) => "the boot rule says none",
            (false, _, false) => "",
        }
    }
}

/// Why a boot rule is passed over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum PassedOver {
    /// This condition of it does not hold of the machine.
    Condition(Condition),
    /// The machine could not load what it names: a URL by PXE, a path by HTTP boot.
    Unusable,
    /// iPXE would load iPXE again.
    Loop,
}

/// Why a machine, which is a member of `classes`, does not boot by a rule; `None` if it does.
/// `as_dhcpd` has the conditions decide alone.
#[inline]
pub(super) fn passed_over(
    rule: &BootRule,
    machine: &Machine<'_>,
    classes: &[ClassId],
    as_dhcpd: bool,
) -> Option<PassedOver> {
    if let Some(condition) = machine.fails(&rule.matches, classes) {
        return Some(PassedOver::Condition(condition));
    }
    if as_dhcpd {
        // What the configuration says is what the machine gets.
        return None;
    }
    if !usable(rule, machine.firmware) {
        return Some(PassedOver::Unusable);
    }
    chain_loads_itself(rule, machine.firmware).then_some(PassedOver::Loop)
}

/// Whether firmware of this kind can load what the rule sends: PXE firmware speaks TFTP only, and
/// UEFI HTTP Boot (UEFI 2.10, section 24.7) takes nothing but a URL.
fn usable(rule: &BootRule, firmware: Firmware) -> bool {
    match (&rule.file, firmware) {
        (BootFile::File(file), Firmware::Http) => is_http(file),
        (BootFile::Url(_), Firmware::Pxe) => false,
        _ => true,
    }
}

/// Whether the rule would have iPXE load iPXE again, and that for ever. A rule that names a user
/// class, or a class, knows the stage it is meant for; one that goes by architecture or nothing
/// means the firmware, because iPXE sends the same architecture as the firmware that loaded it.
fn chain_loads_itself(rule: &BootRule, firmware: Firmware) -> bool {
    let (BootFile::File(file) | BootFile::Url(file)) = &rule.file else { return false };
    firmware == Firmware::Ipxe
        && rule.matches.user_class.is_empty()
        && rule.matches.class.is_empty()
        && is_ipxe_program(file)
}

fn is_http(url: &[u8]) -> bool {
    let starts = |scheme: &[u8]| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts(b"http://") || starts(b"https://")
}

/// Whether a path or URL names iPXE itself, by the names of its build targets and of distributions:
/// `ipxe.efi`, `snponly.efi`, `undionly.kpxe`, `ipxe-x86_64.efi`. Scripts (`boot.ipxe`) and other
/// loaders are not iPXE.
fn is_ipxe_program(file: &[u8]) -> bool {
    let name = file.rsplit(|&byte| byte == b'/' || byte == b'\\').next().unwrap_or(file);
    let name = name.split(|&byte| byte == b'?').next().unwrap_or(name);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return false };
    let (stem, suffix) = (&name[..dot], &name[dot + 1..]);
    let program = [&b"efi"[..], b"pxe", b"kpxe", b"kkpxe", b"kkkpxe", b"lkrn", b"0"]
        .iter()
        .any(|known| suffix.eq_ignore_ascii_case(known));
    program
        && (contains(stem, b"ipxe")
            || [&b"snp"[..], b"undionly"]
                .iter()
                .any(|start| stem.len() >= start.len() && contains(&stem[..start.len()], start)))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_ipxe_are_told_from_its_scripts_and_from_other_loaders() {
        for program in [
            "ipxe.efi",
            "boot/x64/snponly.efi",
            "\\EFI\\IPXE.EFI",
            "undionly.kpxe",
            "ipxe-x86_64.efi",
            "snponly_drivers.efi",
            "http://10.0.0.1/ipxe.efi?arch=7",
            "ipxe.pxe",
            "ipxe.lkrn",
        ] {
            assert!(is_ipxe_program(program.as_bytes()), "{program}");
        }
        for other in [
            "boot.ipxe",
            "ipxe/pxelinux.0",
            "pxelinux.0",
            "shimx64.efi",
            "grubx64.efi",
            "ipxe",
            "",
            ".efi",
            "http://boot/menu.ipxe?mac=1",
            "http://ipxe.efi/",
        ] {
            assert!(!is_ipxe_program(other.as_bytes()), "{other}");
        }
    }
}
