"""The server under test: its configuration, its process, and what its own tools say."""

import json
import os
import signal
import tempfile
import time

import lab as laboratory

BINARY = os.path.abspath(
    os.environ.get("BOOTSTORM", os.path.join(laboratory.ROOT, "target/debug/bootstorm")))

# Answers known values for every client test; the DHCP clients check each of them.
OPTIONS = {"domain-name-servers": ["10.77.0.2", "10.77.0.3"], "domain-name": "rack.example",
           "ntp-servers": ["10.77.0.4"], "interface-mtu": 1400}


def subnet(bridge=0, pool="4.0-{net}.4.250", extra=""):
    """A subnet of the laboratory: 10.77.0.0/16 on br0, 10.78.0.0/16 on br1."""
    net = f"10.{77 + bridge}"
    return (f'[[dhcp.subnet]]\nsubnet = "{net}.0.0/16"\n'
            f'pools = ["{net}.{pool.format(net=net)}"]\n'
            f'options = {{ routers = ["{net}.0.1"] }}\n{extra}\n')


def configuration(state, subnets=None, server="", dhcp="", tftp=None, interfaces=("eth0",),
                  after=""):
    """A whole configuration file; the arguments are TOML that goes into its tables."""
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in OPTIONS.items())
    text = (f"[server]\ninterfaces = {json.dumps(list(interfaces))}\nstate-dir = \"{state}\"\n"
            f"{server}\n[dhcp]\nauthoritative = true\noptions = {{ {options} }}\n{dhcp}\n")
    text += "".join(subnets if subnets is not None else [subnet()])
    if tftp:
        text += f'\n[tftp]\nroot = "{tftp}"\n'
    return text + after


class Server:
    """bootstorm in the laboratory's namespace for it."""

    def __init__(self, lab, text=None, name="server", **settings):
        self.lab, self.name = lab, name
        self.state = tempfile.mkdtemp(prefix=f"{name}-", dir=lab.directory)
        self.config = self.configure(text or configuration(self.state, **settings))
        self.process = None
        self.wrapper = []  # a program that runs the server

    def configure(self, text):
        """Writes the configuration; a running server takes it up when it is told to."""
        return self.lab.write(f"{self.name}.toml", text)

    def start(self, *arguments, seconds=10):
        """Starts it and waits until it serves."""
        self.launch(*arguments)
        return self.ready(seconds)

    def ready(self, seconds):
        """Waits until a server that was launched serves."""
        if not laboratory.wait_until(self.serves, seconds):
            raise RuntimeError(f"the server does not serve:\n{self.log()}")
        return self

    def launch(self, *arguments):
        """Starts it and does not wait."""
        self.process = self.lab.start(
            self.lab.srv, [*self.wrapper, BINARY, "serve", "--config", self.config, *arguments],
            self.name)

    def serves(self):
        """Whether port 67 is open and the control socket answers."""
        if not self.process.running():
            raise RuntimeError(f"the server ended:\n{self.log()}")
        return self.process.has_port_67() and self.tool("status")[0] == 0

    def log(self, last=40):
        """The end of its log."""
        return "\n".join(self.process.output().splitlines()[-last:]) if self.process else ""

    def tool(self, *arguments, seconds=10):
        """One of its own commands, in its namespace: (status, output)."""
        return self.lab.run(self.lab.srv, [BINARY, *arguments, "--config", self.config], seconds)

    def explain(self, *arguments):
        """What `explain --json` says: (status, object or what went wrong)."""
        status, output = self.tool("explain", "--json", *arguments)
        return status, json.loads(output) if output.startswith("{") else output

    def explains(self, suite, sniffer, mac, what):
        """Whether `explain --last` says what was sent last to a machine, byte for byte."""
        sent = [datagram for datagram, message in sniffer.dhcp(mac=mac) if message.op == 2]
        status, said = self.explain("--last", "--mac", mac)
        reply = said.get("reply", {}).get("bytes") if isinstance(said, dict) else said
        suite.equal(f"explain says what was sent {what}", (status, reply),
                    (0, sent[-1].payload.hex() if sent else "nothing"))

    def leases(self):
        """Rows of `leases list --json`, by address."""
        status, output = self.tool("leases", "list", "--json")
        if status != 0:
            raise RuntimeError(f"leases list: exit {status}: {output}")
        text = output.strip()
        rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        return {row["ip"]: row for row in rows}

    def lease_state(self, address):
        """The state of one address, or 'free' where there is no row."""
        return self.leases().get(address, {"state": "free"})["state"]

    def reload(self):
        self.process.signal(signal.SIGHUP)

    def stop(self, seconds=10):
        """SIGTERM; returns the exit status, None when it had to be killed."""
        return self.process.stop(seconds)

    def kill(self):
        """SIGKILL, as a crash."""
        self.process.signal(signal.SIGKILL)
        self.process.stop()


class OfDhcpd(Server):
    """The server with a configuration of ISC dhcpd."""

    def __init__(self, lab, text, *flags):
        super().__init__(lab, text)
        self.flags = ("--state-dir", self.state, *flags)

    def configure(self, text):
        return self.lab.write("dhcpd.conf", text)

    def launch(self, *arguments):
        super().launch(*self.flags, *arguments)

    def tool(self, *arguments, seconds=10):
        return super().tool(*arguments, "--state-dir", self.state, seconds=seconds)


def foreign_server(lab, address):
    """dnsmasq in a namespace of its own plays a server that was there before."""
    namespace = lab.namespace("foreign")
    lab.plug(namespace, 0)
    laboratory.sh(f"ip -n {namespace} addr add {address}/16 dev eth0")
    process = lab.start(namespace, [
        "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces",
        "--dhcp-range=10.77.200.1,10.77.200.9,255.255.0.0", "--no-ping", "--user=root",
        f"--dhcp-leasefile={lab.path('foreign.leases')}", "--dhcp-authoritative",
        f"--pid-file={lab.path('foreign.pid')}"], "foreign")
    time.sleep(0.5)
    return process


def new_state(lab):
    """An empty state directory."""
    return tempfile.mkdtemp(prefix=f"state-{int(time.monotonic())}-", dir=lab.directory)
