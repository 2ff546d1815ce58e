//! What the library does: facts from its sources, 0.9.4 (Debian 12), 0.11.1 (Debian 13), 0.12.2, 0.13.1 and 0.15.0, and from
//! running the functions that send commands of 0.9.4, 0.11.1 and 0.15.1 (Debian 14). There is no code here.
//!
//! A *usable* path is one that the path checker calls up or ghost. The *configured key* is `reservation_key` of
//! `/etc/multipath.conf`; with the value `file` it is what is in `/etc/multipath/prkeys` for the map, and REGISTER changes
//! it. Until 0.9 it is looked for in the section `defaults` only.
//!
//! # What happens in a call
//!
//! 1. All maps are listed; the map is found by the descriptor's device number, for which the descriptor is `fstat`ed and no
//!    more: it is not duplicated, not closed, not used for a command. The map must have exactly one target, `multipath`,
//!    and a UUID that begins with `mpath-`.
//! 2. The path checker runs on each path, one after the other.
//! 3. The keys are compared with the configured key (OUT; before 2 since 0.13). With `file`, a REGISTER (until 0.12 only of
//!    a key other than zero) first has multipathd store the new key.
//! 4. The command goes by `SG_IO` to the paths' own device nodes, opened read-only. REGISTER, REGISTER AND IGNORE EXISTING
//!    KEY and RELEASE go to all usable paths at once, from one thread for each (with ALL_TG_PT, REGISTER goes to one path of
//!    each SCSI host). All others go to one path; since 0.12 to the next, if that one failed.
//! 5. multipathd is told whether the map is registered (and, since 0.13, whether it holds the reservation). Whether it
//!    heard that has no influence on the result.
//!
//! multipathd sends no command on behalf of a call. It registers the key on paths that appear or come back.
//!
//! The parameter list is sent as given: keys byte for byte, flags, TransportIDs in the caller's order, obsolete bytes zero.
//! But a REGISTER AND IGNORE EXISTING KEY has the current key for the RESERVATION KEY that the device ignores (0.13), and
//! a REGISTER that met conflicts on some paths only is repeated there as REGISTER AND IGNORE EXISTING KEY (0.13) or undone
//! on the others (until 0.12). Where the map holds the reservation, a REGISTER of key zero is preceded by a RELEASE (0.13).
//!
//! # Codes
//!
//! | code | [`Failure`](crate::Failure) | returned by OUT when |
//! |---|---|---|
//! | -1 | `Skip` | `SG_IO` failed with an errno on a path; until 0.12, later `Other` |
//! | 1 | `SyntaxError` | 0.9.4: neither RESERVATION KEY nor SERVICE ACTION RESERVATION KEY is the configured key (zero, if none is), unless it is a REGISTER AND IGNORE EXISTING KEY of key zero. 0.11, 0.12: that, or no key is configured. From 0.13: the key to register is not the configured key, or none is (never when unregistering); any other service action: RESERVATION KEY is not the configured key, or none is. IN: a service action without a name |
//! | 2 | `SenseNotReady` | sense key 2h (04/07 six times); until 0.11, later `Other` |
//! | 3, 4, 8, 9 | `SenseMediumError`, `SenseHardwareError`, `SenseAbortedCommand`, `NoSense` | sense key 3h, 4h, Bh, 0h |
//! | 5 | `IllegalRequest` | sense key 5h |
//! | 6 | `SenseUnitAttention` | sense key 6h, six times on one path |
//! | 7, 10 | `SenseInvalidOperation`, `SenseMalformed` | never |
//! | 11 | `ReservationConflict` | a path answered RESERVATION CONFLICT (for RESERVE since 0.13: all that answered) |
//! | 12 | `FileError` | the descriptor is not of a block device; until 0.11, a path cannot be opened |
//! | 13 | `MapError` | device-mapper failed; not a multipath map; no usable path; with `file`, multipathd cannot be reached, did not answer in time or refused the key |
//! | 14 | `ThreadError` | a thread cannot be started |
//! | 15 | `Other` | another service action; BUSY, TASK SET FULL and all other status; a host or driver status (a timeout, no connection); other sense keys; since 0.12, no path could execute it; RELEASE: the READ RESERVATION behind it failed; since 0.13, the map cannot be suspended or resumed |
//! | 16 | `RetryableError` | RELEASE, and PREEMPT of the own reservation, since 0.13: NOT READY, a host status, or a path that cannot be opened |
//! | 17 | `SuccessUnregister` | never |
//!
//! IN is tried on one usable path after the other until one succeeds (since 0.13 also until one answers ILLEGAL REQUEST);
//! the code is that of the last.
//!
//! **No code for multipathd that does not run**: with a key that stands in multipath.conf everything succeeds without it,
//! and paths that appear later are not registered. Ask [`multipathd_is_running`](crate::Library::multipathd_is_running).
//!
//! **No code at all**: where `/dev/mapper/control` cannot be opened, or the kernel's multipath target is not loaded, the
//! first call ends the process by `exit(1)`.
//!
//! Sense data are taken for fixed format. Of data in descriptor format (72h) ASC is read in place of the sense key: mostly
//! that is `Other`, but ASC 01h is success. Of the status, bits 7 and 0 are ignored: 80h is GOOD.
//!
//! # RELEASE
//!
//! The paths' answers have no influence on the result until 0.12: the reservation is read afterwards, and if there is none,
//! or (in 0.10.4, 0.11.2, 0.12) it is another's, that is success. If there still is one, a path that is gone is taken to hold
//! it: until 0.12 **all registrations are cleared** and made again one by one with SPEC_I_PT, with what READ FULL STATUS said.
//! In 0.9.4 and 0.11.1 this is done also **for the reservation of another host**, which is gone then (and its registration
//! too, where the device does not take the TransportID: seen with 0.11.1 and LIO), and that is success. From 0.13 the map
//! is suspended, the reservation preempted to a usable path and released there, if multipathd knows the map as its holder
//! and the key and type agree.
//!
//! Therefore this crate reads the reservation before and refuses a RELEASE of a reservation that is not held by that key
//! in that scope and type. It cannot help with a reservation that changes hands in between.
//!
//! # SPEC_I_PT
//!
//! In all versions the threads of a REGISTER share one parameter list, and before the second of them is started SPEC_I_PT is
//! taken out of it, which is meant to be after the first has sent it. Nothing waits for that. Of 40 REGISTERs on two paths
//! to LIO, 25 with 0.11.1 and 39 with 0.15.1 sent no TransportID and **succeeded**; 10 and 1 sent the whole list; 5 and none
//! sent a list that is too long for its flags, which the device refused, when the other path was registered already and
//! stayed so. Only with one usable path (or one SCSI host and ALL_TG_PT) are TransportIDs sent for certain. A caller that
//! must know reads the full status afterwards, or refuses SPEC_I_PT.
//!
//! # Suspended maps
//!
//! Since 0.13, the map is **suspended** while its own reservation moves: in PREEMPT and PREEMPT AND ABORT, if SERVICE
//! ACTION RESERVATION KEY is the map's own (from 0.15 only if it holds the reservation), or is zero and all registrants
//! hold the reservation; in RELEASE, and in REGISTER of key zero, if the path that holds it is gone. A process that is killed
//! (or crashes) then leaves the map suspended, and all its input and output waits until `dmsetup resume`. Until 0.12 a
//! PREEMPT of the own key leaves the other paths unregistered.
//!
//! # READ FULL STATUS
//!
//! Each descriptor is decoded to 270 bytes in a buffer of 8192, of which 30 fit. A device can send 170 (of 48 bytes) or 341
//! (without a TransportID).
//!
//! In 0.10.8, 0.11.6, 0.12.4, 0.13.3, 0.14.5, 0.15.1 and later (the mending of GHSA-hj7j-qr9h-5fv6) the first 30 are decoded,
//! and **nothing in the answer tells that there are more**. In all others, 0.9.4 and 0.11.1 of Debian 12 and 13 among them,
//! all are: from the 31st on over the pointers to them (of 31 registrations 23 cannot be found), from the 32nd on behind
//! the memory that the header tells to allocate; and a device whose ADDITIONAL DESCRIPTOR LENGTH is near 2^32 has the library
//! write without an end. In all versions, where ADDITIONAL LENGTH is above 8192, it is returned as the number of
//! descriptors, of which none is decoded.
//!
//! This crate does not call it. It cannot help where the library reads the full status for itself, in RELEASE until 0.12
//! (see above): there 32 registrations destroy the process's heap, unless mended.
//!
//! # Time
//!
//! Nothing bounds a call as a whole.
//!
//! | what | how long |
//! |---|---|
//! | the path checker `tur`, for each path, one after the other | `checker_timeout`, else the device's `timeout` in sysfs, else 30 s; 5 tries while the host adapter reports errors: 150 s for a path that hangs, and the kernel's error recovery |
//! | a reservation command on a path | 2 s asked for, 7 s granted (the kernel's least on block devices), and error recovery; 6 tries for UNIT ATTENTION and NOT READY 04/07 |
//! | the lock of `/etc/multipath/prkeys` (with `file`) | 30 s |
//! | connecting to multipathd, for each message | without limit, while its queue is full |
//! | its reply | 4 s in 0.9.4; later `uxsock_timeout`, 4 s or more |
//!
//! An OUT exchanges up to two messages with multipathd, from 0.13 up to six. The commands of REGISTER and RELEASE run on all
//! paths at the same time, all others on one path after the other.
//!
//! # What it needs, and what it does to the process
//!
//! - root, or else: `CAP_SYS_ADMIN` for device-mapper, `CAP_SYS_RAWIO` for the commands, permission to open the paths; and
//!   to multipathd, user 0: to others it only shows things.
//! - Files: `/etc/multipath.conf` and `/etc/multipath/conf.d` (when opened, never again), with `file`
//!   `/etc/multipath/prkeys` (each time; written to and made, if it is not there and `/etc` can be), `/dev/mapper/control`
//!   (stays open), `/sys`, `/run/udev`, the path checkers in `/usr/lib/multipath`, `/dev/sdX`.
//! - multipathd's socket: abstract, `/org/kernel/linux/storage/multipathd`, which does not leave its network namespace; from
//!   0.12 on `/run/multipathd.socket` first, and `MULTIPATH_SOCKET_NAME` in place of both. Library and multipathd should
//!   be of the same version: messages differ (0.13).
//! - It raises the limit of open files, once.
//! - Threads live only within an OUT (until 0.12 any, from 0.13 REGISTER and RELEASE).
//! - With `file` it sets a handler for SIGALRM and an alarm, and puts back the handler, but no alarm that was set before.
//! - It writes to standard error.
