# shellcheck shell=sh
# What every topology shares. Sourced by topo/*.sh, which draw and address the namespaces; this file sets no address.
#
# enter re-executes the script in mount, UTS and network namespaces of its own (as root directly, otherwise through a
# user namespace) with an empty /run, so that the names of `ip netns`, /run/mcr and every link are private and vanish
# with the last process. There is no clean-up code, and no PID namespace: process ids mean the same inside and outside.
# Sysctls and offloads stay as the kernel sets them. Exit 77 means: this host does not allow it.

PATH=$PATH:/usr/sbin:/sbin
export PATH

die() { # STATUS SENTENCE
	echo "${0##*/}: $2." >&2
	exit "$1"
}

enter() { # "$@" of the script
	if [ "${MCR_TOPOLOGY_PID:-}" = "$$" ]; then
		unset MCR_TOPOLOGY_PID
		mount -t tmpfs -o mode=755 topology /run
		return
	fi
	command -v ip >/dev/null || die 77 "ip(8) is missing: apt-get install iproute2"
	probe='mount -t tmpfs topology /run && ip netns add probe && ip netns exec probe true'
	for namespaces in -mun -mrun; do
		if unshare "$namespaces" sh -c "$probe" 2>/dev/null; then
			MCR_TOPOLOGY_PID=$$ exec unshare "$namespaces" sh "$0" "$@"
		fi
	done
	die 77 "this user may not create network namespaces: run it as root, or allow unprivileged user namespaces \
(sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0)"
}

namespaces() { # NAME…
	for name in "$@"; do
		ip netns add "$name"
		ip -n "$name" link set lo up
	done
}

veth() { # NAMESPACE INTERFACE NAMESPACE INTERFACE: a link between the two, both ends up
	ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
	ip -n "$1" link set "$2" up
	ip -n "$3" link set "$4" up
}

# A bridge floods a group nobody has joined until it believes in a querier, and it believes in its own only after
# mcast_query_response_interval has passed since mcast_querier was set. So that interval is 0 at that moment and gets
# a real value afterwards: the bridge floods nothing from its first packet on, and there is nothing to wait for.
snooping_bridge() { # NAMESPACE BRIDGE PORT…: needs the ports in NAMESPACE; the bridge is up when it returns
	namespace=$1 bridge=$2
	shift 2
	ip -n "$namespace" link add "$bridge" type bridge stp_state 0 forward_delay 0 mcast_snooping 1 \
		mcast_igmp_version 3 mcast_startup_query_interval 100 mcast_query_response_interval 0
	ip -n "$namespace" link set "$bridge" type bridge mcast_querier 1
	ip -n "$namespace" link set "$bridge" type bridge mcast_query_response_interval 100
	for port in "$@"; do
		ip -n "$namespace" link set "$port" master "$bridge"
	done
	ip -n "$namespace" link set "$bridge" up
}

# The bridge devices themselves are not waited for: the kernel may take a second to call one up, and their ports
# forward before that.
wait_up() { # NAMESPACE…: every veth has carrier, every bridge port forwards
	for name in "$@"; do
		wait_until "links of $name are up" links_up "$name"
		wait_until "bridge ports of $name forward" ports_forward "$name"
	done
}

links_up() {
	! ip -n "$1" -o link show type veth | grep -qv ' state UP '
}

ports_forward() {
	! bridge -n "$1" -o link show | grep -qv ' state forwarding '
}

wait_until() { # WHAT COMMAND…
	what=$1 deadline=$(($(date +%s) + 10))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$deadline" ] || die 1 "$what: not within 10 s"
		sleep 0.01
	done
}
