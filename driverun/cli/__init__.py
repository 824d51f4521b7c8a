"""The command line: parse, call one function, render, exit."""

from driverun.cli.main import main

__all__ = ["main"]
