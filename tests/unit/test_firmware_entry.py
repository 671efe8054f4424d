"""Which boot entries of the firmware are those of earlier installations."""

from __future__ import annotations

from bootc_live.landing.disk.boot_partition.firmware import stale_entries

OLD, NEW = "5009a754-840c-4cd1-a41a-4762758b7185", "8630e398-d2eb-44c2-bd4c-c7d6fd46b9fb"
# What efibootmgr 17 says; 18 writes a slash less, and the order of attributes.
LISTED = rf"""BootCurrent: 0001
Timeout: 3 seconds
BootOrder: 0004,0001,0002,000A,0003
Boot0001* Linux Boot Manager	HD(1,GPT,{OLD},0x800,0x200000)/File(\EFI\systemd\systemd-bootx64.efi)
Boot0002* bootc-live	HD(1,GPT,{OLD.upper()},0x800,0x200000)/File(\EFI\BOOT\BOOTX64.EFI)
Boot0003  bootc-live	HD(2,GPT,{NEW},0x800,0x200000)/\EFI\BOOT\BOOTX64.EFI
Boot0004* bootc-live of somebody	HD(1,GPT,{OLD},0x800,0x200000)/File(\EFI\BOOT\BOOTX64.EFI)
Boot0005* UEFI PXEv4 (MAC:525400123456)	PciRoot(0x0)/Pci(0x3,0x0)/MAC(525400123456,1)
Boot000A* bootc-live	HD(1,GPT,{OLD},0x800,0x200000)/File(\EFI\BOOT\BOOTX64.EFI)
"""


def test_only_ours() -> None:
    assert list(stale_entries(LISTED, lambda found: found == OLD)) == ["0002", "000A"]
    assert list(stale_entries(LISTED, lambda found: found == NEW)) == ["0003"]
    assert list(stale_entries(LISTED, lambda _: False)) == []
    assert list(stale_entries("", lambda _: True)) == []
