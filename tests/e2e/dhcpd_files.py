"""Seeded dhcpd.conf files, as trees of statements, and what clients need to know of them.

All that is served stands in some of the files: scopes in scopes, pools with permits, hosts,
classes and subclasses, conditions, option spaces, server parameters. What dhcpd itself reads beyond
a value, or decides by the order in which it hashes, is left out.
"""

import os
import random
import re

import expressions
import lab as laboratory

# This host's network, and networks behind relay agents.
LOCAL = "10.77"
SERVER = f"{LOCAL}.0.1"
DEFINITIONS = [
    "option site-data code 200 = string;",
    "option space site;",
    "option site.one code 1 = string;",
    "option site.two code 2 = string;",
    "option site-encapsulation code 201 = encapsulate site;",
    "option rack-name code 224 = text;",
    "option rack-number code 225 = unsigned integer 16;",
    "option rack-flag code 226 = boolean;",
    "option rack-hosts code 227 = array of ip-address;",
    "option rack-pair code 228 = { ip-address, unsigned integer 8 };",
    "option rack-pairs code 229 = array of { integer 32, unsigned integer 8 };",
    "option rack-blob code 230 = string;",
    "option rack-numbers code 231 = array of integer 8;",
    "option space rack;",
    "option rack.unit code 1 = unsigned integer 8;",
    "option rack.label code 2 = text;",
    "option rack-options code 232 = encapsulate rack;",
    "option space pxe;",
    "option pxe.mtftp-address code 1 = ip-address;",
    "option pxe.menu code 9 = text;",
    "option space acme code width 1 length width 1;",
    "option acme.one code 1 = text;",
    "option acme.two code 2 = unsigned integer 16;",
    "option vendor.acme code 3561 = encapsulate acme;",
    "option vendor.other code 9 = text;",
]
# Where the definitions are, in some of the files.
INCLUDED = "definitions.conf"
# Of dhcpd itself, not of its answers: test_omapi.py has them.
NOT_GENERATED = {"key", "omapi-key", "omapi-port", "remote-port"}
# Codes that clients ask for.
ASKED = [1, 2, 3, 6, 12, 15, 17, 19, 21, 23, 26, 28, 33, 42, 43, 44, 51, 54, 58, 59, 60, 61, 66, 67,
         78, 119, 121, 124, 125, 201, *range(224, 233)]
# Options that expressions are written for.
COMPUTED = ["host-name", "rack-name", "rack-blob", "domain-name", "bootfile-name", "rack.label",
            "root-path"]
_NAMES = ["a", "rack", "lab.example", "n07", "boot.example.org"]


class Block:
    """A statement with others inside it, and those that belong to it: `elsif`, `else`."""

    def __init__(self, head, body=(), others=()):
        self.head, self.body, self.others = head, list(body), list(others)


def render(nodes, indent=""):
    text = ""
    for node in nodes:
        if isinstance(node, str):
            text += f"{indent}{node}\n"
        else:
            text += f"{indent}{node.head} {{\n{render(node.body, indent + '  ')}{indent}}}\n"
            text += render(node.others, indent)
    return text


def smaller(nodes):
    """The same trees with one node less: the large ones first."""
    for index, node in enumerate(nodes):
        yield nodes[:index] + nodes[index + 1:]
    for index, node in enumerate(nodes):
        if isinstance(node, Block):
            # What stands inside takes its place.
            yield nodes[:index] + node.body + nodes[index + 1:]
            for body in smaller(node.body):
                yield nodes[:index] + [Block(node.head, body, node.others)] + nodes[index + 1:]
            for others in smaller(node.others):
                yield nodes[:index] + [Block(node.head, node.body, others)] + nodes[index + 1:]


class Words(expressions.Conditions):
    """Expressions of scopes: all of those of classes, and what only scopes know."""

    def __init__(self, seed, in_scope):
        super().__init__(seed)
        self.in_scope = in_scope
        # Which of what is known later may stand here. dhcpd sees variables in the values of options
        # where it should not, and the address is another one at each server.
        self.own = []
        # Options whose configured value may stand here.
        self.configured = COMPUTED

    def presence(self):
        if self.in_scope and self.random.random() < 0.3:
            return self.random.choice(["known", "static", "defined(mark)", "not defined(mark)"])
        return super().presence()

    def data(self, depth):
        if self.in_scope and self.random.random() < 0.15:
            known = [f"config-option {name}" for name in self.configured] + self.own
            return self.random.choice(known) if known else "null"
        return super().data(depth)


def _served():
    """The statements that docs/DHCPD.md says are served."""
    with open(os.path.join(laboratory.ROOT, "docs/DHCPD.md")) as documentation:
        rows = [[cell.strip(" `") for cell in line.split("|")]
                for line in documentation if line.startswith("| `")]
    return {row[1] for row in rows if "served" in row[2:4]}


_RARE = ["ignore booting;", "ignore bootp;", "deny bootp;", "ignore unknown-clients;",
         "deny unknown-clients;", "boot-unknown-clients off;", "deny declines;",
         "ignore-client-uids true;", "server-identifier 10.77.0.9;", "min-secs 2;",
         "dynamic-bootp-lease-cutoff 2000000000;", "limited-broadcast-address 10.77.255.255;"]


def unused(texts):
    """The statements that are served and that stand in none of the texts."""
    text = "\n".join(texts)
    return sorted(name for name in _served() - NOT_GENERATED
                  if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


class File:
    """One configuration: `nodes` is its text as a tree."""

    def __init__(self, seed):
        self.random = random.Random(f"dhcpd.conf {seed}")
        # What decides here changes nothing else of a file.
        self.late_random = random.Random(f"late {seed}")
        # Without conditions and expressions there is more of the rest to see.
        self.plain = self.chance(0.3) or bool(os.environ.get("BOOTSTORM_PLAIN"))
        self.words = Words(f"{seed} scope", True)
        self.class_words = Words(f"{seed} class", False)
        self.hosts = []  # (hardware address, client identifier or None)
        self.classes = []
        self.relays = []  # giaddr
        # dhcpd sends nothing in option 125 unless an option of its space is set as well.
        self.vendors = self.chance(0.5)
        self.number = 0
        self.nodes = self._whole()
        self.sets_variables = "set mark" in self.text()

    def text(self):
        return render(self.nodes)

    def nets(self, relay):
        """The first three numbers of the addresses behind a relay agent, or here."""
        return [relay.rsplit(".", 1)[0], f"{relay.split('.0.1')[0]}.1"] if relay else [f"{LOCAL}.4"]

    def chance(self, share):
        return self.random.random() < share

    def turned(self, nodes):
        """The nodes in an order that is not that of their addresses, in some of the files."""
        return nodes[::-1] if self.late_random.random() < 0.3 else nodes

    def some(self, makers, most):
        return [self.random.choice(makers)() for _ in range(self.random.randint(0, most))]

    def name(self, kind):
        self.number += 1
        return f"{kind}{self.number}"

    # Options and settings.

    def address(self):
        return f"10.{self.random.randint(1, 9)}.0.{self.random.randint(1, 250)}"

    def addresses(self):
        return ", ".join(self.address() for _ in range(self.random.randint(1, 3)))

    def option(self):
        pick = self.random.choice
        value = pick([
            lambda: f"routers {self.addresses()}",
            lambda: f"domain-name-servers {self.addresses()}",
            lambda: f"domain-name \"{pick(_NAMES)}\"",
            lambda: f"host-name \"{pick(_NAMES)}\"",
            lambda: f"ntp-servers {self.addresses()}",
            lambda: f"root-path \"/{pick(_NAMES)}\"",
            lambda: f"interface-mtu {pick([576, 1400, 9000])}",
            lambda: "subnet-mask 255.255.255.0",
            lambda: f"broadcast-address {self.address()}",
            lambda: f"netbios-name-servers {self.address()}",
            lambda: "domain-search \"a.example\", \"b.a.example\"",
            lambda: f"tftp-server-name \"{pick(_NAMES)}\"",
            lambda: f"bootfile-name \"{pick(_NAMES)}\"",
            lambda: f"rack-name \"{pick(_NAMES)}\"",
            lambda: f"rack-number {self.random.randint(0, 65535)}",
            lambda: f"rack-flag {pick(['true', 'false', 'on', 'off'])}",
            lambda: f"rack-hosts {self.addresses()}",
            lambda: f"rack-pair {self.address()} {self.random.randint(0, 255)}",
            lambda: f"rack-pairs {self.random.randint(-9, 9)} 7, {self.random.randint(0, 9)} 8",
            lambda: "rack-blob " + pick(["01:02:ff", "7", '"text"', r'"a\x41\101"']),
            lambda: f"rack-numbers {self.random.randint(-9, 9)}, 5",
            lambda: "vendor-encapsulated-options 01:02:03:04",
            lambda: f"dhcp-renewal-time {pick([60, 200, 1800])}",
            lambda: f"dhcp-rebinding-time {pick([70, 250, 3000])}",
            lambda: f"time-offset {pick([-3600, 0, 7200])}",
            lambda: f"ip-forwarding {pick(['true', 'false'])}",
            lambda: f"policy-filter {self.address()} 255.255.255.0",
            lambda: f"static-routes {self.address()} {self.address()}",
            lambda: "default-ip-ttl 64",
            lambda: f"slp-directory-agent {pick(['true', 'false'])} {self.addresses()}",
            lambda: "vivco 00:00:0d:e9:03:02:61:62",
            *([] if self.plain else [
                *([lambda: f"acme.one \"{pick(_NAMES)}\"",
                   lambda: f"acme.two {self.random.randint(0, 500)}"] if self.vendors else []),
                lambda: f"pxe.mtftp-address {self.address()}",
                lambda: f"pxe.menu \"{pick(_NAMES)}\"",
                lambda: f"rack.unit {self.random.randint(0, 42)}",
                lambda: f"rack.label \"{pick(_NAMES)}\"",
                lambda: "site.one " + pick(["0:1", '"x"'])]),
        ])()
        return f"option {value};"

    def rare_option(self):
        """What is long, or decides about other options."""
        return self.random.choice([
            lambda: f"option root-path \"/{'long' * self.random.randint(20, 60)}\";",
            lambda: f"option rack-name \"{'0123456789' * self.random.randint(8, 40)}\";",
            lambda: f"option rack-hosts {', '.join(self.address() for _ in range(70))};",
            lambda: "option dhcp-parameter-request-list 1, 3, 12, 224;",
            lambda: f"filename \"{'f' * self.random.choice([100, 127, 128])}\";",
            lambda: f"server-name \"{'s' * self.random.choice([60, 63, 64])}\";",
            lambda: "vendor-option-space pxe;", lambda: "vendor-option-space rack;",
        ])()

    def computed(self):
        """An option whose value is an expression."""
        place = self.random.randrange(len(COMPUTED))
        mode = self.random.choice(["option", "option", "supersede", "default", "append", "prepend"])
        # dhcpd works a value out when it sends it: a circle of values overflows its stack.
        self.words.configured = COMPUTED[:place]
        value = self.words.data(2)
        self.words.configured = COMPUTED
        return f"{mode} {COMPUTED[place]} = {value};"

    def setting(self):
        pick = self.random.choice
        return pick([
            lambda: f"default-lease-time {pick([300, 3600, 7200])};",
            lambda: f"max-lease-time {pick([600, 3600, 86400])};",
            lambda: f"min-lease-time {pick([60, 1200])};",
            lambda: f"filename \"{pick(['pxelinux.0', 'ipxe.efi', 'x/y'])}\";",
            lambda: f"next-server {self.address()};",
            lambda: f"server-name \"{pick(_NAMES)}\";",
            lambda: f"use-host-decl-names {pick(['on', 'off'])};",
            lambda: f"always-broadcast {pick(['on', 'off'])};",
            lambda: f"use-lease-addr-for-default-route {pick(['on', 'off'])};",
            lambda: f"always-reply-rfc1048 {pick(['on', 'off'])};",
            lambda: f"echo-client-id {pick(['on', 'off'])};",
            lambda: f"one-lease-per-client {pick(['on', 'off'])};",
            lambda: f"infinite-is-reserved {pick(['on', 'off'])};",
            lambda: f"stash-agent-options {pick(['on', 'off'])};",
            lambda: f"dynamic-bootp-lease-length {pick([600, 7200])};",
            lambda: pick(["ping-timeout 1;", "ping-timeout-ms 500;", "abandon-lease-time 600;",
                          "ping-cltt-secs 30;", "adaptive-lease-time-threshold 90;"]),
            lambda: pick(["allow booting;", "allow bootp;", "allow unknown-clients;",
                          "allow declines;", "allow-booting on;", "allow-bootp on;",
                          "boot-unknown-clients on;", "declines on;"]),
            *([] if self.plain else [lambda: f"filename = {self.words.data(1)};"]),
        ])()

    def rare(self):
        """Settings that take clients away: few of them, or nobody is answered."""
        return self.random.choice(_RARE)

    def statements(self, most, depth=2):
        """What any scope may say."""
        nodes = self.some([self.option, self.option, self.option, self.setting], most)
        if self.chance(0.06):
            nodes.append(self.rare_option())
        if self.plain:
            return nodes
        if self.chance(0.06):
            nodes.insert(self.random.randint(0, len(nodes)), self.effect())
        if self.chance(0.3):
            nodes.insert(self.random.randint(0, len(nodes)), self.computed())
        if depth and self.chance(0.25):
            nodes.insert(self.random.randint(0, len(nodes)), self.branch(depth - 1))
        return self.flat(nodes)

    def flat(self, nodes):
        """The nodes with lists among them taken apart."""
        return [part for node in nodes
                for part in (self.flat(node) if isinstance(node, list) else [node])]

    def condition(self):
        """dhcpd takes the first parentheses off, and nothing may follow them."""
        self.words.own = ["mark"]
        text = self.words.condition(1)
        self.words.own = []
        return f"({text})" if text.startswith("(") else text

    def effect(self):
        """A statement that sends nothing by itself."""
        return self.random.choice([
            lambda: f"log({self.random.choice(['info', 'debug'])}, {self.words.data(1)});",
            lambda: f"eval {self.words.condition(1)};",
            lambda: "unset mark;",
            lambda: f"send host-name = {self.words.constant()};",
            lambda: "parse-vendor-option;",
            lambda: f"add \"{self.random.choice(self.classes)}\";" if self.classes else "eval 1;",
            lambda: Block(f"on {self.random.choice(['commit', 'release', 'expiry'])}",
                          [self.random.choice(["set mark = \"x\";",
                                               "execute(\"/bin/true\", \"x\");"])]),
        ])()

    def branch(self, depth):
        """`if` with its branches, `switch`, or a variable: one or more nodes."""
        kind = self.random.choice(["if", "if", "if", "switch", "set"])
        if kind == "set":
            return [f"set mark = {self.words.data(1)};",
                    "filename = " + self.random.choice(["mark;", 'concat(mark, "x");'])]
        if kind == "if":
            nodes = [Block(f"if {self.condition()}", self.statements(2, depth))]
            if self.chance(0.4):
                nodes.append(Block(f"elsif {self.condition()}", self.statements(2, depth)))
            if self.chance(0.4):
                nodes.append(Block("else", self.statements(2, depth)))
            nodes[0].others = nodes[1:]
            return nodes[0]
        body = []
        for text in self.random.sample(expressions.TEXTS, 2):
            body += [f"case \"{text}\":", *self.statements(1, 0)]
            body += ["break;"] if self.chance(0.6) else []
        if self.chance(0.6):
            body += ["default:", *self.statements(1, 0), "option rack-number 7;"]
        return Block(f"switch (option {self.random.choice(['vendor-class-identifier', 'user-class'])})",
                     body)

    # Declarations.

    def permits(self):
        if self.chance(0.5):
            return []
        words = ["known-clients", "unknown-clients", "all clients", "dynamic bootp clients"]
        words += [f"members of \"{name}\"" for name in self.classes]
        return [f"{self.random.choice(['allow', 'allow', 'deny'])} {self.random.choice(words)};"
                for _ in range(self.random.randint(1, 2))] + (
                    [self.random.choice(["allow after epoch 1000000000;",
                                         "deny after epoch 2000000000;"])]
                    if self.chance(0.1) else [])

    def range(self, net, first, last):
        return f"range {self.random.choice(['', '', 'dynamic-bootp '])}{net}.{first} {net}.{last};"

    def pool(self, ranges):
        # Here `allow` would be a permit.
        own = [node for node in self.statements(2) if not str(node).startswith("allow ")]
        return Block("pool", [*ranges, *self.permits(), *own])

    def subnet(self, net, mask="255.255.255.0"):
        """A subnet of 256 addresses, or the local one."""
        base = net if net.count(".") == 2 else f"{net}.4"
        body = self.statements(3)
        if self.chance(0.4):
            body.append(self.range(base, 100, 139))
        else:
            for first in self.turned([100, 150] if self.chance(0.5) else [100]):
                own = self.range(base, first, first + 39)
                # What stands in no pool may be a part of one in dhcpd.
                body.append(own if self.chance(0.3) else self.pool([own]))
        if self.chance(0.5):
            body.append(self.host(base))
        if self.chance(0.1):
            body.insert(0, self.random.choice(["authoritative;", "not authoritative;"]))
        start = net + ".0" * (4 - len(net.split(".")))
        return Block(f"subnet {start} netmask {mask}", body)

    def host(self, net=None):
        number = len(self.hosts)
        mac = f"52:54:00:77:00:{number:02x}"
        identifier = self.chance(0.2) and f"id-{number}"
        body = [f"option dhcp-client-identifier \"{identifier}\";" if identifier and self.chance(0.5)
                else f"hardware ethernet {mac};"]
        self.hosts.append((mac, identifier))
        if self.chance(0.6):
            nets = [net] if net else [f"{LOCAL}.4", *(relay.rsplit(".", 1)[0] for relay in self.relays)]
            chosen = self.random.sample(nets, min(len(nets), self.random.choice([1, 1, 2])))
            body.append("fixed-address " + ", ".join(f"{net}.{230 + number}" for net in chosen) + ";")
        if self.chance(0.1) and not net:
            body[0] = f"host-identifier option dhcp-client-identifier \"id-{number}\";"
            if self.chance(0.6):
                # Several clients have it, so it has no address.
                identifier = self.random.choice(["agent.circuit-id \"rack\"", "pxe-system-type 7",
                    *(f"{option} \"{self.random.choice([text for text in expressions.TEXTS if text])}\""
                      for option in ("host-name", "user-class", "vendor-class-identifier"))])
                body = [f"host-identifier option {identifier};"]
        return Block(f"host {self.name('h')}", body + self.statements(2))

    def a_class(self):
        name = self.name("c")
        if self.chance(0.1) and not self.plain:
            nodes = [Block(f"class \"{name}\"", [
                f"spawn with {self.random.choice(['option agent.circuit-id', 'option host-name'])};",
                *([f"lease limit {self.random.randint(1, 3)};"] if self.chance(0.5) else []),
                *self.statements(2)])]
        elif self.chance(0.4) and not self.plain:
            nodes = [Block(f"class \"{name}\"",
                           ["match option vendor-class-identifier;" if self.chance(0.5) else
                            "match substring(option vendor-class-identifier, 0, 9);",
                            *(["lease limit 3;"] if self.chance(0.15) else []),
                            *self.statements(2)])]
            for value in self.random.sample(["PXEClient", "iPXE", "MSFT 5.0", "a"], 2):
                if self.chance(0.5):
                    nodes.append(f"subclass \"{name}\" \"{value}\";")
                else:
                    nodes.append(Block(f"subclass \"{name}\" \"{value}\"", self.statements(2)))
        else:
            nodes = [Block(f"class \"{name}\"", [f"match if {self.class_words.condition(2)};",
                                                 *self.statements(2)])]
        self.classes.append(name)
        return nodes

    def many_classes(self):
        """Classes with members that are of more than five."""
        return [Block(f"class \"m{number}\"", [
            f"match if exists {self.late_random.choice(['host-name', 'vendor-class-identifier'])};",
            f"option {self.late_random.choice(['root-path', 'domain-name'])} \"m{number}\";"])
                for number in range(7)]

    def network(self, subnets):
        """Subnets on one link, or one subnet."""
        if len(subnets) == 1 and self.chance(0.6):
            return subnets[0]
        body = self.statements(2) + subnets
        if self.chance(0.1):
            body.insert(0, self.random.choice(["authoritative;", "not authoritative;"]))
        if self.chance(0.3):
            nets = [subnet.head.split()[1].rsplit(".", 1)[0] for subnet in subnets]
            nets = [net.replace(f"{LOCAL}.0", f"{LOCAL}.4") for net in nets]
            body.append(self.pool([self.range(net, 190, 229) for net in nets]))
        return Block(f"shared-network {self.name('n')}", body)

    def grouped(self, nodes):
        """Some of the nodes in a group, perhaps in another group."""
        if not self.chance(0.3):
            return nodes
        group = Block("group", self.statements(2) + nodes)
        return [Block("group", self.statements(1) + [group])] if self.chance(0.3) else [group]

    def _whole(self):
        self.relays = [f"10.{20 + number}.0.1" for number in range(self.random.randint(0, 2))]
        nodes = ["ddns-update-style none;", "ping-check false;",
                 f"dhcp-cache-threshold {self.random.choice([0, 0, 25])};"]
        nodes += [f"include \"@DIRECTORY@/{INCLUDED}\";"] if self.chance(0.3) else DEFINITIONS
        if self.vendors:
            nodes.append("option vendor.other \"all\";")
        if self.chance(0.5):
            nodes.append("authoritative;")
        if self.chance(0.15):
            nodes.append(self.rare())
        nodes += self.statements(4)
        for _ in range(self.random.randint(0, 3)):
            nodes += self.grouped(self.a_class())
        if self.late_random.random() < 0.08:
            nodes += self.many_classes()
        networks = [self.network([self.subnet(LOCAL, "255.255.0.0")])]
        for relay in self.relays:
            net = relay.rsplit(".", 1)[0]
            subnets = [self.subnet(net)]
            if self.chance(0.4):
                subnets.append(self.subnet(f"{net.rsplit('.', 1)[0]}.1"))
            networks += self.grouped([self.network(self.turned(subnets))])
        nodes += networks
        hosts = [self.host() for _ in range(self.random.randint(0, 3))]
        nodes += self.grouped(hosts) if hosts else []
        return self.flat(nodes)

