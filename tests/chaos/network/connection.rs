//! One connection through the mangler, both ways, each on its own.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::air::{Kind, Strike, Way};
use super::mangler::{State, reset};
use super::repeat;
use super::requests::Requests;
use super::weather::PING_INTERVAL;
use crate::plan::Random;

struct Connection {
    state: Arc<State>,
    /// Who dialled, and who is behind the proxy. The way with the same number begins there.
    ends: [TcpStream; 2],
    /// Ends that have said that there will be no more.
    gone: [watch::Sender<bool>; 2],
    /// Ways whose bytes vanish, and since when.
    swallowed: [AtomicBool; 2],
    since: Mutex<Option<Instant>>,
    /// The answer to a WebSocket's handshake has got there.
    is_open: AtomicBool,
    /// And who dialled has used it since: before, it may still be finishing an exchange over HTTP, and hears nothing.
    is_socket: AtomicBool,
    /// Requests without an answer.
    asked: AtomicUsize,
}

/// How it is over for both ends.
enum Over {
    Closed,
    Reset,
}

/// Stretches of bytes that may be on their way at once.
const UNDER_WAY: usize = 64;
const STRETCH: usize = 16 << 10;

pub(super) async fn serve(state: Arc<State>, client: TcpStream, mut random: Random) {
    let Ok(server) = TcpStream::connect(&state.upstream).await else {
        // What the dialler would have met without a proxy.
        return reset(&client);
    };
    for end in [&client, &server] {
        let _ = end.set_nodelay(true);
    }
    let connection = Connection {
        state,
        ends: [client, server],
        gone: [watch::Sender::new(false), watch::Sender::new(false)],
        swallowed: Default::default(),
        since: Mutex::default(),
        is_open: AtomicBool::new(false),
        is_socket: AtomicBool::new(false),
        asked: AtomicUsize::new(0),
    };
    if let Over::Reset = connection.run(&mut random).await {
        connection.ends.iter().for_each(reset);
    }
    if connection.is_half_open() {
        connection.state.half_open.fetch_sub(1, Ordering::Relaxed);
    }
    connection.state.asked.fetch_sub(connection.asked.load(Ordering::Relaxed), Ordering::Relaxed);
}

impl Connection {
    async fn run(&self, random: &mut Random) -> Over {
        let mut strikes = self.state.strikes.subscribe();
        let (up, down) = (random.fork(), random.fork());
        let carrying = async {
            match tokio::try_join!(self.carry(0, up), self.carry(1, down)) {
                Ok(_) => Over::Closed,
                Err(over) => over,
            }
        };
        let mut carrying = std::pin::pin!(carrying);
        let mut found_by: Option<(Instant, Duration)> = None;
        loop {
            let deadline = found_by.map(|(at, _)| at);
            let late = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                over = &mut carrying => return over,
                strike = strikes.recv() => match strike {
                    Ok(Strike::Reset) => {
                        self.state.meet(Kind::Reset);
                        return Over::Reset;
                    }
                    Ok(Strike::Forgotten) if self.is_half_open() => return Over::Reset,
                    Ok(Strike::HalfOpen { ways, within, sockets_alone })
                        if !self.is_half_open() && (!sockets_alone || self.is_socket.load(Ordering::Relaxed)) =>
                    {
                        let now = Instant::now();
                        *self.since.lock().expect("nobody panicked") = Some(now);
                        self.state.half_open.fetch_add(1, Ordering::Relaxed);
                        for (swallowed, way) in self.swallowed.iter().zip(ways) {
                            swallowed.store(way, Ordering::Relaxed);
                        }
                        if self.is_socket.load(Ordering::Relaxed) {
                            found_by = Some((now + within, within));
                        }
                    }
                    _ => {}
                },
                () = late => {
                    self.judge(found_by.take());
                }
            }
        }
    }

    /// Who does not hear the other any more must have gone by now.
    fn judge(&self, found_by: Option<(Instant, Duration)>) {
        for way in [0, 1] {
            let deaf = 1 - way;
            if self.swallowed[way].load(Ordering::Relaxed) && !*self.gone[deaf].borrow() {
                let who = ["who dialled", "who was dialled"][deaf];
                let within = found_by.map(|(_, within)| within).unwrap_or_default();
                let other = *self.gone[way].borrow();
                let words = format!(
                    "{who} has not given up a half-open WebSocket within {within:?}; ways that vanish {:?}, the other end \
                     has gone: {other}",
                    self.swallowed
                );
                self.state.unfound.lock().expect("nobody panicked").push(words);
            }
        }
    }

    fn is_half_open(&self) -> bool {
        self.since.lock().expect("nobody panicked").is_some()
    }

    async fn carry(&self, way: usize, mut random: Random) -> Result<(), Over> {
        let (sender, receiver) = mpsc::channel(UNDER_WAY);
        let writing = self.write(way, receiver, random.fork());
        tokio::try_join!(self.read(way, sender, random), writing).map(drop)
    }

    /// Reads one end. When it is over there, the other end is told, unless it must not hear.
    async fn read(&self, way: usize, sender: mpsc::Sender<(Instant, Vec<u8>)>, mut random: Random) -> Result<(), Over> {
        let mut requests = Requests::default();
        let mut last = Instant::now();
        loop {
            let mut bytes = vec![0; STRETCH];
            let read = read(&self.ends[way], &mut bytes).await;
            let count = match read {
                Ok(count) if count > 0 => count,
                over => {
                    self.end(way, over.is_err()).await?;
                    let _ = sender.send((last, Vec::new())).await;
                    return Ok(());
                }
            };
            bytes.truncate(count);
            if self.swallowed[way].load(Ordering::Relaxed) {
                self.state.meet(Kind::HalfOpen);
                continue;
            }
            let air = *self.state.air.borrow();
            self.look_at(way, &bytes, &mut requests, air.repeat, &mut random);
            let Way { delay, jitter, .. } = air.ways[way];
            let mut due = Instant::now();
            if delay + jitter > Duration::ZERO {
                self.state.meet(Kind::Late);
                due += delay + random.time(jitter);
            }
            last = last.max(due);
            if sender.send((last, bytes)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// An end is gone.
    async fn end(&self, way: usize, broken: bool) -> Result<(), Over> {
        self.gone[way].send_replace(true);
        let since = *self.since.lock().expect("nobody panicked");
        if let Some(since) = since {
            let deaf = self.swallowed[1 - way].load(Ordering::Relaxed);
            // Sooner, it ended for another reason.
            if deaf && self.is_socket.load(Ordering::Relaxed) && since.elapsed() >= PING_INTERVAL {
                self.state.found.lock().expect("nobody panicked").push(since.elapsed());
            }
            if self.swallowed[way].load(Ordering::Relaxed) {
                // The other one has to find out by itself.
                let _ = self.gone[1 - way].subscribe().wait_for(|gone| *gone).await;
                return Err(Over::Closed);
            }
        }
        if broken { Err(Over::Reset) } else { Ok(()) }
    }

    /// What the bytes say, as far as it is plain HTTP.
    fn look_at(&self, way: usize, bytes: &[u8], requests: &mut Requests, chance: f64, random: &mut Random) {
        if way == 1 {
            let answered = self.asked.swap(0, Ordering::Relaxed);
            self.state.asked.fetch_sub(answered, Ordering::Relaxed);
            return;
        }
        if self.is_open.load(Ordering::Relaxed) && !self.is_half_open() {
            self.is_socket.store(true, Ordering::Relaxed);
        }
        for request in requests.follow(bytes) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.state.asked.fetch_add(1, Ordering::Relaxed);
            self.state.request_passed.notify_waiters();
            if random.chance(chance) {
                self.state.meet(Kind::Repeated);
                repeat::spawn(self.state.upstream.clone(), request, random.fork());
            }
        }
    }

    async fn write(
        &self,
        way: usize,
        mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>,
        mut random: Random,
    ) -> Result<(), Over> {
        let mut air = self.state.air.subscribe();
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if air.borrow_and_update().ways[way].stalled {
                self.state.meet(Kind::Stalled);
                // The sender lives as long as the mangler.
                let _ = air.wait_for(|air| !air.ways[way].stalled).await;
            }
            if self.swallowed[way].load(Ordering::Relaxed) {
                continue;
            }
            let to = &self.ends[1 - way];
            if bytes.is_empty() {
                let _ = SockRef::from(to).shutdown(Shutdown::Write);
                return Ok(());
            }
            let truncate = air.borrow().truncate;
            if way == 1 && random.chance(truncate) {
                self.state.meet(Kind::Truncated);
                let part = random.below(bytes.len() as u64) as usize;
                let _ = write(to, &bytes[..part]).await;
                return Err(if random.chance(0.5) { Over::Reset } else { Over::Closed });
            }
            if self.write_pieces(way, &bytes, &mut air, &mut random).await.is_err() && !self.is_half_open() {
                return Err(Over::Reset);
            }
            if way == 1 && bytes.starts_with(b"HTTP/1.1 101") {
                self.is_open.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn write_pieces(
        &self,
        way: usize,
        mut bytes: &[u8],
        air: &mut watch::Receiver<super::air::Air>,
        random: &mut Random,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            // It may clear up in the middle. And the end of one who has found out must not get stuck behind what he had to say.
            let now = if self.is_half_open() { Way::default() } else { air.borrow_and_update().ways[way] };
            let Way { piece, pause, bytes_per_second, .. } = now;
            let mut length = bytes.len();
            if piece > 0 {
                length = length.min(1 + random.below(piece as u64) as usize);
                self.state.meet(if pause.is_zero() { Kind::Chopped } else { Kind::Dribbled });
            }
            write(&self.ends[1 - way], &bytes[..length]).await?;
            bytes = &bytes[length..];
            if bytes_per_second > 0 {
                self.state.meet(Kind::Narrow);
                sleep(Duration::from_secs(1).mul_f64(length as f64 / bytes_per_second as f64)).await;
            } else if !pause.is_zero() {
                sleep(pause).await;
            } else if piece > 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

async fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
