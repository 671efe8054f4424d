#!/bin/bash
# Network support for bootc-live, certificates for HTTPS, and the interface to dracut's url-lib. Its
# handlers are in the dracut modules url-lib and nfs, which must be added separately.

# called by dracut
check() {
	return 255
}

# called by dracut
depends() {
	[[ -d $(dracut_module_path network) ]] ||
		dfatal "bootc-live-net: dracut's module network is missing: install the package dracut-network"
	echo bootc-live network
}

# called by dracut
install() {
	local _file
	. "$moddir/../50bootc-live/bootc-live-pack.sh"
	bootc_live_pack net || {
		dfatal "bootc-live-net: packing Python failed"
		exit 1
	}
	inst_multiple -o /etc/ssl/certs/ca-certificates.crt \
		/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
	# CA certificates; those in HOST[:PORT]/ and client certificates are for one host.
	while read -r _file; do
		inst_simple "/etc/bootc-live/certs.d/$_file"
	done < <(find "${dracutsysrootdir-}/etc/bootc-live/certs.d" ! -type d -printf '%P\n' 2>/dev/null)
	inst_libdir_file "libnss_dns.so.*" "libnss_files.so.*"

	inst_script "$moddir/name-servers.sh" /usr/lib/bootc-live/name-servers
	inst_script "$moddir/fetch-url.sh" /usr/lib/bootc-live/fetch-url
	inst_multiple -o timeout
	inst_simple "$moddir/nfs-url.sh" /usr/lib/bootc-live/nfs-url
	if dracut_module_included systemd; then
		inst_script "$moddir/bootc-live-net-generator.sh" \
			"$systemdutildir/system-generators/bootc-live-net-generator"
	fi
	if dracut_module_included network-legacy; then
		inst_hook pre-udev 61 "$moddir/wait-any-legacy.sh"
	fi
}
