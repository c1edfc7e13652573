"""Makes forking safe: no text is being read while a process forks."""

import os
import threading

#: Held while a text is read. espeak-ng reads one text at a time anyway, and its lock, if a thread of the parent holds it during
#: the fork, would never be released in the child.
reading = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=reading.acquire, after_in_parent=reading.release, after_in_child=reading.release)
