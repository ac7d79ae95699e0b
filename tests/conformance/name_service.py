"""A name server for the tests: answers from a dict, or not at all.

    {"a.test": {"MX": ["10 mx.a.test"], "A": [...], "AAAA", "CNAME", "SRV", "TXT",
                "rcode": "SERVFAIL", "rcode:MX": ..., "drop": True, "drop:A": True,
                "ad": True}}

Names that are not there do not exist. `ad` marks answers as validated.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = Mapping[str, Mapping[str, Any]]
LONGEST_CHAIN = 8


class NameServer:
    """Serves UDP and TCP at port 53 of an address. The zone may change meanwhile."""

    def __init__(self, address: str) -> None:
        self.zone: Zone = {}
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind((address, 53))
        self._tcp.listen(16)
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def _serve_udp(self) -> None:
        while True:
            octets, peer = self._udp.recvfrom(4096)
            reply = self.reply(octets)
            if reply:
                self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            peer, _ = self._tcp.accept()
            with peer, contextlib.suppress(OSError, struct.error):
                peer.settimeout(3)
                (length,) = struct.unpack("!H", peer.recv(2))
                reply = self.reply(peer.recv(length, socket.MSG_WAITALL))
                if reply:
                    peer.sendall(struct.pack("!H", len(reply)) + reply)

    def reply(self, octets: bytes) -> bytes:
        """The answer to a query, empty if there is to be none."""
        try:
            query = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            return b""
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(query, recursion_available=True)
        name = question.name
        for _ in range(LONGEST_CHAIN):
            entry = self._entry(name)
            if entry is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                break
            if entry.get("drop") or entry.get(f"drop:{kind}"):
                return b""
            code = entry.get(f"rcode:{kind}", entry.get("rcode"))
            if code:
                answer.set_rcode(dns.rcode.from_text(code))
                break
            if entry.get("ad"):
                answer.flags |= dns.flags.AD
            alias = "CNAME" in entry and kind != "CNAME"
            values = entry.get("CNAME" if alias else kind, [])
            if values:
                found = "CNAME" if alias else kind
                answer.answer.append(
                    dns.rrset.from_text(name, 60, "IN", found, *values)
                )
            if not alias:
                break
            name = dns.name.from_text(values[0])
        return answer.to_wire()

    def _entry(self, name: dns.name.Name) -> Mapping[str, Any] | None:
        text = name.to_unicode(omit_final_dot=True).lower()
        for known, entry in self.zone.items():
            if known.lower().rstrip(".") == text:
                return entry
        return None
