//! The command line.
//!
//! `cargo xtask man` includes this file to generate the man page and the completions, so it uses no other module of the
//! program.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand};
use scsi_sense::pr::{
    IscsiName, IscsiSessionId, ReservationKey, ReservationType, TransportId, TransportIdBuf,
};

/// The helper's socket unless `--socket` names another: QEMU's default.
pub(crate) const DEFAULT_SOCKET: &str = "/var/run/qemu-pr-helper.sock";

const AFTER_HELP: &str = "\
Keys are hexadecimal with 0x in front (0x1a) and decimal without (26).

Types, by number or name:
  1  write-exclusive                    we    only the holder may write
  3  exclusive-access                   ea    only the holder may read and write
  5  write-exclusive-registrants-only   wero  only registrants may write
  6  exclusive-access-registrants-only  earo  only registrants may read and write
  7  write-exclusive-all-registrants    wear  like 5, and every registrant is a holder
  8  exclusive-access-all-registrants   eaar  like 6, and every registrant is a holder

TransportIDs: sas,HEX16  fcp,HEX16  sbp,HEX16  srp,HEX32  spi,ADDRESS,PORT  sop,HEX
  iqn.NAME  iqn.NAME,i,0xISID  (eui. and naa. likewise)  or all bytes: hex:06000000...

Exit status, as of sg_persist:
   0  done                              24  RESERVATION CONFLICT
   1  wrong arguments                   25  CONDITION MET
   2  NOT READY                         26  BUSY
   3  MEDIUM ERROR, HARDWARE ERROR      27  TASK SET FULL
   5  ILLEGAL REQUEST                   28  ACA ACTIVE
   6  UNIT ATTENTION                    29  TASK ABORTED
   7  DATA PROTECT                      33  no answer in time: the command may have run
   9  INVALID COMMAND OPERATION CODE    35  the helper cannot be reached: nothing was sent
  10  COPY ABORTED                      97  the device's answer is malformed
  11  ABORTED COMMAND                   98  another CHECK CONDITION
  14  MISCOMPARE                        99  another status; or the helper was lost or the
  15  the device cannot be opened           output failed: the command may have run
  20  NO SENSE    21  RECOVERED ERROR   36  not ready, though no command failed (doctor)";

/// Shows and changes the persistent reservations of a SCSI disk through a privileged helper.
///
/// The helper (pr-helper or qemu-pr-helper) runs the commands. This program needs no privilege, only permission to
/// connect to the helper and to open the device: for reading, or for writing to change something.
#[derive(Debug, Parser)]
#[command(name = "pr-ctl", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The helper's socket
    #[arg(short = 'k', long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// Print JSON: one object, also for an error; with `watch`, one line for each change
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Time limit for a command, including the connection to the helper
    #[arg(long, global = true, value_name = "SECONDS", default_value = "240", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the keys of all registrations (READ KEYS)
    Keys(Device),
    /// Show the reservation (READ RESERVATION)
    Reservation(Device),
    /// Show what the device can do (REPORT CAPABILITIES)
    Capabilities(Device),
    /// Show each registration with its initiator and target port (READ FULL STATUS)
    Status(Device),
    /// Register, change the key, or with a new key of 0 unregister
    Register(Register),
    /// Register without checking the existing key (REGISTER AND IGNORE EXISTING KEY)
    RegisterIgnore(RegisterIgnore),
    /// Register another initiator and move the reservation to it (REGISTER AND MOVE)
    RegisterMove(Box<RegisterMove>),
    /// Reserve the device
    Reserve(Typed),
    /// Release the reservation
    Release(Typed),
    /// Remove the reservation and the registrations of all initiators
    Clear(Clear),
    /// Remove another initiator's registration and take over its reservation: this fences it
    Preempt(Preempt),
    /// Preempt, and abort the other initiator's commands (PREEMPT AND ABORT)
    PreemptAbort(Preempt),
    /// Send a CDB unchanged and show the answer unchanged
    Raw(Raw),
    /// Print registrations and reservation, and then each change, until interrupted
    ///
    /// Each poll sends two commands. A device reports a unit attention, such as "registrations preempted", only once:
    /// if `watch` receives it, `watch` prints it and no other program receives it.
    Watch(Watch),
    /// Check whether the helper works with a device; if not, say why and what to do
    Probe(Probe),
    /// Check whether this node and its disks are ready for a cluster
    ///
    /// Checks the node, the helper, multipathd, and each disk as `probe` does, and compares what the disks can do with
    /// what cluster software needs. Prints READY or NOT READY; only a check that failed makes it NOT READY, not a
    /// warning and not a check that could not be made. Run it as root: some checks are closed to other users.
    Doctor(Doctor),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Device {
    /// The disk
    pub(crate) device: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Register {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key that this initiator has registered, 0 if it has none
    #[arg(long, default_value = "0", value_parser = parse_key)]
    pub(crate) key: ReservationKey,

    /// The key to register, 0 to unregister
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) new_key: ReservationKey,

    #[command(flatten)]
    pub(crate) flags: RegisterFlags,

    /// Register this initiator as well; may be repeated (SPEC_I_PT)
    #[arg(long = "transport-id", value_name = "ID", value_parser = parse_transport_id)]
    pub(crate) transport_ids: Vec<TransportIdBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RegisterIgnore {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key to register, 0 to unregister
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) new_key: ReservationKey,

    #[command(flatten)]
    pub(crate) flags: RegisterFlags,
}

#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct RegisterFlags {
    /// Keep registrations and reservation through a power loss
    #[arg(long)]
    pub(crate) aptpl: bool,

    /// Register with all target ports of the device
    #[arg(long)]
    pub(crate) all_target_ports: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RegisterMove {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key that this initiator has registered
    #[arg(long, value_parser = parse_key)]
    pub(crate) key: ReservationKey,

    /// The key to register for the other initiator
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub(crate) new_key: ReservationKey,

    /// The other initiator
    #[arg(long, value_name = "ID", value_parser = parse_transport_id)]
    pub(crate) transport_id: TransportIdBuf,

    /// The relative target port through which the other initiator reaches the device
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) relative_target_port: u16,

    /// Unregister this initiator after the move
    #[arg(long)]
    pub(crate) unregister: bool,

    /// Keep registrations and reservation through a power loss
    #[arg(long)]
    pub(crate) aptpl: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Typed {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key that this initiator has registered
    #[arg(long, value_parser = parse_key)]
    pub(crate) key: ReservationKey,

    /// The type of the reservation, by number or name
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    pub(crate) kind: ReservationType,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Clear {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key that this initiator has registered
    #[arg(long, value_parser = parse_key)]
    pub(crate) key: ReservationKey,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Preempt {
    /// The disk
    pub(crate) device: PathBuf,

    /// The key that this initiator has registered
    #[arg(long, value_parser = parse_key)]
    pub(crate) key: ReservationKey,

    /// The key of the initiators to fence
    #[arg(long, visible_alias = "new-key", value_name = "KEY", value_parser = parse_key)]
    pub(crate) victim: ReservationKey,

    /// The type of the new reservation, by number or name
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    pub(crate) kind: ReservationType,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Raw {
    /// The disk
    pub(crate) device: PathBuf,

    /// The CDB in hexadecimal, ten bytes, in one word or several
    #[arg(required = true, value_name = "CDB")]
    pub(crate) cdb: Vec<String>,

    /// Size of the buffer for data, in bytes [default: the allocation length in the CDB]
    #[arg(long = "in", value_name = "LENGTH", conflicts_with = "output")]
    pub(crate) input: Option<u16>,

    /// Send this parameter list, in hexadecimal
    #[arg(long = "out", value_name = "HEX", value_parser = parse_hex)]
    pub(crate) output: Option<Bytes>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    /// The disk
    pub(crate) device: PathBuf,

    /// Time between two polls
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub(crate) interval: Duration,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Probe {
    /// The disk; without it, only the helper is checked
    pub(crate) device: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// The disks; without any, only the node and the helper are checked
    pub(crate) devices: Vec<PathBuf>,

    /// Register a random key with each disk, read it, and unregister it
    ///
    /// Fails if this host is registered with the disk already; that registration is left as it is.
    #[arg(long, requires = "devices")]
    pub(crate) write: bool,
}

/// Bytes given in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn parse_key(text: &str) -> Result<ReservationKey, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    if !is_number
        && radix == 10
        && !digits.is_empty()
        && digits.chars().all(|digit| digit.is_ascii_hexdigit())
    {
        return Err(format!("a hexadecimal key begins with 0x: 0x{text}"));
    }
    match u64::from_str_radix(digits, radix) {
        Ok(key) if is_number => Ok(ReservationKey(key)),
        _ => Err("must be a number of at most 64 bits, 0x1a or 26".into()),
    }
}

/// The reservation types with their long and short names.
const TYPES: [(ReservationType, &str, &str); 6] = [
    (ReservationType::WriteExclusive, "write-exclusive", "we"),
    (ReservationType::ExclusiveAccess, "exclusive-access", "ea"),
    (ReservationType::WriteExclusiveRegistrantsOnly, "write-exclusive-registrants-only", "wero"),
    (ReservationType::ExclusiveAccessRegistrantsOnly, "exclusive-access-registrants-only", "earo"),
    (ReservationType::WriteExclusiveAllRegistrants, "write-exclusive-all-registrants", "wear"),
    (ReservationType::ExclusiveAccessAllRegistrants, "exclusive-access-all-registrants", "eaar"),
];

fn parse_type(text: &str) -> Result<ReservationType, String> {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let has_name = |(kind, long, short): &&(ReservationType, &str, &str)| {
        lower == *long || lower == *short || lower == kind.code().to_string()
    };
    let found = TYPES.iter().find(has_name).map(|(kind, ..)| *kind);
    found.ok_or_else(|| "must be 1, 3, 5, 6, 7, 8 or a name (we, ea, wero, earo, wear, eaar)".into())
}

fn parse_transport_id(text: &str) -> Result<TransportIdBuf, String> {
    if let Some(hex) = text.strip_prefix("hex:") {
        let Bytes(bytes) = parse_hex(hex)?;
        let id = TransportId::parse(&bytes).map_err(|error| error.to_string())?;
        return TransportIdBuf::new(id).map_err(|error| error.to_string());
    }
    let id = named_transport_id(text)?;
    TransportIdBuf::new(id).map_err(|error| error.to_string())
}

/// Parses the notation of `sg_persist`, in which scsi-sense also displays a TransportID.
fn named_transport_id(text: &str) -> Result<TransportId<'_>, String> {
    let lower = text.to_ascii_lowercase();
    if ["iqn.", "eui.", "naa."].iter().any(|prefix| lower.starts_with(prefix)) {
        let (name, session) = match text.rsplit_once(",i,0x") {
            Some((name, session)) => (name, Some(session)),
            None => (text, None),
        };
        let name = IscsiName::new(name.as_bytes()).map_err(|error| error.to_string())?;
        return Ok(match session {
            None => TransportId::IscsiDevice { name },
            Some(session) => {
                let session = IscsiSessionId::parse(session.as_bytes()).map_err(|error| error.to_string())?;
                TransportId::IscsiPort { name, session }
            }
        });
    }
    let unknown = || "must be like sas,5000c50005b32001, iqn.2001-04.com.example:host or hex:0600...";
    let (protocol, rest) = lower.split_once(',').ok_or_else(unknown)?;
    match protocol {
        "fcp" => Ok(TransportId::FibreChannel { port_name: u64::from_be_bytes(digits(rest)?) }),
        "sas" => Ok(TransportId::Sas { address: u64::from_be_bytes(digits(rest)?) }),
        "sbp" => Ok(TransportId::Sbp { eui64: u64::from_be_bytes(digits(rest)?) }),
        "srp" => digits(rest).map(|port| TransportId::Srp { port }),
        // `from_str_radix` would accept a leading +.
        "sop" => match (rest.len(), u16::from_str_radix(rest, 16)) {
            (1..=4, Ok(routing_id)) if !rest.starts_with('+') => Ok(TransportId::Sop { routing_id }),
            _ => Err("sop, is followed by up to 4 hexadecimal digits".into()),
        },
        "spi" => {
            let parts = rest.split_once(',').map(|(address, port)| (address.parse(), port.parse()));
            match parts {
                Some((Ok(address), Ok(relative_port))) => {
                    Ok(TransportId::ParallelScsi { address, relative_port })
                }
                _ => Err("spi, is followed by the SCSI address, a comma and the target port".into()),
            }
        }
        _ => Err(unknown().into()),
    }
}

fn digits<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = parse_hex(text).ok().and_then(|Bytes(bytes)| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("the name of the protocol is followed by {} hexadecimal digits", 2 * N))
}

/// Parses pairs of hexadecimal digits. Blanks, commas, colons and line feeds between digits are ignored.
pub(crate) fn parse_hex(text: &str) -> Result<Bytes, String> {
    let digits: Vec<u8> =
        text.bytes().filter(|byte| !matches!(byte, b' ' | b',' | b':' | b'\t' | b'\n')).collect();
    let byte = |pair: &[u8]| match *pair {
        [high, low] => {
            let (high, low) = (char::from(high).to_digit(16)?, char::from(low).to_digit(16)?);
            u8::try_from(high << 4 | low).ok()
        }
        _ => None,
    };
    let bytes: Option<_> = digits.chunks(2).map(byte).collect();
    bytes.map(Bytes).ok_or_else(|| "must be pairs of hexadecimal digits".into())
}

/// The maximum of `--timeout` and `--interval`: one day, longer than any command takes.
const SECONDS_MAX: u32 = 86400;

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(format!("must be a whole number of seconds from 1 to {SECONDS_MAX}")),
    }
}

/// The minimum of `--interval`: a disk may take this long to answer.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match interval {
        Some(interval) if (INTERVAL_MIN..=Duration::from_secs(SECONDS_MAX.into())).contains(&interval) => {
            Ok(interval)
        }
        _ => Err(format!("must be a number of seconds from 0.01 to {SECONDS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn clap_definition_is_valid() {
        Args::command().debug_assert();
    }

    #[test]
    fn key_with_prefix_is_hexadecimal() {
        for (text, key) in
            [("0", 0), ("26", 26), ("0x1a", 26), ("0X1A", 26), ("010", 10), ("0xffffffffffffffff", u64::MAX)]
        {
            assert_eq!(parse_key(text), Ok(ReservationKey(key)), "{text}");
        }
        for text in ["", "0x", "-1", "+1", "0x+1", "1a", "xyz", "18446744073709551616", " 1"] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn types_parse_by_number_and_name() {
        for (kind, long, short) in TYPES {
            for text in [long, short, &kind.code().to_string(), &long.to_uppercase(), &long.replace('-', "_")]
            {
                assert_eq!(parse_type(text), Ok(kind), "{text}");
            }
        }
        assert_eq!(TYPES.map(|(kind, ..)| kind), ReservationType::ALL);
        assert!(["", "0", "2", "4", "01", "w"].iter().all(|text| parse_type(text).is_err()));
    }

    #[test]
    fn displayed_transport_id_parses_back() {
        for text in [
            "sas,5000c50005b32001",
            "fcp,10000000c9f3a571",
            "sbp,0123456789abcdef",
            "srp,00112233445566778899aabbccddeeff",
            "spi,7,1",
            "sop,1f",
            "iqn.2001-04.com.example:Host",
            "iqn.2001-04.com.example:Host,i,0x00023d000001",
            "eui.02004567a425678d",
            "naa.52004567ba64678d,i,0xa",
        ] {
            let id = parse_transport_id(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(id.to_string(), text);
            let hex: Vec<_> = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(parse_transport_id(&format!("hex:{}", hex.join(":"))), Ok(id), "{text}");
        }
        for text in [
            "",
            "sas",
            "sas,",
            "sas,5000c50005b3200",
            "sas,+000c50005b32001",
            "srp,0",
            "spi,7",
            "spi,7,65536",
            "sop,12345",
            "sop,+1",
            "usb,1",
            "iqn.x,i,0x",
            "hex:",
            "hex:06",
            "hex:0",
        ] {
            assert!(parse_transport_id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn interval_may_be_a_fraction() {
        assert_eq!(parse_interval("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_interval("86400"), Ok(Duration::from_secs(86400)));
        for text in ["0", "0.001", "86401", "-1", "NaN", "inf", "x", ""] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
