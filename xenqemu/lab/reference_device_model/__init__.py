"""The reference device model: the save of device state over QMP, as a specification in code.

It is the system of the patch series "save/restore on Xen" (Stefano Stabellini, 2012) and of what
became of it: a registry of save-state entries, the command that writes those that are not live,
the machine that is stopped meanwhile, and the server around it.  What QEMU cannot be asked for
(a lost reply, silence, a crash at will) it does on request.

::

    server      the socket, one client at a time
      wire        objects and descriptors on it
      faults      what may go wrong with a command
      commands    what the commands do
        model       what they share; which version has which
        dialect     how versions word the same refusal
        machine     run states
        fdsets      descriptors handed over
        state       the stream
          registry    what is saved
"""

from __future__ import annotations

from xenqemu.lab.reference_device_model.registry import Registry, SaveStateEntry, small_pc
from xenqemu.lab.reference_device_model.run_states import QemuRunState
from xenqemu.lab.reference_device_model.server import ReferenceDeviceModel

__all__ = ["QemuRunState", "ReferenceDeviceModel", "Registry", "SaveStateEntry", "small_pc"]
