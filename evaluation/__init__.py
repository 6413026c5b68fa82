"""Evaluation of chest X-ray reports: the labeler, the metrics and the commands that run them."""
