"""Offers a node more than it can do, as frames that cost the sender next to nothing."""
