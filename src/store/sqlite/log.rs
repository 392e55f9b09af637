//! Looks at the log before SQLite does, which takes everything from the first bad frame on for the torn end of a power
//! cut, and drops it without a word. It may be that; where it cannot, it is damage, and is said (invariant I18).

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::file::PAGE_SIZE;
use crate::store::Error;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first bytes of a log whose checksums are made of big-endian words; one less where they are little-endian.
const MAGIC_BIG: u32 = 0x377f_0683;

/// Refuses to begin where the log stands without its database, or a killed process's index without the log: something was
/// removed, and with it what was committed. To be called before the file is made.
///
/// SQLite writes the first page of the database before the first frame of a log, and removes the index before the log.
pub(super) fn check_company(database: &Path) -> Result<(), Error> {
    let size = |suffix| {
        let path = beside(database, suffix);
        std::fs::metadata(&path).map_or(None, |found| Some(found.len()))
    };
    let (name, log, index) = (database.display(), size("-wal"), size("-shm"));
    match size("") {
        None | Some(0) if log.is_some_and(|length| length > HEADER as u64) => Err(Error::Fatal(format!(
            "the database {name} is missing or empty, and its log {name}-wal is there: restore both from a backup; only to \
             begin with nothing, remove the log as well"
        ))),
        Some(1..) if index.is_some() && log.is_none() => Err(Error::Fatal(format!(
            "the log {name}-wal is missing, and {name}-shm was left by a process that was killed: what was committed last may \
             have been in that log: restore the database and its log from a backup; only to go on without, remove {name}-shm"
        ))),
        _ => Ok(()),
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses a log in which something is damaged that was synced: nobody may start with what is left of it.
///
/// A power cut can only spoil frames of the last transaction, as each one is synced before the next is written. So a bad
/// frame is damage when a transaction that ends at it or later is followed by another one. Damage within the last
/// transaction alone looks like a power cut, and is taken for one.
pub(super) fn check(database: &Path) -> Result<(), Error> {
    let path = beside(database, "-wal");
    let unreadable = |error| Error::Fatal(format!("cannot read the log {}: {error}", path.display()));
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(unreadable)?,
    };
    let Some(place) = damaged_from(BufReader::with_capacity(1 << 18, file), page_size(database)).map_err(unreadable)?
    else {
        return Ok(());
    };
    Err(Error::Fatal(format!(
        "the log {} is damaged from byte {place} on, and more was committed behind that, which would be lost: restore the \
         database and its log from a backup; only to go on without all that stands behind it, cut the log there \
         (truncate -s {place})",
        path.display()
    )))
}

/// The size of the database's pages by its own header; that of new files if the header makes no sense.
fn page_size(database: &Path) -> usize {
    let mut header = [0; 18];
    let read = File::open(database).and_then(|mut file| file.read_exact(&mut header));
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        // The largest does not fit into the two bytes.
        1 => 65_536,
        size => usize::from(size),
    };
    if read.is_ok() && is_page_size(size) { size } else { PAGE_SIZE as usize }
}

/// Those that SQLite knows.
fn is_page_size(size: usize) -> bool {
    size.is_power_of_two() && (512..=65_536).contains(&size)
}

/// Where the first bad frame begins, 0 for the header, if a power cut cannot have spoilt it. `page`: the size of a page, where
/// the log's own header is not to be believed.
fn damaged_from(mut log: impl Read, page: usize) -> std::io::Result<Option<u64>> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let sums = Sums { big: word(&header, 0) == MAGIC_BIG };
    let told = (word(&header, 24), word(&header, 28));
    let reckoned = sums.of((0, 0), &header[..24]);
    let salts = (word(&header, 16), word(&header, 20));
    if told != reckoned || word(&header, 0) | 1 != MAGIC_BIG {
        return Ok(is_followed(&mut log, &header, told, page)?.then_some(0));
    }
    let page = Some(word(&header, 8) as usize).filter(|page| is_page_size(*page)).unwrap_or(page);
    let mut frame = Frame::new(page);
    let (mut place, mut sum) = (HEADER as u64, told);
    let bad = loop {
        if !frame.read(&mut log)? {
            return Ok(None);
        }
        if !frame.follows(sums, sum) {
            break place;
        }
        if frame.salts() != salts {
            // Made to follow this log's last frame, so it is no left-over of an earlier one.
            return Ok(Some(place));
        }
        (place, sum) = (place + (FRAME_HEADER + page) as u64, frame.sum());
    };
    // Whether a transaction that ends here or later is followed by another.
    let mut seeds = vec![frame.reckon(sums, sum), frame.sum()];
    let mut ends = frame.ends_transaction();
    while frame.read(&mut log)? {
        if ends && frame.salts() == salts && seeds.iter().any(|seed| frame.follows(sums, *seed)) {
            return Ok(Some(bad));
        }
        ends = frame.ends_transaction();
        seeds = vec![frame.sum()];
    }
    Ok(None)
}

/// Whether behind a damaged header stands what SQLite would drop with it: a first frame that was made to follow the header,
/// or a later one that ends a transaction and was made to follow its neighbour. A power cut cannot have spoilt the header
/// then: it was synced before them. Its word for the order of bytes may be what is damaged, so both are tried.
fn is_followed(log: &mut impl Read, header: &[u8; HEADER], told: (u32, u32), page: usize) -> std::io::Result<bool> {
    let mut frame = Frame::new(page);
    let mut before = None;
    while frame.read(log)? {
        let follows = [false, true].into_iter().map(|big| Sums { big }).any(|sums| match before {
            None => [told, sums.of((0, 0), &header[..24])].into_iter().any(|seed| frame.follows(sums, seed)),
            Some((salts, sum)) => frame.salts() == salts && frame.ends_transaction() && frame.follows(sums, sum),
        });
        // Where all is zero everything seems to follow.
        if follows && frame.sum() != (0, 0) {
            return Ok(true);
        }
        before = Some((frame.salts(), frame.sum()));
    }
    Ok(false)
}

/// A page with what stands before it in the log.
struct Frame(Box<[u8]>);

impl Frame {
    fn new(page: usize) -> Self {
        Self(vec![0; FRAME_HEADER + page].into())
    }

    /// Reads the next one; false if there is none that is whole.
    fn read(&mut self, log: &mut impl Read) -> std::io::Result<bool> {
        fill(log, &mut self.0)
    }

    /// It is the last one of a transaction: it says how large the database is then.
    fn ends_transaction(&self) -> bool {
        word(&self.0, 4) != 0
    }

    fn salts(&self) -> (u32, u32) {
        (word(&self.0, 8), word(&self.0, 12))
    }

    fn sum(&self) -> (u32, u32) {
        (word(&self.0, 16), word(&self.0, 20))
    }

    fn reckon(&self, sums: Sums, seed: (u32, u32)) -> (u32, u32) {
        sums.of(sums.of(seed, &self.0[..8]), &self.0[FRAME_HEADER..])
    }

    /// Its checksum is right behind a frame with that one.
    fn follows(&self, sums: Sums, seed: (u32, u32)) -> bool {
        self.reckon(sums, seed) == self.sum()
    }
}

/// How a log's checksums are made.
#[derive(Clone, Copy)]
struct Sums {
    big: bool,
}

impl Sums {
    fn of(self, seed: (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let word = |bytes: [u8; 4]| if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let (mut first, mut second) = seed;
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
            first = first.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(second);
            second = second.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(first);
        }
        (first, second)
    }
}

/// A number in a header: big-endian in any case. Zero beyond the end, which no caller asks for.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Fills the buffer; false if there is too little left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
