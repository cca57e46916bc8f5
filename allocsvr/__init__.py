"""AllocSvr: the nodes that hand out numbers."""
