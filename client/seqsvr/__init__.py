"""seqsvr: a number for each message of each user that only ever rises."""
