"""The machines, what is reserved on each, and the choice among them. Incremental: nothing is recounted."""

from collections.abc import Iterator

from shared.placement.feasible import never, not_now
from shared.placement.model import NEARNESS, NOTHING, Amount, Machine, Target, Want, Why
from shared.placement.rank import rank

REMEMBERED_WANTS = 10_000


class Fleet:
    """Reservations are kept for targets, so they outlive a machine that comes and goes."""

    def __init__(self) -> None:
        self._machines: dict[Target, Machine] = {}
        self._reserved: dict[Target, Amount] = {}
        self._held: dict[Target, Want] = {}
        self._able: dict[Want, tuple[Machine, ...]] = {}
        self._total: Amount | None = None

    def __iter__(self) -> Iterator[Machine]:
        """In the order of names."""
        return iter([self._machines[target] for target in sorted(self._machines)])

    def __len__(self) -> int:
        return len(self._machines)

    def machine(self, target: Target) -> Machine | None:
        return self._machines.get(target)

    def put(self, machine: Machine) -> bool:
        """Whether anything changed."""
        if self._machines.get(machine.target) == machine:
            return False
        self._machines[machine.target] = machine
        self._changed()
        return True

    def drop(self, target: Target) -> None:
        if self._machines.pop(target, None) is not None:
            self._held.pop(target, None)
            self._changed()

    def _changed(self) -> None:
        self._able.clear()
        self._total = None

    @property
    def total(self) -> Amount:
        """Allocatable of all ready machines."""
        if self._total is None:
            self._total = NOTHING
            for machine in self._machines.values():
                if machine.state == "ready":
                    self._total = self._total.plus(machine.allocatable)
        return self._total

    def reserve(self, target: Target, needs: Amount) -> None:
        self._reserved[target] = self._reserved.get(target, NOTHING).plus(needs)

    def release(self, target: Target, needs: Amount) -> None:
        left = self._reserved[target].minus(needs)
        if left == NOTHING:
            del self._reserved[target]
        else:
            self._reserved[target] = left

    def reserved(self, target: Target) -> Amount:
        return self._reserved.get(target, NOTHING)

    @property
    def reservations(self) -> dict[Target, Amount]:
        return dict(self._reserved)

    def free(self, machine: Machine) -> Amount:
        return machine.allocatable.minus(self.reserved(machine.target))

    def hold(self, target: Target, want: Want) -> None:
        """Until `unhold` nothing but this want is placed there: it has waited too long for room."""
        self._held[target] = want

    def unhold(self, want: Want) -> bool:
        """Whether there was such a hold."""
        targets = [target for target, holder in self._held.items() if holder == want]
        for target in targets:
            del self._held[target]
        return bool(targets)

    @property
    def holds(self) -> dict[Target, Want]:
        return dict(self._held)

    def able(self, want: Want) -> tuple[Machine, ...]:
        """Machines that could run it if they were ready and empty, by name."""
        known = self._able.get(want)
        if known is None:
            if len(self._able) >= REMEMBERED_WANTS:
                self._able.clear()
            known = tuple(machine for machine in self if never(want, machine) is None)
            self._able[want] = known
        return known

    def usable(self, want: Want) -> tuple[Machine, ...]:
        """Of those able, the ready ones that are not to be avoided; the avoided ones too if there is no other."""
        ready = [machine for machine in self.able(want) if machine.state == "ready"]
        fresh = [machine for machine in ready if machine.target not in want.avoid]
        return tuple(fresh or ready)

    def choose(self, want: Want, images: frozenset[str] = frozenset()) -> Target | Why:
        """The best machine that fits now, or the reason that binds. `images`: better where they needn't be pulled."""
        usable = self.usable(want)
        fitting = [
            (rank(want.needs, machine, free, images), machine.target)
            for machine in usable
            if self._held.get(machine.target, want) == want and want.needs.fits(free := self.free(machine))
        ]
        if fitting:
            return min(fitting)[1]
        if usable:
            held = any(machine.target in self._held and want.needs.fits(self.free(machine)) for machine in usable)
            return Why.HELD if held else Why.BUSY
        return self._nearest(want)

    def _nearest(self, want: Want) -> Why:
        reasons = [never(want, machine) or not_now(machine) or Why.AVOIDED for machine in self._machines.values()]
        return min(reasons, key=NEARNESS.__getitem__, default=Why.NO_MACHINES)

    def why_not(self, want: Want, machine: Machine) -> Why | None:
        """Of one machine, None when it would take the job now."""
        reason = never(want, machine) or not_now(machine)
        if reason is not None:
            return reason
        if machine not in self.usable(want):
            return Why.AVOIDED
        if not want.needs.fits(self.free(machine)):
            return Why.BUSY
        return Why.HELD if self._held.get(machine.target, want) != want else None
