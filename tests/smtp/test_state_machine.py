"""The whole engine against a model of it that fits on a page.

The model is Postfix's smtp_trouble.c and the loop around it, written down again without
sessions, verdicts or ledger: one mail, servers in a row, what each says at each stage.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from script import PIPELINING, REFUSED, Place, run

from postfix_trouble.core.reply import Lost

STAGES = ("greeting", "ehlo", "helo", "mail", "rcpt", "data", "dot")
GOOD = {"greeting": "220 mx", "data": "354 go"}
ANSWERS = [
    *("250 ok", "354 go", "199 what", "421 4.3.2 no", "450 4.2.0 later", "451 later"),
    *("550 5.1.1 no", "552 4.2.2 odd", "554 no", "555 5.5.4 what", "999 what"),
    *(Lost.EOF, Lost.TIME),
]
NO_LIMIT = {"smtp_mx_session_limit": "0", "smtp_mx_address_limit": "0"}
SESSION = ("greeting", "ehlo", "helo")


def status_of(text: str) -> str:
    """The enhanced status that counts."""
    klass, word = text[0], text[4:].split(" ")[0]
    if klass not in "245":
        return "5.5.0"
    return word if word[:2] == klass + "." else klass + ".0.0"


class Model:
    """One delivery: feed it the servers in order, and read `ends`."""

    def __init__(self, count: int, soft_bounce: bool) -> None:
        self.soft_bounce = soft_bounce
        self.left = list(range(count))
        self.ends: dict[int, str] = {}
        self.visited: list[str] = []
        # Nobody took it: the last word on it.
        self.why = ""

    def deliver(self, servers: list[Any]) -> None:
        for number, server in enumerate(servers, 1):
            if not self.left:
                return
            self.visited.append(f"h{number}")
            self.final, self.host = number == len(servers), f"h{number}"
            if server is REFUSED:
                self.why = "4.4.1"
                continue
            self.present, self.left = sorted(self.left), []
            self._session(server)
        for each in self.left:
            self._end(each, self.why, "none")

    def _session(self, server: dict[str, Any]) -> None:
        def said(stage: str, time: int = 0) -> Any:
            answer = server.get(stage, [GOOD.get(stage, "250 ok")])
            return answer[min(time, len(answer) - 1)]

        for stage in SESSION:
            answer = said(stage)
            if isinstance(answer, Lost) or (answer[0] == "2" and stage == "ehlo"):
                break
            if stage == "ehlo" and not answer.startswith("421"):
                continue
            if answer[0] != "2":
                soft = stage == "greeting" and answer[0] == "5"
                status = status_of(answer)
                return self._fail("4" + status[1:] if soft else status)
        if isinstance(answer, Lost):
            return self._fail("4.4.2")
        answer = said("mail")
        if isinstance(answer, Lost):
            return self._fail("4.4.2")
        if answer[0] != "2":
            return self._fail(status_of(answer))
        accepted = []
        for time, each in enumerate(list(self.present)):
            answer = said("rcpt", time)
            if isinstance(answer, Lost):
                return self._fail("4.4.2")
            if answer[0] == "2":
                accepted.append(each)
            else:
                self._fail(status_of(answer), [each])
        if not accepted:
            return None
        for stage, wanted in (("data", "3"), ("dot", "2")):
            answer = said(stage)
            if isinstance(answer, Lost):
                return self._fail("4.4.2")
            if answer[0] != wanted:
                status = status_of(answer)
                return self._fail("5.5.0" if status[0] == "2" else status)
        for each in accepted:
            self.ends[each] = f"sent {status_of(answer)} {self.host}"
        return None

    def _fail(self, status: str, whom: list[int] | None = None) -> None:
        """Keep for the next server, deferred, or give up."""
        self.why = status
        for each in list(self.present) if whom is None else whom:
            if each in self.ends or each in self.left:
                continue
            if not self.final and (status[0] == "4" or self.soft_bounce):
                self.left.append(each)
            else:
                self._end(each, status, self.host)
            self.present.remove(each)

    def _end(self, each: int, status: str, host: str) -> None:
        word = "deferred" if status[0] == "4" else "bounced"
        if word == "bounced" and self.soft_bounce:
            word, status = "SOFTBOUNCE", "4" + status[1:]
        self.ends[each] = f"{word} {status} {host}"


class Engine(RuleBasedStateMachine):
    """Servers and recipients come one by one; after each, the mail is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[Any] = []
        self.count = 1
        self.soft_bounce = False

    @rule(
        server=st.one_of(
            st.just(REFUSED),
            st.dictionaries(
                st.sampled_from(STAGES),
                st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3),
                max_size=3,
            ),
        )
    )
    def another_server(self, server: Any) -> None:
        self.servers.append(server)

    @rule()
    def another_recipient(self) -> None:
        self.count = min(self.count + 1, 4)

    @rule()
    def other_soft_bounce(self) -> None:
        self.soft_bounce = not self.soft_bounce

    @invariant()
    def ends_as_the_model_says(self) -> None:
        if not self.servers:
            return
        model = Model(self.count, self.soft_bounce)
        model.deliver(self.servers)
        words = {"soft_bounce": "yes" if self.soft_bounce else "no", **NO_LIMIT}
        done = run(Place(self.servers), rcpts=self.count, settings=words)
        assert done.ends == [model.ends[each] for each in range(self.count)]
        assert done.hosts == model.visited
        # Pipelining changes what is under way when a connection breaks, no more.
        whole = [s for s in self.servers if s is not REFUSED and "ehlo" not in s]
        if len(whole) == len(self.servers) and not _breaks(whole):
            piped = [{**server, **PIPELINING} for server in whole]
            again = run(Place(piped), rcpts=self.count, settings=words)
            assert again.ends == done.ends


def _breaks(servers: list[Any]) -> bool:
    stages = ("mail", "rcpt", "data", "dot")
    return any(
        isinstance(answer, Lost)
        for server in servers
        for stage in stages
        for answer in server.get(stage, ())
    )


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=100, stateful_step_count=8)
