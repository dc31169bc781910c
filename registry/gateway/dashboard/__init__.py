"""The gateway's page for people: pools, jobs and events, live."""

from registry.gateway.dashboard.facts import EventLog, Facts
from registry.gateway.dashboard.routes import dashboard_routes

__all__ = ["EventLog", "Facts", "dashboard_routes"]
