"""Runs the graphs of a folder in a separate process, so that a malicious or damaged graph crashes only that process."""

from . import _vitstream

if __name__ == "__main__":
    _vitstream.serve_graphs()
