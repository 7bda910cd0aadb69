"""DHCP clients nobody here wrote, each in a network namespace of its own: dhclient, udhcpc, dhcpcd.

All three run with a hook in place of their own scripts, so that none of them touches the
host's resolv.conf or hostname: the hook sets the address and writes down what it was told.
"""

import itertools
import re
import signal

import lab as laboratory

# The three say the same thing in different variables; the hook writes them all down.
_HOOK = """#!/bin/sh
# reason is dhclient's and dhcpcd's name for what happened, the first argument udhcpc's.
what="${{reason:-$1}}"
address="${{new_ip_address:-$ip}}"
mask="${{new_subnet_mask:-$subnet}}"
case "$what" in
PREINIT) ip link set eth0 up ;;
BOUND|RENEW|REBIND|REBOOT|bound|renew)
    ip addr show dev eth0 | grep -q " $address/" || {{
        ip -4 addr flush dev eth0
        ip addr add "$address/$mask" dev eth0
    }} ;;
EXPIRE|FAIL|RELEASE|STOP|NAK|deconfig|nak) ip -4 addr flush dev eth0 ;;
esac
{{ echo "== $what"; env; echo "=="; }} >> {log}
exit 0
"""

# One name for each event, whatever the client calls it.
_NAMES = {"BOUND": "bound", "REBOOT": "bound", "RENEW": "renew", "REBIND": "rebind",
          "EXPIRE": "expire", "FAIL": "expire", "RELEASE": "release", "NAK": "nak"}


class Event:
    """One call of the hook: what happened and the variables that came with it."""

    def __init__(self, text):
        first, *rest = text.splitlines()
        self.what = _NAMES.get(first, first)
        self.variables = dict(line.split("=", 1) for line in rest if "=" in line)

    def get(self, *names):
        """The first variable that is set among the clients' several names for it."""
        for name in names:
            if self.variables.get(name):
                return self.variables[name]
        return None

    @property
    def address(self):
        return self.get("new_ip_address", "ip")


class Client:
    """A namespace with one interface and one DHCP client in it."""

    name = ""
    _numbers = itertools.count(1)

    def __init__(self, lab, bridge=0):
        self.lab = lab
        number = next(self._numbers)
        self.mac = f"52:54:00:c1:1e:{number:02x}"
        self.tag = f"{self.name}{number}"
        self.namespace = lab.namespace(f"c{number}")
        self.port = lab.plug(self.namespace, bridge, mac=self.mac)
        self.process = None
        lab.write(f"{self.tag}.events", "")
        self.hook = lab.write(f"{self.tag}.hook",
                              _HOOK.format(log=lab.path(f"{self.tag}.events")), 0o755)

    def events(self):
        with open(self.lab.path(f"{self.tag}.events"), errors="replace") as text:
            # Only those that are written to their end.
            return [Event(part) for part in
                    re.findall(r"^== (.+?)^==$", text.read(), flags=re.M | re.S)]

    def mark(self):
        """A point in the list of events to wait from."""
        return len(self.events())

    def wait(self, whats, seconds=20, since=0):
        """The first event of these kinds after the mark, or None."""
        return laboratory.wait_until(
            lambda: next((e for e in self.events()[since:] if e.what in whats), None), seconds)

    def addresses(self):
        """The interface's IPv4 addresses, as the kernel has them."""
        text = laboratory.sh(f"ip -n {self.namespace} -4 -o addr show dev eth0")
        return re.findall(r"inet ([0-9.]+)", text)

    def start(self):
        # Private /run and /var/lib: two dhcpcds must not meet each other's files, and one
        # that is started again must find its own.
        mounts = []
        for path in self.private():
            own = self.lab.path(f"{self.tag}{path.replace('/', '-')}")
            laboratory.sh(f"mkdir -p {own} {path}")
            mounts.append(f"mount --bind {own} {path}")
        script = " && ".join([*mounts, f"exec {self.command()}"])
        self.process = self.lab.start(
            self.namespace, ["unshare", "-m", "sh", "-c", script], self.tag)

    def crash(self):
        """Ends the client as a crash would: the lease stays with the server."""
        self.process.signal(signal.SIGKILL)
        self.process.stop(seconds=1)

    def private(self):
        return []


class Dhclient(Client):
    """ISC dhclient: renews by itself at T1 and rebinds at T2."""

    name = "dhclient"

    def command(self):
        path = self.lab.path
        # Asking again each second: with its own back-off it would sleep through a short T2.
        config = self.lab.write(
            f"{self.tag}.conf",
            "request subnet-mask, broadcast-address, routers, domain-name, "
            "domain-name-servers, host-name, ntp-servers, interface-mtu;\n"
            "timeout 20;\nretry 2;\ninitial-interval 1;\nbackoff-cutoff 1;\nreboot 3;\n")
        return (f"dhclient -d -4 -sf {self.hook} -cf {config} -lf {path(self.tag + '.leases')} "
                f"-pf {path(self.tag + '.pid')} eth0")

    def start(self):
        if self.process is None:
            self.lab.write(f"{self.tag}.leases", "")
        super().start()

    def crash(self):
        # It runs the hook first and writes the lease down afterwards.
        def written():
            with open(self.lab.path(f"{self.tag}.leases")) as leases:
                text = leases.read()
            return all(f"fixed-address {address};" in text for address in self.addresses())
        laboratory.wait_until(written, 3)
        super().crash()

    def release(self):
        self.crash()
        path = self.lab.path
        return self.lab.run(self.namespace, [
            "dhclient", "-r", "-d", "-sf", self.hook, "-cf", path(f"{self.tag}.conf"), "-lf",
            path(f"{self.tag}.leases"), "-pf", path(f"{self.tag}.pid"), "eth0"])


class Udhcpc(Client):
    """busybox udhcpc: renews when told to by SIGUSR1, releases on SIGUSR2."""

    name = "udhcpc"
    arguments = ""

    def command(self):
        return (f"busybox udhcpc -f -i eth0 -s {self.hook} -t 5 -T 2 -A 2 -O ntpsrv -O router "
                f"-O mtu -O hostname -O domain -O dns {self.arguments}")

    def renew(self):
        self.process.signal(signal.SIGUSR1)

    def release(self):
        self.process.signal(signal.SIGUSR2)


class Dhcpcd(Client):
    """Roy Marples' dhcpcd, without its privilege separation, which wants a system of its own."""

    name = "dhcpcd"

    def private(self):
        return ["/run/dhcpcd", "/var/lib/dhcpcd"]

    def command(self):
        config = self.lab.write(
            f"{self.tag}.conf",
            "ipv4only\nnoipv4ll\nnoarp\nhostname\noption domain_name_servers, domain_name, "
            "host_name, ntp_servers, interface_mtu\noption subnet_mask, routers\n"
            "timeout 20\nreboot 3\n")
        return f"dhcpcd -B -4 -f {config} -c {self.hook} eth0"

    def renew(self):
        self.process.signal(signal.SIGUSR1)

    def release(self):
        self.process.signal(signal.SIGALRM)
