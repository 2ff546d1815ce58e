#!/bin/sh
# The guest's first program (busybox's shell). It makes the disks, runs the task of /lab/settings, and reports its progress to
# the host on the second serial port: see report.rs for the messages.
#
# The disks, all in memory, and the variables with which tests find them:
#   LAB_NEXUS_A, LAB_NEXUS_B   one logical unit through two I_T nexuses; LAB_NEXUS_A_SG, LAB_NEXUS_B_SG: /dev/sgN
#   LAB_NEXUS_C                a third I_T nexus to the same logical unit
#   LAB_OTHER                  another logical unit, with one nexus; LAB_OTHER_SG, LAB_OTHER_PARTITION
#   LAB_MAP_A_1, LAB_MAP_A_2   two paths of this machine to a logical unit, for a multipath map
#   LAB_MAP_A_OTHER            a path to the same logical unit that stands for another machine
#   LAB_MAP_A_AWAY_1, _2       two paths to the same logical unit, for the map of a machine to which guests migrate
#   LAB_MAP_B_1, LAB_MAP_B_2   two paths to a second logical unit, which tests make hang
#   LAB_NEXUS_A_TARGET ...     the target port's directory in configfs (transport_status takes a path away)
#   PR_HELPER                  the daemon's program

export PATH=/lab/bin:/usr/bin:/usr/sbin HOME=/root TERM=linux RUST_BACKTRACE=1

# The first process only waits, so that it reaps every orphaned process. Programs that stop daemons, such as libvirtd, wait
# until those are reaped.
if [ $$ -eq 1 ]; then
    /usr/bin/busybox --install -s /usr/bin 2>/dev/null
    mount -t devtmpfs dev /dev
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    stty -F /dev/ttyS1 raw -echo
    exec </dev/null >/dev/ttyS1 2>&1
    sh /init &
    wait
    exit
fi

say() {
    echo "@lab $*"
}

# Reports a fatal error. The host then ends the machine.
die() {
    say broken "$*"
    sleep 60
    exit 1
}

# Waits up to ten seconds until a file matches the pattern; sets $file to the last match.
wait_for_file() {
    tries=0
    until for file in $1; do [ -e "$file" ]; done; do
        tries=$((tries + 1))
        [ $tries -lt 500 ] || die "no file appeared at $1"
        usleep 20000
    done
}

say up

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /run /tmp; do
    mount -t tmpfs -o mode=1777 tmpfs $directory
done
chmod 755 /run
mkdir -p /run/lab /var/target/pr /etc/target/pr
mount -t debugfs debugfs /sys/kernel/debug
ip link set lo up
hostname lab

for module in sd_mod sg loop dm_mod target_core_mod target_core_file tcm_loop; do
    modprobe $module || die "module $module cannot be loaded"
done
mount -t configfs configfs /sys/kernel/config
target=/sys/kernel/config/target

# backstore NUMBER NAME SERIAL: makes a logical unit of 64 MiB whose content is /run/lab/NAME; sets $unit.
backstore() {
    unit=$target/core/fileio_$1/$2
    truncate -s 64M /run/lab/$2
    mkdir -p $unit &&
        echo fd_dev_name=/run/lab/$2,fd_dev_size=67108864 >$unit/control &&
        echo $3 >$unit/wwn/vpd_unit_serial &&
        echo 1 >$unit/enable ||
        die "LIO does not make the disk $2"
}

# nexus NUMBER VARIABLE UNIT: makes a target port and an initiator port for the logical unit; exports VARIABLE*.
nexus() {
    port=$target/loopback/naa.$(printf 50014050000000%02x $1)/tpgt_1
    mkdir -p $port/lun/lun_0 &&
        echo naa.$(printf 60014050000000%02x $1) >$port/nexus &&
        ln -s $3 $port/lun/lun_0/unit ||
        die "LIO does not make the nexus $1"
    device=/sys/devices/tcm_loop_0/tcm_loop_adapter_$(($1 - 1))/host*/target*/*:*:*:0
    wait_for_file "$device/block/sd*"
    disk=${file##*/}
    wait_for_file "$device/scsi_generic/sg*"
    generic=${file##*/}
    wait_for_file /dev/$disk
    wait_for_file /dev/$generic
    eval "export $2=/dev/$disk $2_SG=/dev/$generic $2_TARGET=$port"
}

backstore 0 shared 5eaf00d1
shared=$unit
nexus 1 LAB_NEXUS_A $unit
nexus 2 LAB_NEXUS_B $unit

# A master boot record with one partition of type 83h: 65,536 blocks from block 2,048.
backstore 1 other 5eaf00d2
printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\0\001\0' | dd of=/run/lab/other bs=1 seek=446 conv=notrunc 2>/dev/null
printf '\125\252' | dd of=/run/lab/other bs=1 seek=510 conv=notrunc 2>/dev/null
nexus 3 LAB_OTHER $unit
export LAB_OTHER_PARTITION=${LAB_OTHER}1
wait_for_file $LAB_OTHER_PARTITION

backstore 3 map_a 5eaf00a1
map_a=$unit
nexus 4 LAB_MAP_A_1 $unit
nexus 5 LAB_MAP_A_2 $unit
nexus 6 LAB_MAP_A_OTHER $unit
backstore 4 map_b 5eaf00b1
nexus 7 LAB_MAP_B_1 $unit
nexus 8 LAB_MAP_B_2 $unit

nexus 9 LAB_NEXUS_C $shared
nexus 10 LAB_MAP_A_AWAY_1 $map_a
nexus 11 LAB_MAP_A_AWAY_2 $map_a

export PR_HELPER=/lab/bin/pr-helper
# There is no udevd: the device-mapper library makes the nodes itself.
export DM_DISABLE_UDEV=1

say ready

# Runs each test in a process of its own, so that a crash or hang affects no other test. The exit status comes through a pipe,
# not from wait: a process that hangs in the kernel cannot be killed, and wait would block.
run_tests() {
    set --
    options=
    while IFS= read -r argument; do
        set -- "$@" "$argument"
        case $argument in --ignored | --include-ignored) options="$options $argument" ;; esac
    done </lab/arguments
    $program --list --format terse "$@" >/run/lab/list 2>&1 || {
        cat /run/lab/list
        die "the tests cannot be listed"
    }
    sed -n 's/: test$//p' /run/lab/list >/run/lab/names
    say count $(wc -l </run/lab/names)
    mkfifo /run/lab/status
    exec 3<>/run/lab/status
    number=0
    while IFS= read -r name <&4; do
        number=$((number + 1))
        run_test
    done 4</run/lab/names
}

# Daemons that tests start. A killed test leaves them behind.
daemons="pr-helper multipathd udevadm qemu-pr-helper qemu-system-x86_64 libvirtd"

run_test() {
    say test "$name"
    echo "lab: test $name" >/dev/kmsg
    output=/run/lab/output.$number
    (
        setsid $program --exact "$name" --test-threads 1 --nocapture $options >$output 2>&1 3>&- 4<&-
        echo $number $? >&3
    ) &
    if ended $seconds; then
        if [ $status -ne 0 ]; then
            failed "exit status $status"
        elif grep -q '^test result: ok. 0 passed; 0 failed; 1 ignored' $output; then
            say ignored
        elif grep -q '^test result: ok. 1 passed' $output; then
            say passed
        else
            failed "it exited without a result"
        fi
    else
        # Logs where blocked tasks wait.
        echo w >/proc/sysrq-trigger
        killall -9 $program $daemons 2>/dev/null
        if ended 5; then
            failed "not ended after $seconds s"
        else
            failed "not ended after $seconds s, and hangs in the kernel"
        fi
    fi
    rm -f $output
}

# ended SECONDS: waits for the end of test $number. Late ends of earlier tests are skipped.
ended() {
    while read -r -t $1 which status <&3; do
        [ "$which" != $number ] || return 0
    done
    return 1
}

# failed REASON: reports a failure, with the output of the test and the messages of the kernel since its start.
failed() {
    say failed "$1"
    killall -9 $daemons 2>/dev/null
    echo "--- output of $name"
    cat $output
    echo
    echo "--- kernel"
    dmesg | sed -n -e '/lab: test /h' -e '/lab: test /!H' -e '${x;p;}' | tail -n 40
    echo "---"
}

. /lab/settings
case $task in
tests)
    run_tests
    ;;
esac

if [ $task = shell ] || [ $keep = yes ]; then
    stty -F /dev/ttyS1 sane
    say shell
    echo "The guest's shell. exit ends the machine. Disks:"
    env | grep -e ^LAB_ -e ^PR_HELPER | sort
    cd /root
    setsid sh -c "exec sh -i </dev/ttyS1 >/dev/ttyS1 2>&1"
    sleep 0.3
else
    say done
    sleep 60
fi
echo b >/proc/sysrq-trigger
