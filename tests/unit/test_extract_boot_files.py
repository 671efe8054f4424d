"""Kernel and initramfs out of an image, with nothing else of it kept."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.errors import ImageError, OutOfMemoryError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import parse_source
from bootc_live.image.layout_recorder import RecordLimit
from bootc_live.pipeline import fetch
from bootc_live.rootfs.boot_files.extract import BootArtifacts, boot_file_recipe
from bootc_live.source.access import Access
from tests.lib.acquiring import QUICK
from tests.lib.needs import needs
from tests.lib.oci_writer import Compression, Image, Layer, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink
from tests.unit.pe_files import pe_file
from tests.unit.test_zboot import zboot

MIB = 2**20
NOISE = random.Random(5)
KERNEL, INITRAMFS = b"MZ" + NOISE.randbytes(700_000), b"\x1f\x8b" + NOISE.randbytes(5 * MIB)
# Not of holes, and packed quickly.
BALLAST = [file(f"usr/share/{number}", bytes([number + 1]) * (6 * MIB)) for number in range(3)]
MODULES = "usr/lib/modules/6.1"
TREE = (
    directory("usr/"),
    BALLAST[0],
    file(f"{MODULES}/vmlinuz", KERNEL),
    BALLAST[1],
    file(f"{MODULES}/initramfs.img", INITRAMFS),
    file(f"{MODULES}/modules.dep", "x"),
    BALLAST[2],
)


def image(*tars: bytes, compression: Compression = "none") -> Image:
    return Image([Layer(tar, compression) for tar in tars], architecture=HERE)


@contextmanager
def taken(
    source: Path | str,
    where: Path,
    record: str | None = None,
    recorder: Recorder | None = None,
    limit: RecordLimit = RecordLimit(),  # noqa: B008
) -> Iterator[BootArtifacts]:
    directory = where / "work"
    directory.mkdir()
    access = Access(lambda _: None, policy=QUICK, directory=str(directory))
    told = recorder or Recorder(quiet=True)
    with boot_file_recipe(str(directory), told, record, lambda _: limit) as recipe:
        yield recipe.extract(fetch([parse_source(str(source))], access, recipe, told))


@contextmanager
def taken_of(where: Path, *tars: bytes, compression: Compression = "none") -> Iterator[BootArtifacts]:
    with taken(write_archive(where / "image.oci", image(*tars, compression=compression)), where) as found:
        yield found


def read(found: BootArtifacts) -> tuple[bytes, bytes | None]:
    files = found.files
    return files.kernel.read(), None if files.initramfs is None else files.initramfs.read()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_files_are_taken_and_nothing_else_stays(compression: Compression, tmp_path: Path) -> None:
    with taken_of(tmp_path, layer(*TREE), compression=compression) as found:
        assert read(found) == (KERNEL, INITRAMFS)
        assert found.files.version == "6.1"
        assert not found.files.from_uki
        assert found.modules == {"6.1"}
        held = os.stat(found.files.kernel.path).st_blocks * 512
        assert held < len(KERNEL) + len(INITRAMFS) + 64 * 1024


def test_upper_layers_count(tmp_path: Path) -> None:
    newer = (file("usr/lib/modules/7.0/vmlinuz", b"MZnew"), file("usr/lib/modules/7.0/initramfs.img", b"new"))
    upper = layer(file("usr/lib/modules/.wh.6.1", ""), *newer)
    with taken_of(tmp_path, layer(*TREE), upper) as found:
        assert (found.files.version, *read(found)) == ("7.0", b"MZnew", b"new")
        assert found.modules == set()


def test_a_layer_that_stands_twice(tmp_path: Path) -> None:
    with taken_of(tmp_path, layer(*TREE), layer(file("usr/lib/.wh.modules", "")), layer(*TREE)) as found:
        assert read(found) == (KERNEL, INITRAMFS)


def test_several_kernels_are_an_error(tmp_path: Path) -> None:
    second = layer(file("usr/lib/modules/7.0/vmlinuz", b"MZ"))
    with pytest.raises(ImageError, match=r"has 2 kernels below /usr/lib/modules: 6\.1, 7\.0"):  # noqa: SIM117
        with taken_of(tmp_path, layer(*TREE), second):
            pass


def test_no_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="has no kernel"):  # noqa: SIM117
        with taken_of(tmp_path, layer(directory("usr/lib/modules/6.1/"))):
            pass


def test_modules_without_a_kernel_are_no_second_kernel(tmp_path: Path) -> None:
    with taken_of(tmp_path, layer(*TREE, file("usr/lib/modules/7.0/modules.dep", "x"))) as found:
        assert found.files.version == "6.1"
        assert found.modules == {"6.1", "7.0"}


def test_names_that_lead_through_links(tmp_path: Path) -> None:
    """/lib may be a link, and so may the files themselves."""
    tree = (
        symlink("lib", "usr/lib"),
        file("lib/modules/6.1/vmlinuz-real", KERNEL),
        symlink("lib/modules/6.1/vmlinuz", "/usr/lib/modules/6.1/vmlinuz-real"),
        file("boot/initrd.img-6.1", INITRAMFS),
        symlink("usr/lib/modules/6.1/initramfs.img", "../../../../boot/initrd.img-6.1"),
    )
    with taken_of(tmp_path, layer(*tree)) as found:
        assert read(found) == (KERNEL, INITRAMFS)


def test_images_of_ostree_have_hard_links(tmp_path: Path) -> None:
    """There the data stands under a name that says nothing, maybe in a layer below."""
    objects = "sysroot/ostree/repo/objects"
    lower = layer(
        file(f"{objects}/aa/1.file", KERNEL),
        file(f"{objects}/bb/2.file", INITRAMFS),
        file(f"{objects}/cc/3.file", b'kargs = ["quiet"]\n'),
        file(f"{objects}/dd/4.file", NOISE.randbytes(9 * MIB)),
    )
    upper = layer(
        hardlink(f"{MODULES}/vmlinuz", f"{objects}/aa/1.file"),
        hardlink(f"{MODULES}/initramfs.img", f"{objects}/bb/2.file"),
        hardlink("usr/lib/bootc/kargs.d/1.toml", f"{objects}/cc/3.file"),
    )
    with taken_of(tmp_path, lower, upper) as found:
        assert read(found) == (KERNEL, INITRAMFS)
        assert found.files.arguments == ("quiet",)
        assert os.stat(found.files.kernel.path).st_blocks * 512 < len(KERNEL) + len(INITRAMFS) + 64 * 1024


@pytest.mark.parametrize("where", ["boot/EFI/Linux/os.efi", "efi/EFI/Linux/os.efi"])
def test_a_uki_comes_first_and_is_taken_apart(where: str, tmp_path: Path) -> None:
    kernel, initramfs = KERNEL[::-1], INITRAMFS[::-1]
    cmdline = (".cmdline", b"of root=UUID=1 the rw uki\n")
    sections = [cmdline, (".uname", b"7.0"), (".initrd", initramfs), (".linux", kernel)]
    tree = file(where, pe_file(sections)), file("usr/lib/bootc/kargs.d/1.toml", 'kargs = ["no"]')
    with taken_of(tmp_path, layer(*TREE, *tree)) as found:
        assert found.files.from_uki
        assert read(found) == (kernel, initramfs)
        assert (found.files.version, found.files.arguments) == ("7.0", ("of", "the", "uki"))


def test_a_uki_beside_the_modules_is_for_images_without_another_kernel(tmp_path: Path) -> None:
    """Distributions put one beside a vmlinuz, whose initramfs is not the image's."""
    uki = file(f"{MODULES}/vmlinuz-virt.efi", pe_file([(".linux", KERNEL[::-1]), (".initrd", INITRAMFS[::-1])]))
    without = [BALLAST[0], uki, file(f"{MODULES}/modules.dep", "x")]
    for number, (tree, wanted) in enumerate(
        [((*TREE, uki), (KERNEL, INITRAMFS)), (without, (KERNEL[::-1], INITRAMFS[::-1]))]
    ):
        where = tmp_path / str(number)
        where.mkdir()
        with taken_of(where, layer(*tree)) as found:
            assert read(found) == wanted
            assert (found.files.from_uki, found.files.version) == (number == 1, "6.1")


def test_kernels_that_unpack_themselves_are_unpacked(tmp_path: Path) -> None:
    """As vmlinuz, and inside a UKI."""
    packed = zboot(gzip.compress(KERNEL), "gzip")
    uki = file("boot/EFI/Linux/os.efi", pe_file([(".linux", packed), (".initrd", INITRAMFS)]))
    for number, tree in enumerate([(*TREE, file(f"{MODULES}/vmlinuz", packed)), (*TREE, uki)]):
        where = tmp_path / str(number)
        where.mkdir()
        with taken_of(where, layer(*tree)) as found:
            assert read(found) == (KERNEL, INITRAMFS)


def test_data_that_was_passed_over_is_an_error(tmp_path: Path) -> None:
    """Better than a kernel of zeros."""
    tree = layer(
        file("sysroot/ostree/repo/objects/aa/1.file", b"no kernel at all" * 9000),
        hardlink(f"{MODULES}/vmlinuz", "sysroot/ostree/repo/objects/aa/1.file"),
    )
    with pytest.raises(ImageError, match=r"is a hard link to .*aa/1\.file"):  # noqa: SIM117
        with taken_of(tmp_path, tree):
            pass


def test_arguments_of_the_image(tmp_path: Path) -> None:
    kargs = "usr/lib/bootc/kargs.d"
    more = (
        file(f"{kargs}/20-b.toml", 'kargs = ["b=2"]\n'),
        file(f"{kargs}/10-a.toml", 'kargs = ["a=1", "a=2"]\nmatch-architectures = ["x86_64", "aarch64"]\n'),
        file(f"{kargs}/30-other.toml", 'kargs = ["never"]\nmatch-architectures = ["m68k"]\n'),
        file(f"{kargs}/README", "no toml"),
    )
    with taken_of(tmp_path, layer(*TREE, *more)) as found:
        assert found.files.arguments == ("a=1", "a=2", "b=2")


def test_arguments_that_are_left_out_are_named_once(tmp_path: Path) -> None:
    """One sentence for those about a disk, one for those that an image must not set; none for the others."""
    first = 'kargs = ["rw", "rootflags=compress=zstd:1", "quiet", "ip=dhcp", "root=UUID=1"]\n'
    second = 'kargs = ["rw", "composefs=abc", "rootfstype=btrfs", "ostree=/ostree/boot.1/x/0", "proxy=http://a:b@h"]\n'
    kargs = "usr/lib/bootc/kargs.d"
    archive = image(layer(*TREE, file(f"{kargs}/1.toml", first), file(f"{kargs}/2.toml", second)))
    recorder = Recorder(quiet=True)
    with taken(write_archive(tmp_path / "image.oci", archive), tmp_path, recorder=recorder) as found:
        assert found.files.arguments == ("quiet",)
    disk, refused = recorder.warnings
    assert disk.endswith(
        "on a disk are left out, because the root is in memory: "
        "rw rootflags=compress=zstd:1 root=UUID=1 composefs=abc rootfstype=btrfs ostree=/ostree/boot.1/x/0"
    )
    assert "must not set" in refused
    assert "ip=dhcp proxy=http://" in refused
    assert "a:b" not in refused


def test_damaged_arguments_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"kargs\.d/1\.toml"):  # noqa: SIM117
        with taken_of(tmp_path, layer(*TREE, file("usr/lib/bootc/kargs.d/1.toml", "kargs = 3\n"))):
            pass


@needs("cpio")
def test_blobs_are_kept_as_a_layout_in_a_cpio(tmp_path: Path) -> None:
    """The archive is what cpio(1) unpacks to an OCI layout with the same image."""
    tars = [layer(*TREE), layer(file("other", "x")), layer(*TREE)]
    source = write_archive(tmp_path / "image.oci", image(*tars))
    with taken(source, tmp_path, "a/b") as found:
        assert found.layout is not None
        assert found.layout.missing == frozenset()
        packed = b"".join(found.layout.chunks())
        assert len(packed) == found.layout.size
        digest = found.layout.digest
        assert digest == found.image.manifest_digest
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["cpio", "--extract", "--quiet"], cwd=unpacked, input=packed, check=True)
    (tmp_path / "again").mkdir()
    with taken(unpacked / "a/b", tmp_path / "again", "a/b") as again:
        assert again.layout is not None
        assert again.layout.digest == digest
        # Deterministic: the same bytes out of an archive and out of a layout.
        assert b"".join(again.layout.chunks()) == packed


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    tars = [layer(*TREE), layer(file("other", NOISE.randbytes(2 * MIB)))]
    source = write_layout(tmp_path / "image", image(*tars))
    with taken(source, tmp_path, "a", limit=RecordLimit(4 * MIB)) as found:
        assert found.layout is not None
        sizes = {part.digest: part.size for part in found.image.manifest.layers}
        assert {sizes[digest] > 4 * MIB for digest in found.layout.missing} == {True}
        assert len(found.layout.missing) == 1
        assert found.layout.size < 3 * MIB


def test_what_has_to_be_whole_does_not_fit(tmp_path: Path) -> None:
    source = write_layout(tmp_path / "image", image(layer(*TREE)))
    with pytest.raises(OutOfMemoryError, match=r"temporarily; memory is available for 2 × 4\.0 MiB"):  # noqa: SIM117
        with taken(source, tmp_path, "a", limit=RecordLimit(4 * MIB, whole=True)):
            pass


def test_archives_that_are_read_once_have_no_layout(tmp_path: Path) -> None:
    plain, packed = write_archive(tmp_path / "image.oci", image(layer(*TREE))), tmp_path / "image.oci.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 0))
    with taken(packed, tmp_path, "a") as found:
        assert found.layout is None
        assert read(found) == (KERNEL, INITRAMFS)


def test_a_missing_blob(tmp_path: Path) -> None:
    source = write_layout(tmp_path / "image", image(layer(*TREE), layer(file("other", "x"))))
    largest = max((source / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()
    with pytest.raises(SourceError, match="does not contain the blob"):  # noqa: SIM117
        with taken(source, tmp_path, "a"):
            pass
