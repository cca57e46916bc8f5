"""One section, three replicas and a few owners, with every message a value on a table. Pure.

The replicas and owners are the product's own cores; only what their shells do is written out here,
as briefly as it can be. Nothing happens by itself: whoever drives the world says which message
arrives, what time it is and who crashes.
"""
