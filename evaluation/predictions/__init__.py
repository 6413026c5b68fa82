"""The files of a generation run: what goes in, what is written, what is read back."""
