//! What the demo shows: a live block on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::organisation::Organisation;
use super::summary::Summary;
use crate::set::events;

/// Where the demo's words go.
pub(super) struct View {
    terminal: bool,
    /// The result is JSON on stdout; everything else goes to stderr.
    quiet_stdout: bool,
    live: Mutex<Live>,
}

/// The live block.
#[derive(Default)]
struct Live {
    drawn: usize,
    counts: [(usize, usize); 2],
    last: VecDeque<String>,
}

/// One event.
pub(super) struct Line<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) event_type: &'a str,
    pub(super) format: &'a str,
    pub(super) acked: Option<Duration>,
}

/// Events in the live block.
const LAST: usize = 8;

impl View {
    pub(super) fn new(terminal: bool, quiet_stdout: bool) -> Self {
        Self { terminal, quiet_stdout, live: Mutex::default() }
    }

    pub(super) fn opening(&self, organisations: &[Organisation; 2], http: bool, after: Duration) {
        let [alpha, beta] = organisations;
        self.say(&format!(
            "pushpull {} demo: two organisations on this machine, each a daemon with its own keys, certificate and database\n",
            env!("CARGO_PKG_VERSION")
        ));
        for organisation in organisations {
            self.say(&format!("  {:<6} https://{}   ready", organisation.name, organisation.address));
        }
        let link = if http { "HTTP POST, TLS 1.3, both dial" } else { "one WebSocket, TLS 1.3, dialled by alpha" };
        self.say(&format!("  link   {} and {}: {link}", alpha.name, beta.name));
        self.say(&format!("  up after {:.2} s\n", after.as_secs_f64()));
        if self.terminal {
            self.say("  Ctrl-C stops and shows the accounts\n");
        }
    }

    pub(super) fn event(&self, from: usize, line: &Line<'_>, sent: usize, acked: usize) {
        let result = match line.acked {
            Some(time) => format!("acked in {:.1} ms", time.as_secs_f64() * 1e3),
            None => "not acked yet".to_owned(),
        };
        // The type and the subject's format are enough; whom an event is about is nobody's business here.
        let text = format!(
            "  {:<5} → {:<5}  {:<42} {:<18} {result}",
            line.from,
            line.to,
            events::shorten(line.event_type),
            line.format
        );
        if !self.terminal {
            return self.say(&text);
        }
        let Ok(mut live) = self.live.lock() else { return };
        live.counts[from] = (sent, acked);
        live.last.push_back(text);
        if live.last.len() > LAST {
            live.last.pop_front();
        }
        live.draw();
    }

    pub(super) fn closing(&self, summary: &Summary) {
        self.say("");
        for direction in &summary.directions {
            let ms = |time: Option<Duration>| {
                time.map_or("–".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
            };
            self.say(&format!(
                "  {:<5} → {:<5}  sent {}  acked {}  received {}  lost {}  doubled {}   p50 {}  p99 {}",
                direction.from,
                direction.to,
                direction.sent,
                direction.acked,
                direction.received,
                direction.lost,
                direction.doubled,
                ms(direction.p50),
                ms(direction.p99),
            ));
        }
        if let Some(first) = summary.first_ack_both_ways {
            self.say(&format!("  first ack both ways {:.2} s after the start", first.as_secs_f64()));
        }
        self.say(if summary.ok() {
            "  ok: every SET ended acked at its sender and stands in the other side's inbox exactly once"
        } else {
            "  NOT ok: the accounts above do not add up"
        });
    }

    /// Prints a line. A reader that is gone is no error.
    fn say(&self, text: &str) {
        let _ = if self.quiet_stdout {
            writeln!(std::io::stderr().lock(), "{text}")
        } else {
            writeln!(std::io::stdout().lock(), "{text}")
        };
    }
}

impl Live {
    fn draw(&mut self) {
        let mut block = String::new();
        if self.drawn > 0 {
            block.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let [(a_sent, a_acked), (b_sent, b_acked)] = self.counts;
        let head =
            format!("  alpha → beta  sent {a_sent}  acked {a_acked}      beta → alpha  sent {b_sent}  acked {b_acked}");
        for line in std::iter::once(&head).chain(std::iter::once(&String::new())).chain(self.last.iter()) {
            block.push_str("\x1b[2K");
            block.push_str(line);
            block.push('\n');
        }
        self.drawn = self.last.len() + 2;
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(block.as_bytes());
        let _ = out.flush();
    }
}
