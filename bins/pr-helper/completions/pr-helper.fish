complete -c pr-helper -s f -l pidfile -d 'Write the process ID to PATH, locked while the helper runs [default with -d: /var/run/qemu-pr-helper.pid]' -r -F
complete -c pr-helper -s k -l socket -d 'Listen on this socket, unless activated by systemd [default: /var/run/qemu-pr-helper.sock]' -r -F
complete -c pr-helper -s T -l trace -d 'Trace commands: events that match PATTERN (or are listed in events=FILE), to standard error or to file=FILE' -r
complete -c pr-helper -s u -l user -d 'Run as this user (name or number) once the sockets are there' -r
complete -c pr-helper -s g -l group -d 'Run as this group (name or number) once the sockets are there' -r
complete -c pr-helper -l socket-mode -d 'Permissions of the socket, in octal [default: 0777 less the umask]' -r
complete -c pr-helper -l socket-owner -d 'Owner of the socket, name or number' -r
complete -c pr-helper -l socket-group -d 'Group of the socket, name or number' -r
complete -c pr-helper -l timeout -d 'How long a device may take for a command before the kernel aborts it' -r
complete -c pr-helper -l stop-grace -d 'How long commands in flight may take to end after SIGTERM' -r
complete -c pr-helper -l max-clients -d 'How many clients can be connected at once; of one process, a quarter of these, but 64 in any case' -r
complete -c pr-helper -l slow -d 'Warn of a command that a device has not answered for so long' -r
complete -c pr-helper -l metrics-socket -d 'Serve metrics on this Unix socket, which only its owner may connect to' -r -F
complete -c pr-helper -l log-format -d 'How log lines look' -r -f -a "auto\t'For the journal if standard error leads there, else plain'
plain\t'`pr-helper: warning: TEXT`'
journal\t'`<4>TEXT`, the priority as sd-daemon(3) has it'"
complete -c pr-helper -l emulate -d 'Keep persistent reservations of regular files, too, in software' -r -F
complete -c pr-helper -l initiator -d 'With --emulate: listen also on PATH, for clients that are the initiator NAME; may be repeated' -r
complete -c pr-helper -s d -l daemon -d 'Run in the background; implies a pidfile'
complete -c pr-helper -s v -l verbose -d 'Say more: once for each refused or failed command, twice for everything'
complete -c pr-helper -s q -l quiet -d 'Say nothing but errors'
complete -c pr-helper -l unprivileged -d 'Start without `CAP_SYS_RAWIO`, the privilege to send reservations: for tests, and for devices that need none'
complete -c pr-helper -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pr-helper -s V -l version -d 'Print version'
