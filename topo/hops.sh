#!/bin/sh
# A line of relays, each the next one's generator; HOPS of them, here 3. Link i joins 10.0.i.1 and 10.0.i.2, all /24:
#
#   gen-ns           relay-1-ns         relay-2-ns         relay-3-ns           sink-ns
#   veth0 ──── veth1            veth2 ──── veth3  veth4 ──── veth5  veth6 ──── veth7
#   10.0.0.1   10.0.0.2      10.0.1.1   10.0.1.2  10.0.2.1   10.0.2.2  10.0.3.1   10.0.3.2
#
# Use: topo/hops.sh HOPS COMMAND… (default: a shell); inside, `ip netns exec relay-2-ns …`. It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
enter "$@"
hops=${1:?hops.sh: how many relays?}
shift

all=gen-ns
for hop in $(seq "$hops"); do all="$all relay-$hop-ns"; done
all="$all sink-ns"
namespaces $all

link=0 left=gen-ns
for right in ${all#* }; do
	veth "$left" "veth$((2 * link))" "$right" "veth$((2 * link + 1))"
	address "$left" "veth$((2 * link))" "10.0.$link.1/24"
	address "$right" "veth$((2 * link + 1))" "10.0.$link.2/24"
	link=$((link + 1)) left=$right
done

wait_up $all
exec "${@:-${SHELL:-sh}}"
