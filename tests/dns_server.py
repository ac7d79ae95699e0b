"""A real DNS server on loopback, by UDP and TCP, that does what a zone tells it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dnslib

# Name -> what is there. Kinds ("MX": ["10 mx.test"]); "rcode": "SERVFAIL" for all
# kinds, "rcode:MX" for one; "drop", "drop:A": no answer; "ad", "ad:A": marked as
# authentic, if all names that an alias leads to are; "truncate": by UDP nothing but the
# flag; "raw": makes a whole reply from a query; "raw:A": a return code and records as
# they are to come ([owner, kind, data]), in this order; "alone": an alias comes without
# what it leads to. "ttl": of its records, 60 by default; "soa": what is behind a reply
# without records ([time to live, minimum]).
Zone = Mapping[str, Mapping[str, Any]]


class DnsServer:
    """`address` is fit for trouble_nameserver; `queries`: (name, kind, transport)."""

    def __init__(self, zone: Zone) -> None:
        self.zone = {name.lower(): data for name, data in zone.items()}
        self.queries: list[tuple[str, str, str]] = []
        self.packets: list[bytes] = []
        self.address = ""

    def asked(self, kind: str = "") -> list[str]:
        """The names that were asked for, in order."""
        return [x[0] for x in self.queries if kind in ("", x[1])]

    def reply(self, query: bytes, transport: str) -> bytes:
        """What to send back; empty: nothing."""
        self.packets.append(query)
        request = dnslib.DNSRecord.parse(query)
        name = str(request.q.qname).rstrip(".").lower()
        kind = dnslib.QTYPE[request.q.qtype]
        self.queries.append((name, kind, transport))
        data = self.zone.get(name)
        reply = request.reply()
        reply.header.ad = 0
        if data is None:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
            reply.header.ad = int(self._below_authentic(name))
            return bytes(reply.pack())
        if data.get("drop") or data.get(f"drop:{kind}"):
            return b""
        raw: Callable[[bytes], bytes] | None = data.get("raw")
        if raw:
            return raw(query)
        if f"raw:{kind}" in data:
            word, records = data[f"raw:{kind}"]
            reply.header.rcode = getattr(dnslib.RCODE, word)
            for owner, its_kind, text in records:
                line = f"{owner}. 60 IN {its_kind} {text}"
                reply.add_answer(*dnslib.RR.fromZone(_absolute(line, its_kind)))
            return bytes(reply.pack())
        rcode = data.get(f"rcode:{kind}", data.get("rcode"))
        if rcode:
            reply.header.rcode = getattr(dnslib.RCODE, rcode)
            self._say_nothing(reply, data)
            return bytes(reply.pack())
        reply.header.ad = int(self._authentic(data, kind))
        if data.get("truncate") and transport == "udp":
            reply.header.tc = 1
            return bytes(reply.pack())
        self._fill(reply, name, kind)
        self._say_nothing(reply, data)
        return bytes(reply.pack())

    def _say_nothing(self, reply: dnslib.DNSRecord, data: Mapping[str, Any]) -> None:
        """The SOA record of a reply without records."""
        if "soa" in data and not reply.rr:
            ttl, minimum = data["soa"]
            line = f"test. {ttl} IN SOA ns.test. root.test. 1 2 3 4 {minimum}"
            reply.add_auth(*dnslib.RR.fromZone(line))

    def _below_authentic(self, name: str) -> bool:
        """Whether the nearest parent that is there is marked as authentic."""
        while name and name not in self.zone:
            name = name.partition(".")[2]
        return bool(self.zone.get(name, {}).get("ad"))

    def _authentic(self, data: Mapping[str, Any], kind: str) -> bool:
        return bool(data.get(f"ad:{kind}", data.get("ad")))

    def _fill(self, reply: dnslib.DNSRecord, name: str, kind: str) -> None:
        """Records, and the aliases on the way to them."""
        for _ in range(8):
            data = self.zone.get(name, {})
            wanted = kind if "CNAME" not in data else "CNAME"
            for text in data.get(wanted, []):
                line = f"{name}. {data.get('ttl', 60)} IN {wanted} {text}"
                reply.add_answer(*dnslib.RR.fromZone(line))
            if wanted == kind or data.get("alone"):
                return
            name = data["CNAME"][0].rstrip(".").lower()
            if not self._authentic(self.zone.get(name, {}), kind):
                reply.header.ad = 0
            if name not in self.zone:
                reply.header.rcode = dnslib.RCODE.NXDOMAIN


def _absolute(line: str, kind: str) -> str:
    """A record's line with a dot behind the name that it ends with."""
    return f"{line.removesuffix('.')}." if kind in ("CNAME", "MX") else line


@contextmanager
def serving(zone: Zone, host: str = "127.0.0.1", port: int = 0) -> Iterator[DnsServer]:
    """A running server. Port 0: one that is free."""
    dns = DnsServer(zone)
    udp, tcp = _pair(host, port)
    dns.address = "{}:{}".format(*udp.getsockname())
    stop, stopped = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(dns, udp, tcp, stopped))
    thread.start()
    try:
        yield dns
    finally:
        stop.close()
        thread.join()
        for sock in (udp, tcp, stopped):
            sock.close()


def _serve(
    dns: DnsServer, udp: socket.socket, tcp: socket.socket, stopped: socket.socket
) -> None:
    """Answer, one after the other, until the other end of `stopped` is closed."""
    while True:
        ready, _, _ = select.select((udp, tcp, stopped), (), ())
        if stopped in ready:
            return
        if udp in ready:
            query, peer = udp.recvfrom(65535)
            reply = dns.reply(query, "udp")
            if reply:
                udp.sendto(reply, peer)
        if tcp in ready:
            connection, _ = tcp.accept()
            with connection, connection.makefile("rwb") as stream:
                size = int.from_bytes(stream.read(2), "big")
                reply = dns.reply(stream.read(size), "tcp")
                if reply:
                    stream.write(len(reply).to_bytes(2, "big") + reply)


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on one port, 0: which the kernel picks."""
    for _ in range(20):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((host, port))
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen()
        return udp, tcp
    raise RuntimeError("no port is free")


def silent_port() -> tuple[socket.socket, str]:
    """A socket that never answers, and its address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock, "{}:{}".format(*sock.getsockname())
