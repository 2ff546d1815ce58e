//! The behaviour of libmpathpersist. There is no code here. The facts come from the sources of 0.9.4 (Debian 12),
//! 0.11.1 (Debian 13), 0.12.2, 0.13.1 and 0.15.0, and from running the functions of 0.9.4, 0.11.1 and 0.15.1 (Debian
//! 14) that send commands.
//!
//! A path is *usable* if the path checker reports it as up or ghost. The *configured key* is `reservation_key` of
//! `/etc/multipath.conf`; with the value `file` it is the map's key in `/etc/multipath/prkeys`, which REGISTER changes.
//! Until 0.9 the library looks for it in the section `defaults` only.
//!
//! # Steps of a call
//!
//! 1. The library lists all maps and finds the map by the device number of the descriptor. It only calls `fstat` on the
//!    descriptor: it does not duplicate it, close it or send commands to it. The map must have exactly one target,
//!    `multipath`, and a UUID that begins with `mpath-`.
//! 2. The path checker runs on each path, one after the other.
//! 3. The keys are compared with the configured key (only OUT; since 0.13 before step 2). With `file`, a REGISTER
//!    (until 0.12 only of a key other than zero) first has multipathd store the new key.
//! 4. The command is sent by `SG_IO` to the paths' own device nodes, opened read-only. REGISTER, REGISTER AND IGNORE
//!    EXISTING KEY and RELEASE are sent to all usable paths at once, with one thread for each path (with ALL_TG_PT,
//!    REGISTER is sent to one path of each SCSI host). All other commands are sent to one path; since 0.12 to the next
//!    one if that path failed.
//! 5. The library tells multipathd whether the map is registered (and, since 0.13, whether it holds the reservation). A
//!    failure of this step does not affect the result.
//!
//! multipathd sends no command on behalf of a call. It registers the key on paths that appear or come back.
//!
//! The parameter list is sent as given: keys unchanged, flags, TransportIDs in the caller's order, obsolete bytes zero.
//! There are exceptions. In a REGISTER AND IGNORE EXISTING KEY, RESERVATION KEY, which the device ignores, is the
//! current key (0.13). A REGISTER that met conflicts on some paths only is repeated there as REGISTER AND IGNORE
//! EXISTING KEY (0.13), or undone on the other paths (until 0.12). If the map holds the reservation, a REGISTER of key
//! zero is preceded by a RELEASE (0.13).
//!
//! # Codes
//!
//! | code | [`Failure`](crate::Failure) | returned by OUT when |
//! |---|---|---|
//! | -1 | `Skip` | `SG_IO` failed with an errno on a path; until 0.12, later `Other` |
//! | 1 | `SyntaxError` | 0.9.4: neither RESERVATION KEY nor SERVICE ACTION RESERVATION KEY is the configured key (zero, if none is configured), unless it is a REGISTER AND IGNORE EXISTING KEY of key zero. 0.11, 0.12: the same condition, or no key is configured. From 0.13: the key to register is not the configured key, or no key is configured (never when unregistering); any other service action: RESERVATION KEY is not the configured key, or no key is configured. IN: a service action without a name |
//! | 2 | `SenseNotReady` | sense key 2h (04/07 six times); until 0.11, later `Other` |
//! | 3, 4, 8, 9 | `SenseMediumError`, `SenseHardwareError`, `SenseAbortedCommand`, `NoSense` | sense key 3h, 4h, Bh, 0h |
//! | 5 | `IllegalRequest` | sense key 5h |
//! | 6 | `SenseUnitAttention` | sense key 6h, six times on one path |
//! | 7, 10 | `SenseInvalidOperation`, `SenseMalformed` | never |
//! | 11 | `ReservationConflict` | a path answered RESERVATION CONFLICT (for RESERVE since 0.13: all paths that answered) |
//! | 12 | `FileError` | the descriptor is not of a block device; until 0.11, a path cannot be opened |
//! | 13 | `MapError` | device-mapper failed; not a multipath map; no usable path; with `file`, multipathd cannot be reached, did not answer in time or refused the key |
//! | 14 | `ThreadError` | a thread cannot be started |
//! | 15 | `Other` | another service action; BUSY, TASK SET FULL and all other statuses; a host or driver status (a timeout, no connection); other sense keys; since 0.12, no path could execute the command; RELEASE: the READ RESERVATION after it failed; since 0.13, the map cannot be suspended or resumed |
//! | 16 | `RetryableError` | RELEASE, and PREEMPT of the map's own reservation, since 0.13: NOT READY, a host status, or a path that cannot be opened |
//! | 17 | `SuccessUnregister` | never |
//!
//! IN is tried on one usable path after the other until one succeeds (since 0.13 also until one answers ILLEGAL
//! REQUEST); the code is that of the last path tried.
//!
//! **No code reports that multipathd is not running**: with a key in multipath.conf, every command succeeds without it,
//! but paths that appear later are not registered. Check with
//! [`multipathd_is_running`](crate::Library::multipathd_is_running).
//!
//! **No code is returned at all** if `/dev/mapper/control` cannot be opened, or the kernel's multipath target is not
//! loaded: the first call ends the process by `exit(1)`.
//!
//! The library reads sense data as fixed format. In descriptor format (72h) it reads the ASC as the sense key: the code
//! is mostly `Other`, but ASC 01h is success. It ignores bits 7 and 0 of the status: 80h is GOOD.
//!
//! # RELEASE
//!
//! Until 0.12 the paths' answers do not affect the result. The library reads the reservation afterwards: it reports
//! success if there is none, or (in 0.10.4, 0.11.2, 0.12) if another host holds it. If there still is a reservation,
//! the library assumes that a lost path holds it. Until 0.12 it then **clears all registrations** and registers them
//! again one by one with SPEC_I_PT, from the data of READ FULL STATUS. 0.9.4 and 0.11.1 do so **even for the
//! reservation of another host**, and report success: that reservation is then lost (and the host's registration too,
//! if the device refuses the TransportID: seen with 0.11.1 and LIO). From 0.13 the map is suspended, and the
//! reservation is preempted to a usable path and released there, if multipathd has the map recorded as the holder and
//! the key and type agree.
//!
//! Therefore this crate reads the reservation first, and refuses a RELEASE of a reservation that this key does not hold
//! with this scope and type. It cannot prevent the effect if the reservation changes hands between the two commands.
//!
//! # SPEC_I_PT
//!
//! In all versions the threads of a REGISTER share one parameter list. Before the library starts the second thread, it
//! clears SPEC_I_PT in that list, on the assumption that the first thread has sent it. Nothing synchronises the two. Of
//! 40 REGISTERs on two paths to LIO, 25 with 0.11.1 and 39 with 0.15.1 sent no TransportID and **succeeded**; 10 and 1
//! sent the whole list; 5 and none sent a list that is too long for its flags, which the device refused after the other
//! path had been registered, and that registration remained. TransportIDs are certain to be sent only with one usable
//! path (or one SCSI host and ALL_TG_PT). A caller that must be certain has to read the full status afterwards, or
//! refuse SPEC_I_PT.
//!
//! # Suspended maps
//!
//! Since 0.13, the map is **suspended** while its own reservation moves: in PREEMPT and PREEMPT AND ABORT, if SERVICE
//! ACTION RESERVATION KEY is the map's own key (from 0.15 only if the map holds the reservation), or is zero and all
//! registrants hold the reservation; in RELEASE, and in REGISTER of key zero, if the path that holds the reservation is
//! lost. If the process is killed or crashes meanwhile, the map stays suspended, and all its input and output waits
//! until `dmsetup resume`. A PREEMPT of the map's own key leaves the
//! other paths unregistered: until 0.12 always, since then if the reservation is one of all registrants (seen with 0.15.1).
//!
//! # READ FULL STATUS
//!
//! Each descriptor is decoded to 270 bytes in a buffer of 8192 bytes, which holds 30. A device can send 170 descriptors
//! (of 48 bytes) or 341 (without a TransportID).
//!
//! 0.10.8, 0.11.6, 0.12.4, 0.13.3, 0.14.5, 0.15.1 and later (with the fix of GHSA-hj7j-qr9h-5fv6) decode the first 30,
//! and **nothing in the answer indicates that there are more**. All other versions, including 0.9.4 and 0.11.1 of Debian
//! 12 and 13, decode all of them: the 31st and later ones overwrite the pointers to the descriptors (of 31 registrations
//! 23 cannot be found), and the 32nd and later ones the memory beyond the size that the header specifies for the
//! allocation. If a device's ADDITIONAL DESCRIPTOR LENGTH is near 2^32, these versions write without limit. In all
//! versions, an ADDITIONAL LENGTH above 8192 is returned as the number of descriptors, and no descriptor is decoded.
//!
//! This crate never calls the library's READ FULL STATUS. It cannot prevent the library from reading the full status
//! itself, in RELEASE until 0.12 (see above): in versions without the fix, 32 registrations corrupt the heap of the
//! process.
//!
//! # Time
//!
//! The duration of a call as a whole is not limited.
//!
//! | step | duration |
//! |---|---|
//! | the path checker `tur`, for each path, one after the other | `checker_timeout`, else the device's `timeout` in sysfs, else 30 s; 5 tries while the host adapter reports errors: 150 s for a path that hangs, and the kernel's error recovery |
//! | a reservation command on a path | 2 s requested, raised to 7 s (the kernel's minimum on block devices), and error recovery; 6 tries for UNIT ATTENTION and NOT READY 04/07 |
//! | the lock of `/etc/multipath/prkeys` (with `file`) | 30 s |
//! | connecting to multipathd, for each message | without limit, while its queue is full |
//! | the reply of multipathd | 4 s in 0.9.4; later `uxsock_timeout`, 4 s or more |
//!
//! An OUT exchanges up to two messages with multipathd, from 0.13 up to six. The commands of REGISTER and RELEASE run
//! on all paths concurrently, all others on one path after the other.
//!
//! # Requirements and effects on the process
//!
//! - root; otherwise `CAP_SYS_ADMIN` for device-mapper, `CAP_SYS_RAWIO` for the commands, permission to open the paths,
//!   and user 0 for multipathd, which answers only `show` commands to other users.
//! - Files: `/etc/multipath.conf` and `/etc/multipath/conf.d` (read only when the library is opened); with `file`,
//!   `/etc/multipath/prkeys` (each time; it is written, and created if it does not exist and `/etc` is writable);
//!   `/dev/mapper/control` (stays open), `/sys`, `/run/udev`, the path checkers in `/usr/lib/multipath`, `/dev/sdX`.
//! - multipathd's socket: the abstract socket `/org/kernel/linux/storage/multipathd`, which is visible only in its
//!   network namespace; from 0.12 on `/run/multipathd.socket` first; `MULTIPATH_SOCKET_NAME` replaces both. Library and
//!   multipathd should have the same version: their messages differ (0.13).
//! - It raises the limit of open files, once.
//! - It has threads only during an OUT (until 0.12 any OUT, from 0.13 REGISTER and RELEASE).
//! - With `file` it sets a handler for SIGALRM and an alarm. It restores the handler, but not an earlier alarm.
//! - It writes to standard error.
