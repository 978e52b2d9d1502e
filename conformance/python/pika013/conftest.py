"""pika 0.13.1 asks for a name that Python 3.10 moved; everything else is as it was."""

import collections
import collections.abc

if not hasattr(collections, "Callable"):
    collections.Callable = collections.abc.Callable
