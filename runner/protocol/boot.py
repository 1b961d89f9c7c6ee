"""Which run of the machine this is. Process numbers, boot-time clocks and files that were not synced mean nothing after
the next one began.
"""

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def of_former_boot(noted: str | None) -> bool:
    """Whether a note was made before the machine was last started. One without an id says nothing of it."""
    return noted is not None and noted != boot_id()
