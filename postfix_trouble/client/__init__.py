"""The delivery agent: joins the dialogue, which decides, and the edge, which does.

It is the only place that knows both sides. Front-ends have a Service deliver a request,
and get a Report.
"""

from __future__ import annotations

from postfix_trouble.client.service import Caller, Service

__all__ = ["Caller", "Service"]
