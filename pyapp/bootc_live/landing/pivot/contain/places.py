"""What a system needs below its root and does not bring: /proc, /sys, /dev and /run, made anew."""

from __future__ import annotations

from bootc_live.landing.surroundings import (
    Devices,
    make_cgroups,
    make_device_file_systems,
    make_devices,
    make_proc,
    make_run,
    make_sys,
    place_below,
)
from bootc_live.system.namespaces import bind_at, make_read_only


def make_places(root: str, *, host_network: bool) -> None:
    """Mount all of them below ``root``, for a process with namespaces of its own; raise OSError.

    What would change the machine is read-only. ``host_network`` says that its network is the machine's: then the kernel
    shows /sys only as it is.
    """
    make_proc(place_below(root, "proc"), host_network=host_network)
    sys = place_below(root, "sys")
    if host_network:
        bind_at("/sys", sys)
        make_read_only(sys)
    else:
        make_sys(sys)
    make_cgroups(sys)
    make_run(place_below(root, "run"))
    dev = place_below(root, "dev")
    make_devices(dev, Devices())
    make_device_file_systems(dev)
