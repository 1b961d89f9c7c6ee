"""What a job asks of a machine, and the named sizes."""

from pydantic import Field

from shared.wire import Model

GIB = 2**30


class Needs(Model):
    """Requests: CPU in thousandths of a core, memory and disk in bytes."""

    cpu_millis: int = Field(gt=0, le=256_000)
    memory_bytes: int = Field(gt=0, le=4096 * GIB)
    disk_bytes: int = Field(ge=0, le=65536 * GIB)

    def fits(self, free: "Needs | Capacity") -> bool:
        return (
            self.cpu_millis <= free.cpu_millis
            and self.memory_bytes <= free.memory_bytes
            and self.disk_bytes <= free.disk_bytes
        )


class Capacity(Model):
    """What there is; may run below zero while facts of two sides disagree."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int

    def minus(self, taken: "Needs | Capacity") -> "Capacity":
        return Capacity(
            cpu_millis=self.cpu_millis - taken.cpu_millis,
            memory_bytes=self.memory_bytes - taken.memory_bytes,
            disk_bytes=self.disk_bytes - taken.disk_bytes,
        )


MACHINE_TYPES: dict[str, Needs] = {
    "nano": Needs(cpu_millis=250, memory_bytes=GIB // 2, disk_bytes=2 * GIB),
    "small": Needs(cpu_millis=1000, memory_bytes=2 * GIB, disk_bytes=10 * GIB),
    "medium": Needs(cpu_millis=2000, memory_bytes=4 * GIB, disk_bytes=20 * GIB),
    "large": Needs(cpu_millis=4000, memory_bytes=8 * GIB, disk_bytes=40 * GIB),
    "xlarge": Needs(cpu_millis=8000, memory_bytes=16 * GIB, disk_bytes=80 * GIB),
}
DEFAULT_MACHINE_TYPE = "small"
