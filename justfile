# Short names for the repository's commands; each works without `just` as well.

DESTDIR := env("DESTDIR", "")

# Lists the recipes
default:
    @just --justfile {{ quote(justfile()) }} --list --unsorted

# Builds the zipapp, build/bootc-live.pyz
zipapp:
    python3 pyapp/build_zipapp.py

# Runs the tests: stages of tests/run, then `--` and arguments of pytest
[positional-arguments]
test *arguments:
    tests/run "$@"

# Runs the linters and our own rules
lint:
    tests/run lint

# Builds everything and boots the embedded image once
demo:
    vm/demo

# Installs the dracut modules and the zipapp below DESTDIR
install destdir=DESTDIR: zipapp
    #!/bin/sh
    set -eu
    lib={{ quote(trim_start_match(destdir, "DESTDIR=")) }}/usr/lib
    install -D -m 0755 build/bootc-live.pyz "$lib/bootc-live/bootc-live.pyz"
    find modules.d -type f ! -name '.*' | while read -r file; do
        mode=0644
        [ ! -x "$file" ] || mode=0755
        install -D -m "$mode" "$file" "$lib/dracut/$file"
    done

# Builds the live image as an OCI archive, vm/out/live.oci
build-live-container-img:
    vm/host-packages
    vm/build live.oci

# Copies the live image's kernel to vm/out/vmlinuz
copy-kernel:
    vm/host-packages
    vm/build vmlinuz

# Builds an initrd with the base module only: archives inside the initrd
build-initrd:
    vm/host-packages
    vm/build initrd-base.img

# Builds an initrd with the base and network modules
build-initrd-net:
    vm/host-packages
    vm/build initrd-net.img

# Builds an initrd with the base, network and registry modules
build-initrd-registry:
    vm/host-packages
    vm/build initrd-registry.img

# Builds the initrd with every module
build-initrd-all:
    vm/host-packages
    vm/build initrd.img

# Writes the live image's archive, vm/out/live.oci
build-rootfs-oci: build-live-container-img

# Wraps the archive as a cpio that a boot loader can append to an initrd, vm/out/rootfs.cpio
build-rootfs-img:
    vm/host-packages
    vm/build rootfs.cpio

# Builds the initrd with every module and the archive inside, vm/out/initrd-embedded.img
build-full-img:
    vm/host-packages
    vm/build initrd-embedded.img

# Builds the image of an init for containers: vm/out/guest.oci, guest.tar.xz and guest.ext4
build-guest-img:
    vm/host-packages
    vm/build guest.oci

# Writes what a boot server serves for an image: its source, a new directory, options of bootc-live netboot
[positional-arguments]
netboot source directory *options: zipapp
    source=$1 directory=$2 && shift 2 && build/bootc-live.pyz netboot "$source" --output "$directory" "$@"

# Makes a unified kernel image: an image's source, a new file, options of bootc-live uki
[positional-arguments]
uki source file *options: zipapp
    source=$1 file=$2 && shift 2 && build/bootc-live.pyz uki "$source" --output "$file" "$@"

# Boots an initrd in QEMU: file, kernel arguments, memory in MiB
run-vm initrd="vm/out/initrd-embedded.img" cmdline="root=bootc-live:/root.oci" mem="2048":
    vm/boot --initrd {{ quote(initrd) }} --append {{ quote(cmdline) }} --memory {{ quote(mem) }}
