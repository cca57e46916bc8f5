"""The cluster map: who should serve what."""
