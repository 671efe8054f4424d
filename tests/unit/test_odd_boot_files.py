"""Images whose layers make it hard to tell what a boot loader needs, and what need not stay."""

from __future__ import annotations

import gc
import gzip
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import ImageError, OutOfMemoryError
from bootc_live.image.sink import LayerPlace
from bootc_live.rootfs.boot_files.files import boot_files
from bootc_live.rootfs.boot_files.filter import BootFileFilter
from bootc_live.rootfs.boot_files.kernel_choice import Chosen
from bootc_live.rootfs.tree.node import Node, new_directory
from tests.lib.linear import check_linear
from tests.lib.tar_writer import file, hardlink, layer, sparse_gnu, sparse_pax, symlink
from tests.unit.pe_files import pe_file
from tests.unit.test_extract_boot_files import INITRAMFS, KERNEL, MIB, MODULES, TREE, read, taken_of
from tests.unit.test_zboot import zboot

KARGS = "usr/lib/bootc/kargs.d"


def error_of(where: Path, *tars: bytes) -> str:
    with pytest.raises(ImageError) as caught, taken_of(where, *tars):
        pass
    return caught.value.message


@pytest.mark.parametrize("write", [sparse_gnu, sparse_pax])
def test_a_sparse_file_in_front(write: Callable[[str, int, list[tuple[int, bytes]]], bytes], tmp_path: Path) -> None:
    """It is larger than what the tar has of it; nothing that comes behind is passed over with it."""
    tar, path = layer(write("var/log/lastlog", 2**32, [(0, b"x" * 4096)]), *TREE), tmp_path / "layers"
    path.write_bytes(tar[:MIB])
    with BootFileFilter(str(path)).layer(LayerPlace("sha256:1", 0)) as tap:
        tap.advance(MIB)
        while tap._wanted <= MIB:
            # The reader has yet to come as far as it can.
            time.sleep(0.001)
        with path.open("r+b") as file:
            file.seek(MIB)
            file.write(tar[MIB:])
        tap.advance(len(tar))
        tap.end(len(tar))
    written = path.read_bytes()
    assert KERNEL in written
    assert INITRAMFS in written
    assert len(written) == len(tar)
    assert path.stat().st_blocks * 512 < len(KERNEL) + len(INITRAMFS) + MIB


def test_many_files_that_stay_are_quick(tmp_path: Path) -> None:
    """None of them is looked at again once it has been passed."""
    files, path = [file(f"boot/vmlinuz-{number}", "MZ") for number in range(10_000)], tmp_path / "layers"

    def skimmed(count: int) -> None:
        tar = layer(*files[:count])
        path.write_bytes(tar)
        with BootFileFilter(str(path)).layer(LayerPlace("sha256:1", 0)) as tap:
            for at in range(0, len(tar), 2**16):
                tap.advance(at)
            tap.end(len(tar))
        assert path.read_bytes().count(b"MZ" + bytes(510)) == count

    check_linear(skimmed, 1250)


def test_a_hard_link_to_what_did_not_stay_is_no_damage(tmp_path: Path) -> None:
    """Its name may say that it matters, and then nobody asks for it; or somebody does."""
    same = file("usr/lib/one", "MZ"), hardlink("usr/lib/other.efi", "usr/lib/one")
    with taken_of(tmp_path, layer(*same, *TREE)) as found:
        assert read(found) == (KERNEL, INITRAMFS)


def test_a_hard_link_to_what_did_not_stay_and_is_needed(tmp_path: Path) -> None:
    tree = file("opt/linux", KERNEL), hardlink(f"{MODULES}/vmlinuz", "opt/linux")
    assert "is a hard link to 'opt/linux', whose data was not kept" in error_of(tmp_path, layer(*tree))


def test_ukis_in_capitals(tmp_path: Path) -> None:
    uki = pe_file([(".linux", KERNEL), (".initrd", INITRAMFS), (".uname", b"7.0")])
    with taken_of(tmp_path, layer(*TREE, file("boot/EFI/Linux/OS.EFI", uki))) as found:
        assert found.files.from_uki
        assert found.files.version == "7.0"


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    upper = layer(file("usr/lib/modules/6.1", "gone"), file("usr/lib/modules/7.0/vmlinuz", b"MZ"))
    with taken_of(tmp_path, layer(*TREE), upper) as found:
        assert found.files.version == "7.0"
        assert found.modules == set()


@pytest.mark.parametrize("target", ["nowhere.toml", "../../../share/10-a.toml"])
def test_arguments_that_a_link_leads_to(target: str, tmp_path: Path) -> None:
    """Arguments that are left out without a word may be those that keep the system safe."""
    parts = file("usr/share/10-a.toml", 'kargs = ["a"]'), symlink(f"{KARGS}/10-a.toml", target)
    assert f"/{KARGS}/10-a.toml" in error_of(tmp_path, layer(*TREE, *parts))


@pytest.mark.parametrize("text", [r'kargs = ["a\u0000b"]', r'kargs = ["\"a=\nb\""]', r'kargs = ["a\u001b[2J"]'])
def test_arguments_that_no_command_line_can_hold(text: str, tmp_path: Path) -> None:
    assert f"/{KARGS}/1.toml" in error_of(tmp_path, layer(*TREE, file(f"{KARGS}/1.toml", text)))


def test_a_uki_without_a_kernel_in_it(tmp_path: Path) -> None:
    uki = pe_file([(".linux", b""), (".initrd", INITRAMFS)])
    assert "has an empty kernel" in error_of(tmp_path, layer(file("boot/EFI/Linux/os.efi", uki)))


def test_a_uki_whose_texts_are_odd(tmp_path: Path) -> None:
    sections = [(".linux", KERNEL), (".uname", b'7.0\n\x1b[2J "x'), (".cmdline", b"a b\n c\0\0d")]
    with taken_of(tmp_path, layer(file("boot/EFI/Linux/os.efi", pe_file(sections)))) as found:
        assert found.files.version == "7.0___2J__x"
        assert found.files.arguments == ("a", "b", "c")


def test_a_kernel_that_unwraps_to_more_than_there_is_room_for(tmp_path: Path) -> None:
    path = tmp_path / "layers"
    path.write_bytes(zboot(gzip.compress(bytes(8 * MIB)), "gzip"))
    kernel = Node(kind="file", size=path.stat().st_size)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, limits[1]))
    try:
        with pytest.raises(OutOfMemoryError, match="the kernel of 'x' has no space left"):
            boot_files(Chosen(new_directory(), "6.1", "vmlinuz", kernel, None), str(path), str(tmp_path), "x86_64", "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_arguments_that_fill_the_memory(tmp_path: Path) -> None:
    """Zeros take nothing where they are compressed."""
    big = file(f"{KARGS}/1.toml", "#" * MIB)
    assert f"/{KARGS}/1.toml" in error_of(tmp_path, layer(*TREE, big))


def test_the_tree_is_not_held_on_to(tmp_path: Path) -> None:
    """Where the image has many files, that is memory that the blobs need by then."""
    many = [file(f"sysroot/ostree/repo/objects/{number:064x}.file") for number in range(3000)]
    tar = layer(*TREE, *many)
    with taken_of(tmp_path, tar):
        gc.collect()
        assert sum(isinstance(thing, Node) for thing in gc.get_objects()) < 1000


def test_modules_where_usr_is_not_merged(tmp_path: Path) -> None:
    with taken_of(tmp_path, layer(*TREE, file("lib/modules/5.10/modules.dep", "x"))) as found:
        assert found.modules == {"5.10", "6.1"}


def test_names_that_mean_something_to_a_terminal(tmp_path: Path) -> None:
    for number, name in enumerate(("\x1b[2J", "\udcff")):
        where = tmp_path / str(number)
        where.mkdir()
        tree = file(f"usr/lib/modules/{name}/vmlinuz", "MZ"), file(f"{KARGS}/{name}.toml")
        said = error_of(where, layer(*tree))
        assert said.isprintable()
        assert said.encode()
