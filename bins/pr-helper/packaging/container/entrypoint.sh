#!/bin/sh
# KubeVirt starts the container with "-k PATH" and mounts the host's multipathd socket beside PATH. A value of
# MULTIPATH_SOCKET_NAME that is set already is kept only if it exists in the container.
if [ ! -e "${MULTIPATH_SOCKET_NAME:-}" ]; then
    export MULTIPATH_SOCKET_NAME=/var/run/kubevirt/daemons/pr/multipathd.socket
fi
exec /usr/bin/pr-helper "$@"
