//! A capture file of either format as a stream of packets.

use super::packet::{Damage, Packet};
use super::pcap::Pcap;
use super::pcapng::Pcapng;
use super::window::Window;
use std::io::{self, BufReader, Read};

/// What compressed files begin with that are not unpacked here, and the program that unpacks them.
const COMPRESSED: [(&[u8], &str); 4] = [
    // RFC 8878 3.1.1
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
];

/// The longest of them.
const MAGIC: usize = 6;

/// Reads packets from a pcap or pcapng stream, compressed by gzip or not, told by the content.
pub struct CaptureReader {
    window: Window<Box<dyn Read>>,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl std::fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureReader").field("offset", &self.window.offset()).finish_non_exhaustive()
    }
}

impl CaptureReader {
    /// Reads the head of the stream, and tells format and compression by it.
    ///
    /// # Errors
    /// `NotACapture`, `Compressed` or `Version` by the first bytes, `Read` where the stream fails.
    pub fn new(stream: impl Read + 'static) -> Result<CaptureReader, Damage> {
        let mut start = Vec::with_capacity(MAGIC);
        let mut stream = stream;
        (&mut stream)
            .take(MAGIC as u64)
            .read_to_end(&mut start)
            .map_err(|source| Damage::Read { offset: 0, source })?;
        // RFC 1952 2.3.1
        let gzip = start.starts_with(&[0x1f, 0x8b]);
        if let Some((_, by)) = COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(Damage::Compressed { by });
        }
        let whole = io::Cursor::new(start).chain(stream);
        let inner: Box<dyn Read> = if gzip {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, whole)))
        } else {
            Box::new(whole)
        };
        let mut window = Window::new(inner);
        let head = window.fill(24).map_err(|source| Damage::Read { offset: 0, source })?;
        let format = if Pcapng::is_start(head) {
            Format::Pcapng(Pcapng::default())
        } else {
            let pcap = Pcap::from_header(head)?;
            window.take(24);
            Format::Pcap(pcap)
        };
        Ok(CaptureReader { window, format })
    }

    /// The next packet; `None` at the end. After an error of a pcapng file the next call goes on
    /// behind the damage; after one of a pcap file there is nothing more.
    ///
    /// # Errors
    /// What is broken, and where. The stream's own errors are `Damage::Read`.
    #[expect(clippy::should_implement_trait, reason = "it lends the packet")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, Damage> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
        }
    }

    /// Decompressed bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }
}
