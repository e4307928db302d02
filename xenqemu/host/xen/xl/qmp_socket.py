"""The QMP socket that libxl has QEMU make, which is shared by a lock."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.xen.xl.libxl_locks import Lock, locked


class LockedDeviceModel(DeviceModel):
    """A device model whose client holds the lock of its socket meanwhile, as libxl does."""

    def __init__(self, path: Path, who: tuple[int, str], deadlines: Deadlines) -> None:
        super().__init__(path, deadlines)
        self._lock = ExitStack()
        self._lock_of = (*who, deadlines)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(locked(Lock.QMP_SOCKET, *self._lock_of))
            super().__enter__()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)
        finally:
            self._lock.close()
