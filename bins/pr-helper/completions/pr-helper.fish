complete -c pr-helper -s f -l pidfile -d 'Write the process ID to PATH and lock it while the helper runs [default with -d: /var/run/qemu-pr-helper.pid]' -r -F
complete -c pr-helper -s k -l socket -d 'Listen on this socket, unless activated by systemd [default: /var/run/qemu-pr-helper.sock]' -r -F
complete -c pr-helper -s T -l trace -d 'Trace commands: events that match PATTERN (or are listed in events=FILE), to standard error or to file=FILE' -r
complete -c pr-helper -s u -l user -d 'Run as this user (name or number) once the sockets are open' -r
complete -c pr-helper -s g -l group -d 'Run as this group (name or number) once the sockets are open' -r
complete -c pr-helper -l socket-mode -d 'Permissions of the socket, in octal [default: 0777 minus the umask]' -r
complete -c pr-helper -l socket-owner -d 'Owner of the socket, name or number' -r
complete -c pr-helper -l socket-group -d 'Group of the socket, name or number' -r
complete -c pr-helper -l timeout -d 'Time limit of a command, after which the kernel aborts it' -r
complete -c pr-helper -l stop-grace -d 'Time limit for commands in flight after SIGTERM' -r
complete -c pr-helper -l max-clients -d 'Maximum number of connected clients; one process may have a quarter of it, and always 64' -r
complete -c pr-helper -l slow -d 'Log a warning when a device has not answered a command for this time' -r
complete -c pr-helper -l shared-nexus -d 'What to do when two client processes register keys through the same I_T nexus' -r -f -a "warn\t'Log a warning, once for each client, and count it in the metrics'
refuse\t'Log a warning and answer RESERVATION CONFLICT'
ignore\t'Do not look'"
complete -c pr-helper -l metrics-socket -d 'Serve metrics on this Unix socket (mode 0600)' -r -F
complete -c pr-helper -l log-format -d 'Format of log lines' -r -f -a "auto\t'`journal` if standard error is the journal, else `plain`'
plain\t'`pr-helper: warning: TEXT`'
journal\t'`<4>TEXT`, with the priorities of sd-daemon(3)'"
complete -c pr-helper -l emulate -d 'Emulate disks: serve regular files, with persistent reservations in software' -r -F
complete -c pr-helper -l initiator -d 'With --emulate: also listen on PATH, as the initiator NAME; may be repeated' -r
complete -c pr-helper -l seccomp -d 'What happens when the daemon, once it has started, makes a system call that it does not need' -r -f -a "kill\t'The process ends, with the call\'s number in the log'
log\t'The call is made, and the kernel logs it'
off\t'System calls are not restricted'"
complete -c pr-helper -s d -l daemon -d 'Run in the background; implies a pidfile'
complete -c pr-helper -s v -l verbose -d 'Log more: once for each refused or failed command, twice for everything'
complete -c pr-helper -s q -l quiet -d 'Log errors only'
complete -c pr-helper -l keep-sys-admin -d 'Keep `CAP_SYS_ADMIN`, too: for NVMe controllers that do not list the reservation commands in their effects log, and for Linux before 6.2'
complete -c pr-helper -l unprivileged -d 'Start without `CAP_SYS_RAWIO`, the privilege to send reservation commands: for tests, and for devices that need none'
complete -c pr-helper -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pr-helper -s V -l version -d 'Print version'
