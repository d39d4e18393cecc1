"""Helpers of the whole-system tests: child processes, the daemon, a real Consul agent, a scripted fault double."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SUPPORT = pathlib.Path(__file__).resolve().parent
