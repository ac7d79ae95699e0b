"""Recorded deliveries: what a real smtp(8) or lmtp(8) made of scripted servers.

recorded/FAMILY.jsonl has one scenario per line: the servers (see scripted_server.py;
"down": nobody listens, "full": connection attempts time out), nexthop, name service,
parameters, envelope and message, and in "expected" what Postfix decided and said to
each server: 3.12 where it differs from 3.7.11, and where 3.7.11 has no such thing. In
"older" is by version what an older one did, if it did something else. {certs}, {maps},
{run} (a fresh directory), {fingerprint:CERT} and {queue_id} stand for what differs from
run to run.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from certificates import fingerprint, tlsa_data
from scripted_server import Connection, ScriptedServer

HERE = Path(__file__).parent
QUEUE_ID = "4SAMPLEQUEUEID"
# Seconds for one delivery; the slowest scenario takes 10.
LIMIT = 30
# Both sides of every comparison have these; the scenario's own come after them.
COMMON = {
    "myhostname": "client.example.test",
    "mydomain": "example.test",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "notify_classes": "protocol, resource, software",
    "smtp_randomize_addresses": "no",
    "smtputf8_enable": "yes",
    "smtp_connect_timeout": "10s",
    "minimal_backoff_time": "300s",
}
VERSION = "trouble_postfix_version"
RECIPIENT_FIELDS = (
    "status",
    "dsn",
    "relay",
    "reason",
    "remote_mta",
    "diagnostic_code",
    "action",
    # Only 3.11 and later have it.
    "tls",
)

Scenario = Mapping[str, Any]


def families() -> list[str]:
    """The names of all families."""
    return sorted(path.stem for path in (HERE / "recorded").glob("*.jsonl"))


def scenarios(family: str, folder: str = "recorded") -> Iterator[dict[str, Any]]:
    """The scenarios of a family, and what an older Postfix made of them."""
    with (HERE / folder / f"{family}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            scenario = {"family": family, **json.loads(line)}
            older = scenario.pop("older", {})
            yield scenario
            for version, expected in older.items():
                name = f"{scenario['name']}-{version}"
                params = {**scenario.get("params", {}), VERSION: version}
                yield {**scenario, "name": name, "params": params, "expected": expected}


def needs_own_network(scenario: Scenario) -> bool:
    """Whether it needs name service, low ports or IPv6."""
    params = scenario.get("params", {})
    if "dns" in scenario or "inet_protocols" in params:
        return True
    places = [scenario["nexthop"], params.get("smtp_fallback_relay", "")]
    sites = " ".join([*places, params.get("relayhost", "")]).replace(",", " ").split()
    plain = re.compile(r"unix:.*|\[127\.[\d.]+\]:\d{4,5}")
    return not all(plain.fullmatch(site) for site in sites)


class Placeholders:
    """What stands for {certs} and so on in this run."""

    def __init__(self, certificates: Path, run: Path) -> None:
        self.certificates = certificates
        self._places = {
            "{certs}": str(certificates),
            "{maps}": str(HERE / "maps"),
            "{run}": str(run),
            "{queue_id}": QUEUE_ID,
        }

    def fill(self, text: str) -> str:
        """Put the places of this run into a text of a scenario."""
        for name in re.findall(r"\{fingerprint:(\w+)\}", text):
            value = fingerprint(self.certificates / f"{name}.pem")
            text = text.replace(f"{{fingerprint:{name}}}", value)
        for placeholder, place in self._places.items():
            text = text.replace(placeholder, place)
        return text

    def tlsa(self, text: str) -> str:
        """A TLSA record of a test certificate: {good}, or {good!}: a wrong one."""
        fields, _, name = text.partition("{")
        if not name:
            return text
        _, selector, matching = map(int, fields.split())
        name = name.rstrip("}")
        path = self.certificates / f"{name.rstrip('!')}.pem"
        data = tlsa_data(path, selector, matching)
        if name.endswith("!"):
            data = data[:-2] + f"{int(data[-2:], 16) ^ 0x55:02x}"
        return fields + data

    def restore(self, value: Any) -> Any:
        """The opposite, for all texts in a result."""
        if isinstance(value, str):
            for placeholder, place in self._places.items():
                value = value.replace(place, placeholder)
            return value
        if isinstance(value, list):
            return [self.restore(v) for v in value]
        if isinstance(value, dict):
            return {k: self.restore(v) for k, v in value.items()}
        return value


def arguments(scenario: Scenario, places: Placeholders) -> list[str]:
    """The command line of the delivery, behind the program's name."""
    envelope, expected = scenario["envelope"], scenario["expected"]
    argv = ["deliver", "--json"]
    for name, value in {**COMMON, **scenario.get("params", {})}.items():
        argv += ["-o", f"{name}={places.fill(value)}"]
    if scenario.get("protocol") == "lmtp":
        argv += ["--lmtp"]
    argv += ["--queue-id", QUEUE_ID, "--nexthop", places.fill(scenario["nexthop"])]
    argv += ["--sender", envelope["sender"], "--size", str(expected["size"])]
    if expected["encoding"] != "none":
        argv += ["--encoding", expected["encoding"]]
    for flag in ("smtputf8", "requiretls"):
        if envelope.get(flag):
            argv += [f"--{flag}"]
    for name, value in sorted(envelope.get("client", {}).items()):
        if value is not None:
            argv += ["--attribute", f"{name}={value}"]
    for option in ("age", "envid", "ret", "notify"):
        if envelope.get(option):
            argv += [f"--{option}", str(envelope[option])]
    for recipient, original in expected.get("orcpt", {}).items():
        argv += ["--orcpt", f"{recipient}={original}"]
    return [*argv, "--", *expected.get("recipient_order", envelope["recipients"])]


def message(scenario: Scenario) -> bytes:
    """The message as lines that end with LF."""
    spec = scenario["message"]
    if "b64" in spec:
        return base64.b64decode(str(spec["b64"]))
    if "text" in spec:
        return str(spec["text"]).encode()
    if spec["file"] == "big.eml":
        text = (HERE / "messages/ascii.eml").read_bytes().partition(b"\n\n")[0]
        text = text.replace(b"ascii", b"big") + b"\n\n"
        line = b"line %06d of a large message, to be sure it takes many writes\n"
        return text + b"".join(line % number for number in range(12000))
    octets = (HERE / "messages" / str(spec["file"])).read_bytes()
    lines = int(spec.get("times", 0))
    return octets + (str(spec.get("repeat", "")).encode() + b"\n") * lines


def zone(scenario: Scenario, places: Placeholders) -> dict[str, Mapping[str, Any]]:
    """What the name server knows. The root is signed, for those who look."""
    names = {
        name.lower().rstrip("."): {
            kind: [places.tlsa(v) for v in values] if kind == "TLSA" else values
            for kind, values in entry.items()
        }
        for name, entry in scenario.get("dns", {}).items()
    }
    return {"": {"NS": ["ns.root.test."], "ad": True}, **names}


def servers(scenario: Scenario, places: Placeholders) -> dict[str, ScriptedServer]:
    """The servers of a scenario, started."""
    found = {}
    for spec in scenario.get("servers", []):
        table = [{"socketmap": spec["socketmap"]}] if "socketmap" in spec else []
        server = ScriptedServer(
            *spec.get("connections", table),
            listen=places.fill(spec["listen"]),
            lmtp=spec.get("proto") == "lmtp",
            certificates=str(places.certificates),
        )
        found[spec["name"]] = server
        if spec.get("full"):
            server.start_full()
        elif not spec.get("down"):
            server.start()
    return found


def play(program: list[str], scenario: Scenario, places: Placeholders) -> list[str]:
    """Run a scenario; returns the differences from what was recorded."""
    running = servers(scenario, places)
    try:
        done = subprocess.run(
            [*program, *arguments(scenario, places)],
            input=message(scenario),
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    finally:
        seen = {name: server.stop() for name, server in running.items()}
    try:
        result = places.restore(json.loads(done.stdout))
    except ValueError:
        return [f"no JSON: exit {done.returncode}, {done.stdout!r}, {done.stderr!r}"]
    return differences(scenario["expected"], result, places.restore(dialogues(seen)))


def dialogues(seen: Mapping[str, list[Connection]]) -> dict[str, list[dict[str, Any]]]:
    """What the servers were told, in the form in which it was recorded."""
    # The size of a message is compared with its digest.
    sized = re.compile(r"<message [1-9]\d* bytes>")
    return {
        name: [
            {
                "commands": [sized.sub("<message>", c) for c in connection.commands],
                "data": [list(digest) for digest in connection.digests],
            }
            for connection in connections
        ]
        for name, connections in seen.items()
    }


def differences(
    expected: Mapping[str, Any], result: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    """One line for each field that is not as Postfix had it."""
    pairs = [
        *_recipient_pairs(expected["recipients"], result.get("recipients", [])),
        ("skipped", _skipped(expected), _skipped(result)),
        ("throttled", expected.get("throttled", False), result.get("throttled")),
        ("notices", expected.get("notices", []), result.get("notices")),
    ]
    for name, connections in expected.get("servers", {}).items():
        for field in ("commands", "data"):
            want = [c.get(field, []) for c in connections]
            got = [c[field] for c in seen.get(name, [])]
            pairs.append((f"{name} {field}", want, got))
    return [f"{f}: recorded {w!r}, got {g!r}" for f, w, g in pairs if w != g]


def _skipped(record: Mapping[str, Any]) -> list[str]:
    # Postfix logs `connect to` without a queue id, for the last server too.
    return [t for t in record.get("skipped", []) if not t.startswith("connect to ")]


def _recipient_pairs(
    expected: list[dict[str, str]], result: list[dict[str, str]]
) -> Iterator[tuple[str, str, Any]]:
    got = {item["recipient"]: item for item in result}
    yield (
        "recipients",
        repr(sorted(item["recipient"] for item in expected)),
        repr(sorted(item["recipient"] for item in result)),
    )
    for item in expected:
        mine = got.get(item["recipient"], {})
        for field in RECIPIENT_FIELDS:
            if field in item:
                have = mine.get(field) or ""
                if field == "remote_mta":
                    have = have.removeprefix("dns; ")
                if field == "diagnostic_code" and not item[field]:
                    # What bounce(8) writes for a reason of our own.
                    have = "" if have.lower().startswith("x-postfix; ") else have
                yield f"{item['recipient']} {field}", item[field], have
