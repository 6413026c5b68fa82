"""What both stages share: start, loop, checkpoint, tracking, trained parts, validation."""
