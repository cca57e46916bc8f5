"""The arbiter: who should serve which section, and when that changes."""
