"""seqctl: the command line of operators."""
