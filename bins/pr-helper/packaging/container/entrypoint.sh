#!/bin/sh
# KubeVirt starts the container with this and "-k PATH", and puts the host's multipathd socket beside that path. A name
# from elsewhere counts only if there is something in the container that has it.
if [ ! -e "${MULTIPATH_SOCKET_NAME:-}" ]; then
    export MULTIPATH_SOCKET_NAME=/var/run/kubevirt/daemons/pr/multipathd.socket
fi
exec /usr/bin/pr-helper "$@"
