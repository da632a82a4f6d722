#!/bin/sh
# The chain before its ingress is plugged in: the relay's end still lies in gen-ns, and appears in relay-ns, with the
# address it has in chain.sh, when `topo/late.sh plug` is called inside; `topo/late.sh unplug` takes it away again.
#
#   gen-ns                               relay-ns                               sink-ns
#   veth0 10.0.0.1/24 ──── veth1 ┄┄┄┄┄┄┄ (veth1)   veth2 10.0.1.1/24 ──── 10.0.1.2/24 veth3
#
# Use: topo/late.sh COMMAND… (default: a shell). It ends with COMMAND.
set -eu
. "$(dirname "$0")/lib.sh"
case "${1:-}" in
plug)
	ip -n gen-ns link set veth1 netns relay-ns
	address relay-ns veth1 10.0.0.2/24
	ip -n relay-ns link set veth1 up
	exit
	;;
unplug)
	ip -n relay-ns link set veth1 netns gen-ns
	exit
	;;
esac
enter "$@"

namespaces gen-ns relay-ns sink-ns
ip link add veth0 netns gen-ns type veth peer name veth1 netns gen-ns
ip -n gen-ns link set veth0 up
veth relay-ns veth2 sink-ns veth3

address gen-ns veth0 10.0.0.1/24
address relay-ns veth2 10.0.1.1/24
address sink-ns veth3 10.0.1.2/24

wait_up relay-ns sink-ns
exec "${@:-${SHELL:-sh}}"
