"""StoreSvr: replicas that keep the max_seq of each section."""
