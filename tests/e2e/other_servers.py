"""DHCP servers that others wrote, where the server under test stands: ISC dhcpd and Kea."""

import calendar
import functools
import json
import os
import re
import time

import lab as laboratory


class Dhcpd:
    """ISC dhcpd with a file of its own. `namespace` is the server's unless it says another."""

    def __init__(self, lab, text, name="dhcpd", namespace=None):
        self.lab, self.name = lab, name
        self.namespace = namespace or lab.srv
        # It waits for the disk with each answer: in memory it answers as many as are asked here.
        self.leases = os.path.join(lab.memory(), f"{name}.leases")
        self.forget()
        self.config = lab.write(f"{name}.conf", text)
        self.process = None

    def forget(self):
        """Empties its lease file."""
        with open(self.leases, "w"):
            pass

    def written(self):
        """What is in its lease file."""
        with open(self.leases, errors="replace") as text:
            return text.read()

    def accepts_leases(self):
        """What it says to its lease file: (status, output)."""
        return self.lab.run(self.namespace, ["dhcpd", "-4", "-T", "-cf", self.config,
                                             "-lf", self.leases], seconds=120)

    def start(self, quiet=False):
        """Starts it and waits until it serves. Its log is in `process` unless it is quiet."""
        log = ["-q"] if quiet else ["-d"]
        self.process = self.lab.start(
            self.namespace, ["dhcpd", "-4", "-f", *log, "--no-pid", "-cf", self.config,
                             "-lf", self.leases, "eth0"], self.name)
        serving = self.process.has_port_67 if quiet else (
            lambda: "Server starting service" in self.process.output())
        if not laboratory.wait_until(serving, 60):
            raise RuntimeError(f"{self.name} does not serve:\n{self.process.output()[-2000:]}")

    def stop(self):
        self.process.stop()


class Kea:
    """Kea's DHCPv4 server with its leases in a file."""

    def __init__(self, lab, subnets, name="kea"):
        self.lab, self.name = lab, name
        self.leases = lab.path(f"{name}-leases4.csv")
        self.config = lab.write(f"{name}.json", json.dumps({"Dhcp4": {
            "interfaces-config": {"interfaces": ["eth0"]},
            "lease-database": {"type": "memfile", "name": self.leases, "lfc-interval": 0},
            "authoritative": True, "subnet4": subnets,
            "loggers": [{"name": "kea-dhcp4", "severity": "INFO",
                         "output_options": [{"output": "stderr"}]}]}}))
        # It writes its lock and its process number here.
        self._environment = {"KEA_LOCKFILE_DIR": lab.directory, "KEA_PIDFILE_DIR": lab.directory}
        self.process = None

    def start(self):
        self.process = self.lab.start(self.lab.srv, ["kea-dhcp4", "-c", self.config], self.name,
                                      environment=self._environment)
        if not laboratory.wait_until(lambda: "DHCP4_STARTED" in self.process.output(), 60):
            raise RuntimeError(f"Kea does not serve:\n{self.process.output()[-2000:]}")

    def stop(self):
        self.process.stop()


_LEASE = re.compile(r"^lease (\S+) \{\n(.*?)^\}", re.M | re.S)
_CLTT = re.compile(r"^  cltt \d (\d+/\d+/\d+ \d+:\d+:\d+);", re.M)
_HARDWARE = re.compile(r"^  hardware ethernet (\S+);", re.M)


@functools.cache
def _seconds(date):
    """A date of a lease file in seconds since 1970."""
    return calendar.timegm(time.strptime(date, "%Y/%m/%d %H:%M:%S"))


def holders(text):
    """Of a dhcpd.leases the active leases: address and last word in seconds since 1970, by
    hardware address. The last record of an address counts."""
    records = dict(_LEASE.findall(text))
    found = {}
    for address, lease in records.items():
        card, heard = _HARDWARE.search(lease), _CLTT.search(lease)
        if card and "\n  binding state active;" in lease:
            # Of what the other server of a pair has told there is none.
            found[card[1]] = (address, _seconds(heard[1]) if heard else 0)
    return found


def lease_file(leases, seconds):
    """A file of dhcpd's, in parts: leases of so many seconds that were given a minute ago.

    `leases` are hardware and IP address of each, and statements that stand in it besides.
    """
    now = time.time()
    begins, ends = (time.strftime("%w %Y/%m/%d %H:%M:%S", time.gmtime(now + moment))
                    for moment in (-60, seconds - 60))
    yield "authoring-byte-order little-endian;\n"
    for hardware, address, *statements in leases:
        yield (f"lease {address} {{\n  starts {begins};\n  ends {ends};\n  cltt {begins};\n"
               "  binding state active;\n  next binding state free;\n"
               f"  rewind binding state free;\n  hardware ethernet {hardware};\n"
               f"{''.join(f'  {statement};{chr(10)}' for statement in statements)}}}\n")
