#!/bin/bash
# The network for bootc-live, and the certificate authorities for HTTPS.

# called by dracut
check() {
	return 255
}

# called by dracut
depends() {
	echo bootc-live network
}

# called by dracut
install() {
	inst_multiple -o /etc/ssl/certs/ca-certificates.crt \
		/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
	inst_multiple -o "/etc/bootc-live/certs.d/*"
	inst_hook initqueue/online 50 "$moddir/resolv-from-lease.sh"
	inst_libdir_file "libnss_dns.so.*"
}
