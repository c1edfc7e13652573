"""What a forked process needs: that nobody read a text while it was made."""

import os
import threading

#: Held while a text is read. espeak-ng takes one text at a time anyway, and a lock of its that is held by a thread of the
#: parent would never be free in the child.
reading = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=reading.acquire, after_in_parent=reading.release, after_in_child=reading.release)
