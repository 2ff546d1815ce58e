#!/bin/sh
# The first process of a virtual machine inside the lab's machine. It reads commands from its first port of virtio-serial, one
# per line, and answers each with its output and a line `@exit STATUS`.

export PATH=/usr/bin HOME=/
/usr/bin/busybox --install -s /usr/bin 2>/dev/null

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

# In some kernels some of these are built in.
modprobe -qa virtio_pci virtio_console virtio_scsi sd_mod sg
until port=$(ls /dev/vport*p1 2>/dev/null); do
    usleep 10000
done
# A port can be opened only once, so input and output share the descriptor.
exec <>$port >&0 2>&1

echo "@ready"
while IFS= read -r command; do
    sh -c "$command" </dev/null
    # The output of a command may lack its last line end.
    printf '\n@exit %d\n' $?
done
