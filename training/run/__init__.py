"""What both stages share: start, loop, checkpoint, tracking, trained parts, validation."""

import logging

# At its import (by peft) it warns that a kernel for 4-bit layers on CPUs is not there; GPUs have their own.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
