"""Data sets as their owners ship them to study records, and what else a run is made from."""
