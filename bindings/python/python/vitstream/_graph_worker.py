"""Runs the graphs of a folder in a process of their own, so that a stranger's graph ends that and not its user's program."""

from . import _vitstream

if __name__ == "__main__":
    _vitstream.serve_graphs()
