# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pr_ctl_global_optspecs
    string join \n k/socket= json timeout= h/help V/version
end

function __fish_pr_ctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pr_ctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pr_ctl_using_subcommand
    set -l cmd (__fish_pr_ctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -s V -l version -d 'Print version'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "keys" -d 'Show the keys of all registrations (READ KEYS)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "reservation" -d 'Show the reservation (READ RESERVATION)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "capabilities" -d 'Show what the device can do (REPORT CAPABILITIES)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "status" -d 'Show each registration with its initiator and target port (READ FULL STATUS)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "register" -d 'Register, change the key, or with a new key of 0 unregister'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "register-ignore" -d 'Register without checking the existing key (REGISTER AND IGNORE EXISTING KEY)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "register-move" -d 'Register another initiator and move the reservation to it (REGISTER AND MOVE)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "reserve" -d 'Reserve the device'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "release" -d 'Release the reservation'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "clear" -d 'Remove the reservation and the registrations of all initiators'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "preempt" -d 'Remove another initiator\'s registration and take over its reservation: this fences it'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "preempt-abort" -d 'Preempt, and abort the other initiator\'s commands (PREEMPT AND ABORT)'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "raw" -d 'Send a CDB unchanged and show the answer unchanged'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "watch" -d 'Print registrations and reservation, and then each change, until interrupted'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "probe" -d 'Check whether the helper works with a device; if not, say why and what to do'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "doctor" -d 'Check whether this node and its disks are ready for a cluster'
complete -c pr-ctl -n "__fish_pr_ctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand keys" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand keys" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand keys" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand keys" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reservation" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reservation" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reservation" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reservation" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand capabilities" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand capabilities" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand capabilities" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand capabilities" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand status" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand status" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand status" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l key -d 'The key that this initiator has registered, 0 if it has none' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l new-key -d 'The key to register, 0 to unregister' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l transport-id -d 'Register this initiator as well; may be repeated (SPEC_I_PT)' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l aptpl -d 'Keep registrations and reservation through a power loss'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l all-target-ports -d 'Register with all target ports of the device'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -l new-key -d 'The key to register, 0 to unregister' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -l aptpl -d 'Keep registrations and reservation through a power loss'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -l all-target-ports -d 'Register with all target ports of the device'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-ignore" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l new-key -d 'The key to register for the other initiator' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l transport-id -d 'The other initiator' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l relative-target-port -d 'The relative target port through which the other initiator reaches the device' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l unregister -d 'Unregister this initiator after the move'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l aptpl -d 'Keep registrations and reservation through a power loss'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand register-move" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -l type -d 'The type of the reservation, by number or name' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand reserve" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -l type -d 'The type of the reservation, by number or name' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand release" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand clear" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand clear" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand clear" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand clear" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand clear" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -l victim -l new-key -d 'The key of the initiators to fence' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -l type -d 'The type of the new reservation, by number or name' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -l key -d 'The key that this initiator has registered' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -l victim -l new-key -d 'The key of the initiators to fence' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -l type -d 'The type of the new reservation, by number or name' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand preempt-abort" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -l in -d 'Size of the buffer for data, in bytes [default: the allocation length in the CDB]' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -l out -d 'Send this parameter list, in hexadecimal' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand raw" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand watch" -l interval -d 'Time between two polls' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand watch" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand watch" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand watch" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand probe" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand probe" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand probe" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand probe" -s h -l help -d 'Print help'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand doctor" -s k -l socket -d 'The helper\'s socket' -r -F
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand doctor" -l timeout -d 'Time limit for a command, including the connection to the helper' -r
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand doctor" -l write -d 'Register a random key with each disk, read it, and unregister it'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand doctor" -l json -d 'Print JSON: one object, also for an error; with `watch`, one line for each change'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "keys" -d 'Show the keys of all registrations (READ KEYS)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "reservation" -d 'Show the reservation (READ RESERVATION)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "capabilities" -d 'Show what the device can do (REPORT CAPABILITIES)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "status" -d 'Show each registration with its initiator and target port (READ FULL STATUS)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "register" -d 'Register, change the key, or with a new key of 0 unregister'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "register-ignore" -d 'Register without checking the existing key (REGISTER AND IGNORE EXISTING KEY)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "register-move" -d 'Register another initiator and move the reservation to it (REGISTER AND MOVE)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "reserve" -d 'Reserve the device'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "release" -d 'Release the reservation'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "clear" -d 'Remove the reservation and the registrations of all initiators'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "preempt" -d 'Remove another initiator\'s registration and take over its reservation: this fences it'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "preempt-abort" -d 'Preempt, and abort the other initiator\'s commands (PREEMPT AND ABORT)'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "raw" -d 'Send a CDB unchanged and show the answer unchanged'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "watch" -d 'Print registrations and reservation, and then each change, until interrupted'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "probe" -d 'Check whether the helper works with a device; if not, say why and what to do'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "doctor" -d 'Check whether this node and its disks are ready for a cluster'
complete -c pr-ctl -n "__fish_pr_ctl_using_subcommand help; and not __fish_seen_subcommand_from keys reservation capabilities status register register-ignore register-move reserve release clear preempt preempt-abort raw watch probe doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
