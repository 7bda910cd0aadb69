#!/usr/bin/env python3
"""`single-port`: answers leave from the address and port that were asked, so TFTP passes NAT.

tftp-hpa, atftp, curl and busybox fetch files directly, from behind a gateway that masquerades, and
from an address of the gateway that it forwards to the server. Two shards, IPv4 and IPv6."""

import os
import random
import socket

import lab as laboratory
from lab import Lab
from server import Server, configuration
from suite import Suite

TAKES_SECONDS = 20
from test_tftp_clients import HOST, digest, getters

GATEWAY, INSIDE, MACHINE = "10.77.5.1", "192.168.5.1", "192.168.5.2"
RULES = f"""table ip nat {{
  chain prerouting {{
    type nat hook prerouting priority -100;
    ip daddr {INSIDE} udp dport 69 dnat to {HOST}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname "eth0" masquerade
  }}
}}
"""


def site(lab):
    """A machine on the server's network, and one behind a gateway that translates addresses."""
    near, gateway, inside = (lab.namespace(name) for name in ("near", "gateway", "inside"))
    lab.plug(near, 0)
    lab.plug(gateway, 0)
    lab.plug(gateway, 1, interface="eth1")
    lab.plug(inside, 1)
    for namespace, interface, address in (
            (near, "eth0", "10.77.9.1/16"), (gateway, "eth0", f"{GATEWAY}/16"),
            (gateway, "eth1", f"{INSIDE}/24"), (inside, "eth0", f"{MACHINE}/24")):
        laboratory.sh(f"ip -n {namespace} addr add {address} dev {interface}")
    laboratory.sh(f"ip -n {inside} route add default via {INSIDE}")
    laboratory.sh(f"ip netns exec {gateway} sysctl -qw net.ipv4.ip_forward=1")
    laboratory.sh(f"ip netns exec {gateway} nft -f -", input=RULES)
    return near, inside


def client_socket(namespace, seconds=2):
    with laboratory.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(seconds)
    return sock


def answer(sock, request, host=HOST):
    """The first packet that answers a request, and who sent it; nothing and None without one."""
    sock.sendto(request, (host, 69))
    try:
        return sock.recvfrom(65536)
    except TimeoutError:
        return b"", None


def lockstep(sock, name, host=HOST):
    """A file block by block from a socket that may be used again, and the ports it came from."""
    data, ports, packet = b"", set(), b""
    packet, sender = answer(sock, b"\0\1" + name.encode() + b"\0octet\0", host)
    while sender:
        ports.add(sender[1])
        if packet[:4] == b"\0\3" + (len(data) // 512 + 1).to_bytes(2, "big"):
            data += packet[4:]
        sock.sendto(b"\0\4" + packet[2:4], sender)
        if len(packet) < 516:
            break
        packet, sender = sock.recvfrom(65536)
    return data, ports


def fetches(suite, lab, namespace, host, files):
    for getter in getters(host):
        for name in ("one", "exact", "image"):
            status, output, data = getter.get(lab, namespace, name)
            suite.check(f"{getter.name}: {name}", digest(data) == digest(files[name]) and
                        status == 0, f"exit {status}: {output}")


def uploads(suite, lab, namespace, host, files):
    path = lab.write("mine", files["image"])
    for name, command in (
            ("tftp-hpa", ["tftp", "-m", "octet", host, "-c", "put", path, "hpa"]),
            ("atftp", ["atftp", "--option", "blksize 1428", "--put", "-l", path, "-r", "atftp",
                       host]),
            ("curl", ["curl", "-sS", "-T", path, f"tftp://{host}//curl"])):
        status, output = lab.run(namespace, command, 60)
        stored = lab.path(f"tftp/{name.removeprefix('tftp-')}")
        data = open(stored, "rb").read() if os.path.exists(stored) else None
        suite.check(f"{name} uploads", status == 0 and digest(data) == digest(files["image"]),
                    f"exit {status}: {output}")


def parallel(suite, lab, namespace, files):
    copies = [lab.path(f"copy{number}") for number in range(24)]
    running = [lab.start(namespace, ["curl", "-sS", "--tftp-blksize", "1428", "-o", copy,
                                     f"tftp://{HOST}//image"], f"curl{number}")
               for number, copy in enumerate(copies)]
    suite.equal("24 clients of one address end well", [each.wait(60) for each in running], [0] * 24)
    same = [digest(open(copy, "rb").read()) == digest(files["image"]) for copy in copies]
    suite.equal("with the same bytes", same, [True] * 24)
    _, page = lab.run(lab.srv, ["curl", "-sS", "http://127.0.0.1:9547/metrics"])
    finished = [line for line in page.splitlines() if "tftp_finished_total{" in line]
    suite.check("which both shards served", len(finished) == 2 and
                all(not line.endswith(" 0") for line in finished), finished)


def one_after_the_other(suite, namespace, files):
    """Many transfers from one port, the last ACK of each lost: the next begins at once."""
    sock = client_socket(namespace)
    for turn in range(20):
        name = ("one", "exact")[turn % 2]
        data, ports = lockstep(sock, name)
        if data != files[name] or ports != {69}:
            return suite.check(f"transfer {turn} from one port", False, (len(data), ports))
    suite.check("twenty transfers from one port", True)
    # The server does not know that its block has arrived, and the client asks for another file.
    for name in ("one", "exact", "one"):
        packet, _ = answer(sock, b"\0\1" + name.encode() + b"\0octet\0")
        suite.equal(f"without the last ACK: {name}", packet[4:], files[name][:512])
    sock.sendto(b"\0\4\0\1", (HOST, 69))
    sock.close()
    sock = client_socket(namespace, 1)
    sock.sendto(b"\0\4\0\7", (HOST, 69))
    try:
        suite.check("what fits no transfer is not answered", False, sock.recvfrom(600))
    except TimeoutError:
        suite.check("what fits no transfer is not answered", True)
    sock.close()


def ipv6(suite, lab, near, files):
    laboratory.sh(f"ip -n {lab.srv} addr add fd77::1/64 dev eth0 nodad")
    laboratory.sh(f"ip -n {near} addr add fd77::9/64 dev eth0 nodad")
    for namespace, local in ((lab.srv, "fe80::77"), (near, "fe80::79")):
        laboratory.sh(f"ip -n {namespace} addr add {local}/64 dev eth0 nodad")
    got = lab.path("got6")
    for name, command in (
            ("curl", ["curl", "-sS", "-o", got, "tftp://[fd77::1]//image"]),
            ("curl, link-local", ["curl", "-sS", "-o", got, "tftp://[fe80::77%25eth0]//image"]),
            ("atftp, windowsize 16", ["atftp", "--option", "windowsize 16", "--option",
                                      "blksize 1428", "--get", "-r", "image", "-l", got,
                                      "fd77::1"])):
        if os.path.exists(got):
            os.unlink(got)
        status, output = lab.run(near, command, 60)
        data = open(got, "rb").read() if os.path.exists(got) else None
        suite.check(f"{name}, IPv6", digest(data) == digest(files["image"]) and status == 0,
                    f"exit {status}: {output}")


def udp_ports(server):
    """The UDP ports that are open in the server's namespace."""
    ports = set()
    for table in ("udp", "udp6"):
        with open(f"/proc/{server.process.child.pid}/net/{table}") as lines:
            ports |= {int(line.split()[1].rsplit(":", 1)[1], 16) for line in lines.readlines()[1:]}
    return ports


def main():
    suite = Suite("TFTP from one port")
    lab = Lab(bridges=2)
    os.chmod(lab.directory, 0o755)
    seeded = random.Random(16)
    files = {"one": b"x", "exact": seeded.randbytes(4 * 512),
             "image": seeded.randbytes(3_000_000)}
    for name, data in files.items():
        lab.write(f"tftp/{name}", data)
    os.chmod(lab.path("tftp"), 0o777)
    near, inside = site(lab)
    server = Server(lab)

    def configure(keys):
        server.configure(configuration(server.state, server="shards = 2\n",
                                       tftp=lab.path("tftp"), after=keys))

    suite.explain_with(server.log)
    with suite.step("with a port for each transfer"):
        configure("")
        server.start()
        sock = client_socket(inside)
        suite.equal("no answer passes the gateway", answer(sock, b"\0\1one\0octet\0"), (b"", None))
        sock.close()
        configure("upload = true\nsingle-port = true\n")
        status, output = server.tool("reload")
        suite.check("a reload says that it takes a restart", status == 0 and
                    "[tftp] single-port: restart" in output, output)
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("with one port"):
        server.start()
        suite.equal("no other UDP port is open", udp_ports(server) - {67}, {69})
        fetches(suite, lab, near, HOST, files)
        ipv6(suite, lab, near, files)
    with suite.step("behind a gateway that masquerades"):
        fetches(suite, lab, inside, HOST, files)
        uploads(suite, lab, inside, HOST, files)
        parallel(suite, lab, inside, files)
    with suite.step("to an address that is forwarded to the server"):
        fetches(suite, lab, inside, INSIDE, files)
    with suite.step("one after the other"):
        one_after_the_other(suite, near, files)
    with suite.step("the server ends"):
        suite.equal("SIGTERM, exit status", server.stop(), 0)
    with suite.step("settings"):
        for key, value in (("multicast", "239.255.1.0/24"), ("port-range", "40000-40999")):
            configure(f'single-port = true\n{key} = "{value}"\n')
            status, output = server.tool("check")
            suite.check(f"{key} beside it is refused", status != 0 and
                        f"there is no `{key}` with single-port" in output, output)
    suite.finish()


if __name__ == "__main__":
    main()
