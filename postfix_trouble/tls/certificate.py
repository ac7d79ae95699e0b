"""What a certificate says, and whether it names the server that we meant.

The standard library shows the names of a certificate only after it has verified it;
we need them of certificates that nobody trusts too. The matching rules are those of
X509_check_host(3) with the flags that Postfix sets.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import address_family, idn_to_ascii
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_COMMON_NAME = b"\x55\x04\x03"
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
# Tags of ASN.1, and of GeneralName.
_SEQUENCE, _BITS = 0x30, 0x03
_UTC_TIME, _BMP_STRING = 0x17, 0x1E
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
# More is of no use in a log line.
_LONG = 256


class Certificate(Value):
    """The parts of a certificate that matter to us."""

    der: bytes
    # SubjectPublicKeyInfo, DER.
    public_key: bytes
    # Names of the issuer and the subject, DER.
    issued_by: bytes
    issued_to: bytes
    # Common names; there may be several, or none.
    subject: tuple[str, ...]
    issuer: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[bytes, ...]
    # YYYYMMDDHHMMSSZ
    expires: str

    @property
    def self_issued(self) -> bool:
        """Subject and issuer are the same."""
        return self.issued_by == self.issued_to

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """For people: safe to print, not too long."""
        lines = (
            ("subject", ", ".join(self.subject)),
            ("issuer", ", ".join(self.issuer)),
            ("names", " ".join(self.dns_names)),
            ("expires", self.expires),
        )
        return tuple((name, _printable(text)) for name, text in lines if text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_LONG])


# --- DER ----------------------------------------------------------------------------


def parse(der: bytes) -> Certificate | None:
    """Take a certificate apart (RFC 5280 4.1); None if it is none."""
    try:
        (_, outer, _), *_ = _elements(der)
        (_, signed, _), *_ = _elements(outer)
        fields = [x for x in _elements(signed) if x[0] != _VERSION]
        _serial, _algorithm, issuer, validity, subject, key, *rest = fields
        names = [x for x in rest if x[0] == _EXTENSIONS]
        alternatives = list(_alternatives(names[0][1])) if names else []
        (_, _, _), (tag, expires, _) = _elements(validity[1])
        return Certificate(
            der,
            key[2],
            issuer[2],
            subject[2],
            tuple(_common_names(subject[1])),
            tuple(_common_names(issuer[1])),
            # Names that are not ASCII can't be host names: X509_check_host(3).
            tuple(
                x.decode("ascii", "replace") for t, x in alternatives if t == _DNS_NAME
            ),
            tuple(x for t, x in alternatives if t == _IP_ADDRESS),
            _time(tag, expires),
        )
    except ValueError:
        return None


def is_public_key(der: bytes) -> bool:
    """Whether this has the form of a SubjectPublicKeyInfo (RFC 5280 4.1)."""
    try:
        ((outer, content, _),) = _elements(der)
        (algorithm, _, _), (key, _, _) = _elements(content)
    except ValueError:
        return False
    return (outer, algorithm, key) == (_SEQUENCE, _SEQUENCE, _BITS)


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, content, and the whole, of each element in a row."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            width = length & 0x7F
            if not width:
                # "Until the end", which DER has not.
                raise ValueError
            length = int.from_bytes(data[start : start + width], "big")
            start += width
        end = start + length
        if end > len(data):
            raise ValueError
        yield tag, data[start:end], data[at:end]
        at = end


def _common_names(name: bytes) -> Iterator[str]:
    for _, group, _ in _elements(name):
        for _, attribute, _ in _elements(group):
            (_, oid, _), (tag, value, _), *_ = _elements(attribute)
            if oid == _COMMON_NAME:
                encoding = "utf-16-be" if tag == _BMP_STRING else "utf-8"
                yield value.decode(encoding, "replace")


def _alternatives(extensions: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each GeneralName in subjectAltName."""
    (_, listed, _), *_ = _elements(extensions)
    for _, extension, _ in _elements(listed):
        (_, oid, _), *_, (_, value, _) = _elements(extension)
        if oid == _SUBJECT_ALT_NAME:
            (_, names, _), *_ = _elements(value)
            for kind, content, _ in _elements(names):
                yield kind, content


def _time(tag: int, value: bytes) -> str:
    text = value.decode("ascii", "replace")
    if tag == _UTC_TIME:
        return ("19" if text >= "5" else "20") + text
    return text


# --- names --------------------------------------------------------------------------


def references(match: Iterable[str], nexthop: str, host: str) -> tuple[str, ...]:
    """The names that a certificate may have, by match strategies.

    A leading dot stands for all that is below it. Names are in A-label form.
    """
    known = {"nexthop": nexthop, "hostname": host, "dot-nexthop": "." + nexthop}
    names = []
    for word in match:
        name = known.get(word.lower(), word)
        dot = "." if name.startswith(".") else ""
        bare = name.removeprefix(dot)
        names.append(dot + (idn_to_ascii(bare) or bare))
    return tuple(names)


def names_match(certificate: Certificate, wanted: Iterable[str]) -> bool:
    """Whether the certificate names the server.

    A name and an address that are both wanted must both be there: so has it
    SSL_add1_host(3), hence a nexthop that is an address never matches "nexthop,
    dot-nexthop".
    """
    wanted = tuple(wanted)
    addresses = tuple(filter(address_family, wanted))
    names = tuple(x for x in wanted if x not in addresses)
    if not wanted:
        return False
    return (not names or _named(certificate, names)) and (
        not addresses or _addressed(certificate, addresses)
    )


def _named(certificate: Certificate, wanted: tuple[str, ...]) -> bool:
    # The common name counts only where no host name stands beside it.
    shown = certificate.dns_names or certificate.subject
    return any(
        _name_matches(pattern.lower(), name.lower())
        for pattern in shown
        for name in wanted
    )


def _name_matches(pattern: str, name: str) -> bool:
    """One name of the certificate against one that we want, both in lower case.

    "*" stands for one label, whatever tls_wildcard_matches_multiple_labels says:
    Postfix 3.7 does not look at it.
    """
    if not name or not pattern.isascii() or "\0" in pattern:
        return False
    if len(name) > 1 and name.startswith("."):
        return pattern.endswith(name)
    import re  # 3 ms, for those who look at names only

    # "*" is a whole label, the first one, and at least two more follow.
    if re.fullmatch(r"\*(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?){2,}", pattern):
        head, dot, tail = name.partition(".")
        # Who wants "*.example.com" has it from a certificate for just that.
        label = re.fullmatch(r"[a-z0-9-]+|\*", head)
        return dot + tail == pattern[1:] and label is not None
    return pattern == name


def _addressed(certificate: Certificate, wanted: tuple[str, ...]) -> bool:
    import ipaddress

    return any(ipaddress.ip_address(x).packed in certificate.addresses for x in wanted)


# --- for a library that verifies only in a handshake ---------------------------------


def server_flight(chain: Iterable[bytes], suite: bytes) -> bytes:
    """What a TLS 1.2 server sends up to its certificates (RFC 5246 7.4), as records.

    `chain`: DER, the server's own first. `suite`: two bytes, the cipher suite.
    """
    # Secure renegotiation (RFC 5746), without which OpenSSL hangs up.
    extensions = _vector(2, b"\xff\x01\x00\x01\x00")
    hello = b"\x03\x03" + bytes(32) + b"\x00" + suite + b"\x00" + extensions
    certificates = _vector(3, b"".join(_vector(3, x) for x in chain))
    flight = b"\x02" + _vector(3, hello) + b"\x0b" + _vector(3, certificates)
    pieces = (flight[i : i + 0x4000] for i in range(0, len(flight), 0x4000))
    return b"".join(b"\x16\x03\x03" + _vector(2, piece) for piece in pieces)


def _vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


# v3; "sha256WithRSAEncryption", which nobody looks at; 2000 to 2049; CA:TRUE.
_V3 = b"\xa0\x03\x02\x01\x02\x02\x01\x01"
_SIGNED_BY = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
_ALWAYS = b"\x30\x1e\x17\x0d000101000000Z\x17\x0d491231235959Z"
_AUTHORITY = bytes.fromhex("a3133011300f0603551d130101ff040530030101ff")


def top(shown: Sequence[Certificate]) -> Certificate:
    """Where the chain of the first one ends, by names: nobody shown has issued that.

    A key without a certificate can be its issuer's only (OpenSSL check_dane_pkeys): for
    those below, the key of a certificate that was shown is known.
    """
    found, *others = shown
    while not found.self_issued:
        issuers = [x for x in others if x.issued_to == found.issued_by]
        if not issuers:
            break
        found = issuers[0]
        others.remove(found)
    return found


def authority(name: bytes, public_key: bytes) -> bytes:
    """A certificate (DER) that says: this is the key of that name.

    For a key that is trusted by itself. Its signature is void, since OpenSSL does not
    look at that of an anchor.
    """
    parts = (_V3, _SIGNED_BY, name, _ALWAYS, name, public_key, _AUTHORITY)
    signed = _element(_SEQUENCE, b"".join(parts))
    return _element(_SEQUENCE, signed + _SIGNED_BY + _element(_BITS, bytes(9)))


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | width)) + size.to_bytes(width, "big") + content


def pem_blocks(text: str) -> Iterator[tuple[str, bytes]]:
    """Label and content of each PEM block (RFC 7468). Raises ValueError."""
    import binascii
    import re

    pattern = r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----"
    for label, body in re.findall(pattern, text, re.DOTALL):
        yield label, binascii.a2b_base64(body)
