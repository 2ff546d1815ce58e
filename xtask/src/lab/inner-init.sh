#!/bin/sh
# The first process of a virtual machine inside the lab's machine. It takes commands on the second serial port, one a
# line, and answers each with what it printed and a line `@exit STATUS`.

export PATH=/usr/bin:/usr/sbin HOME=/
/usr/bin/busybox --install -s /usr/bin 2>/dev/null
mkdir -p /usr/sbin

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1

# Some kernels have some of them in themselves.
modprobe -qa virtio_pci virtio_scsi sd_mod sg

echo "@ready"
while IFS= read -r command; do
    sh -c "$command" </dev/null
    # What a command printed may lack its last end of line.
    printf '\n@exit %d\n' $?
done
