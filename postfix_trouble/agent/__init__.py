"""The delivery agent: joins the engine, which decides, and the edge, which does.

It is the only place that knows both sides. Front-ends make an Agent for a delivery
request, call `deliver_request` and get a Report.
"""

from __future__ import annotations

from postfix_trouble.agent.request import Agent, deliver_request

__all__ = ["Agent", "deliver_request"]
