#!/bin/sh
# The first process of a virtual machine inside the lab's machine. It takes commands on its first port of
# virtio-serial, one a line, and answers each with what it printed and a line `@exit STATUS`.

export PATH=/usr/bin HOME=/
/usr/bin/busybox --install -s /usr/bin 2>/dev/null

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

# Some kernels have some of them in themselves.
modprobe -qa virtio_pci virtio_console virtio_scsi sd_mod sg
until port=$(ls /dev/vport*p1 2>/dev/null); do
    usleep 10000
done
# A port can be opened only once.
exec <>$port >&0 2>&1

echo "@ready"
while IFS= read -r command; do
    sh -c "$command" </dev/null
    # What a command printed may lack its last end of line.
    printf '\n@exit %d\n' $?
done
