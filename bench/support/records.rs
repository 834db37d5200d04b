//! How much plaintext is in TLS records that nobody opens.
//!
//! A client that decrypts costs as much as the server that encrypts, and on the machine's other core it would be what is
//! measured. The length of a record's plaintext is known without its key: in TLS 1.3 a record of application data is a header of
//! 5 bytes, whose last two tell the length of the rest, and the rest is the plaintext, one byte of its type and 16 of the
//! tag (RFC 8446 §5.2; nobody here pads). So after the handshake, and one answer that was decrypted in full and hashed, which tells
//! how long such an answer is, the client counts. It can never decrypt again on that connection: the keys count records, too.
//! A wrong or cut answer of the right length would go unnoticed there; that is what the tests are for.

use super::Result;

const HEADER_BYTES: usize = 5;
const APPLICATION_DATA: u8 = 23;
/// The type of the plaintext and the tag of AES-GCM.
const OVERHEAD: usize = 1 + 16;

/// Where in the records of one connection its reader is.
#[derive(Default)]
pub(crate) struct Records {
    header: [u8; HEADER_BYTES],
    /// How much of the header is there.
    filled: usize,
    /// What is still to come of the record.
    left: usize,
    /// The record's plaintext, which counts when the record is whole.
    plaintext: usize,
}

impl Records {
    /// The plaintext of the records that end in `bytes`, the next that came.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<u64> {
        let mut plaintext = 0;
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEADER_BYTES - self.filled };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.left > 0 {
                self.left -= now.len();
                if self.left == 0 {
                    (self.filled, plaintext) = (0, plaintext + self.plaintext as u64);
                }
                continue;
            }
            self.header[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled == HEADER_BYTES {
                let [kind, _, _, high, low] = self.header;
                self.left = usize::from(u16::from_be_bytes([high, low]));
                let plaintext = self.left.checked_sub(OVERHEAD);
                let plaintext = plaintext.filter(|_| kind == APPLICATION_DATA);
                self.plaintext = plaintext.ok_or("a record that is none of application data")?;
            }
        }
        Ok(plaintext)
    }
}
