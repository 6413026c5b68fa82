"""SYNTHETIC radiographs with planted findings, their reports, labels and boxes."""
