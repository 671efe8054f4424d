#!/bin/bash
# Registries as sources: the Python modules for HTTP, TLS and the distribution API.

# called by dracut
check() {
	return 255
}

# called by dracut
depends() {
	echo bootc-live-net
}

# called by dracut
install() {
	# Credentials and mirrors of the build machine.
	inst_multiple -o /etc/bootc-live/auth.json /etc/bootc-live/registries.yaml
	. "$moddir/../50bootc-live/bootc-live-pack.sh"
	bootc_live_pack registry || {
		dfatal "bootc-live-registry: packing Python failed"
		exit 1
	}
}
