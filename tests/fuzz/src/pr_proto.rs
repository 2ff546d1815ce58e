//! The socket protocol. Both sessions are compared with a plain reading of the whole stream.

mod client;
mod helper;

/// The first byte chooses the session.
pub fn pr_proto(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let mut input = arbitrary::Unstructured::new(data);
    let _ = if kind % 2 == 0 { helper::run(&mut input) } else { client::run(&mut input) };
}
