#!/bin/sh
# KubeVirt starts the container with this and "-k PATH", and puts the host's multipathd socket beside that path.
socket=/var/run/kubevirt/daemons/pr/multipathd.socket
export MULTIPATH_SOCKET_NAME="${MULTIPATH_SOCKET_NAME:-$socket}"
exec /usr/bin/pr-helper "$@"
