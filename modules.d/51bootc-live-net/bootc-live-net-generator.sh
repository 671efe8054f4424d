#!/bin/sh
# With rd.net.wait-any-if the boot continues as soon as one interface is online. By default the units
# wait for all interfaces, for two minutes if a cable is not connected.
# Only a generator runs before the units that wait.

/usr/lib/bootc-live/is-on rd.net.wait-any-if || exit 0
early_dir=$2

# wait_by UNIT COMMAND: makes the service UNIT run COMMAND to wait.
wait_by() {
	mkdir -p "$early_dir/$1.service.d"
	printf '%s\n' "[Service]" "ExecStart=" "ExecStart=$2" >"$early_dir/$1.service.d/wait-any-if.conf"
}

wait_by systemd-networkd-wait-online "/usr/lib/systemd/systemd-networkd-wait-online --any"
# Without -s it waits for one connection instead of all. The time limit is that of networkd; after it
# the source reports what it cannot reach.
for unit in nm-wait-online-initrd NetworkManager-wait-online-initrd; do
	wait_by "$unit" "-/usr/bin/nm-online -q -t 120"
done
