#!/bin/sh
# With rd.net.wait-any-if the boot goes on as soon as one interface is online. What waits for the
# network waits for all interfaces else, for two minutes where a cable is not plugged in.
# A generator, because only these come before the units that wait.

/usr/lib/bootc-live/any-interface || exit 0
early_dir=$2

# wait_by UNIT COMMAND: makes the service UNIT, if there, wait by COMMAND.
wait_by() {
	mkdir -p "$early_dir/$1.service.d"
	printf '%s\n' "[Service]" "ExecStart=" "ExecStart=$2" >"$early_dir/$1.service.d/wait-any-if.conf"
}

wait_by systemd-networkd-wait-online "/usr/lib/systemd/systemd-networkd-wait-online --any"
# Without -s it waits for a connection instead of all that NetworkManager wants to bring up; as
# long as for networkd at most, after which the source says what it cannot reach.
for unit in nm-wait-online-initrd NetworkManager-wait-online-initrd; do
	wait_by "$unit" "-/usr/bin/nm-online -q -t 120"
done
