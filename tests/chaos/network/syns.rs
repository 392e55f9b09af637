//! Counts attempts to connect where nobody listens: the kernel refuses them, and shows them to a raw socket all the same.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

/// Listens until it is dropped.
pub(super) struct Syns {
    seen: Arc<Mutex<Vec<(u16, Instant)>>>,
    over: Arc<AtomicBool>,
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

impl Syns {
    /// Only root may do that.
    pub(super) fn listen() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        // Others on this machine have much to say to each other.
        socket.set_recv_buffer_size(8 << 20)?;
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let listener = Self { seen: Arc::clone(&seen), over: Arc::clone(&over) };
        std::thread::spawn(move || {
            let mut packet = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                let Ok(length) = (&socket).read(&mut packet) else { continue };
                if let Some(port) = dialled(&packet[..length]) {
                    seen.lock().expect("nobody panicked").push((port, Instant::now()));
                }
            }
        });
        Ok(listener)
    }

    /// When this port was dialled.
    pub(super) fn of(&self, port: u16) -> Vec<Instant> {
        let seen = self.seen.lock().expect("nobody panicked");
        seen.iter().filter(|(dialled, _)| *dialled == port).map(|(_, at)| *at).collect()
    }
}

impl Drop for Syns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The port that a packet asks to be connected with.
fn dialled(packet: &[u8]) -> Option<u16> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let tcp = packet.get(header..)?;
    let port = u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]);
    (tcp.get(13)? & (SYN | ACK) == SYN).then_some(port)
}
