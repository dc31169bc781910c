"""Simulation of a pool on a trace of jobs, in virtual time."""

from registry.simulate.simulator import simulate
from registry.simulate.trace import Arrival, Outage, Report, SimulatedReplica, poisson

__all__ = ["Arrival", "Outage", "Report", "SimulatedReplica", "poisson", "simulate"]
