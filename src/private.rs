//! Files that hold secrets are read only while nobody else can read or replace them. Whoever keeps a key where others
//! can read it shares it with them, and hears so from us, not from them.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// More than any certificate chain, JWK Set or configuration has, in bytes.
pub const PUBLIC_BYTES_MAX: u64 = 64 << 20;

/// More than any key, certificate or token has; whoever names a larger file has named the wrong one.
const BYTES_MAX: u64 = 1 << 20;

/// Why a private file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{}", said(.0))]
    File(#[from] io::Error),
    /// Others can read or replace it.
    #[error("{0}")]
    Exposed(Exposed),
}

/// A private file, or its directory, that others can get at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exposed {
    /// The file or the directory.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Who can do what.
    pub how: How,
}

/// How something private is exposed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// A file that every user of the machine can read or write.
    Others,
    /// A file of ours that its group can read or write.
    Group,
    /// A directory in which every user can replace what lies there.
    Directory,
    /// A public file that every user can write.
    Writable,
}

impl Exposed {
    /// What its permissions should be.
    pub fn expected(&self) -> &'static str {
        match self.how {
            How::Others | How::Group => "mode 0600: readable for its owner alone",
            How::Directory => "a directory that only its owner and group can write, or one with the sticky bit",
            How::Writable => "a file that not everybody can write",
        }
    }

    /// The permissions that it has.
    pub fn found(&self) -> String {
        format!("mode {:04o}", self.mode)
    }

    /// The command that mends it.
    pub fn fix(&self) -> String {
        let change = match self.how {
            How::Others | How::Group => "600",
            How::Directory | How::Writable => "o-w",
        };
        format!("chmod {change} {}", quoted(&self.path))
    }

    /// What is wrong, without the path.
    pub fn what(&self) -> &'static str {
        match self.how {
            How::Others => "other users can get at this private file",
            How::Group => "its group can get at this private file",
            How::Directory => "other users can replace the files in this directory",
            How::Writable => "other users can write this file",
        }
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}); mend it with `{}`", self.path.display(), self.what(), self.found(), self.fix())
    }
}

/// Reads a whole private file. The permissions are those of the file that is read, whatever its name comes to mean.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_up_to(path, BYTES_MAX)
}

/// The same for a file of ours that grows.
pub fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let what = format!("larger than {} MiB; is it the right file?", bytes_max >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what).into());
    }
    Ok(bytes)
}

/// Reads a whole private file that is text.
pub fn read_to_string(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text").into())
}

/// Reads a whole file that is no secret, but decides something, and has no more bytes than these.
pub fn read_public(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let what = format!("larger than {bytes_max} bytes; is it the right file?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Opens a file, and nothing else: a pipe would have its reader wait until somebody writes into it, and a device might
/// never end.
fn regular(path: &Path) -> io::Result<File> {
    let is_regular = |metadata: &Metadata| match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => Ok(()),
        (false, true) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        (false, false) => Err(io::Error::new(io::ErrorKind::InvalidInput, "this is a pipe or a device, and no file")),
    };
    // Before it is opened, since that alone may wait; and again of what was opened.
    is_regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a private file for reading.
pub fn open(path: &Path) -> Result<File, Error> {
    let file = regular(path)?;
    let metadata = file.metadata()?;
    match exposure(path, &metadata).or_else(|| directory_of(path)) {
        Some(exposed) => Err(Error::Exposed(exposed)),
        None => Ok(file),
    }
}

/// How a private file that is there is exposed, by itself or by its directory.
pub fn check(path: &Path) -> Option<Exposed> {
    let metadata = std::fs::metadata(path).ok()?;
    exposure(path, &metadata).or_else(|| directory_of(path))
}

/// How a directory that is there is exposed.
pub fn check_directory(path: &Path) -> Option<Exposed> {
    let metadata = std::fs::metadata(path).ok().filter(Metadata::is_dir)?;
    let mode = metadata.mode() & 0o7777;
    // In a directory with the sticky bit everybody can make files, and nobody can replace those of others.
    (mode & 0o002 != 0 && mode & 0o1000 == 0).then(|| Exposed { path: path.to_owned(), mode, how: How::Directory })
}

/// How a file that is no secret, but decides whom we trust, is exposed.
pub fn check_public(path: &Path) -> Option<Exposed> {
    let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
    let mode = metadata.mode() & 0o7777;
    let writable = (mode & 0o002 != 0).then(|| Exposed { path: path.to_owned(), mode, how: How::Writable });
    writable.or_else(|| directory_of(path))
}

/// Every bit for others is refused, and every bit for the group of a file that is ours: its owner can take them away.
/// A file of another owner is ours to read only through its group (`root:pushpull 0640`, or the access list by which
/// systemd lends a credential, which shows as bits of the group), so there they are needed, and somebody's choice.
fn exposure(path: &Path, metadata: &Metadata) -> Option<Exposed> {
    // A pipe of the shell, or a terminal, is nobody's to read later.
    if !metadata.is_file() {
        return None;
    }
    let mode = metadata.mode() & 0o7777;
    let how = if mode & 0o007 != 0 {
        How::Others
    } else if mode & 0o070 != 0 && metadata.uid() == rustix::process::geteuid().as_raw() {
        How::Group
    } else {
        return None;
    };
    Some(Exposed { path: path.to_owned(), mode, how })
}

fn directory_of(path: &Path) -> Option<Exposed> {
    let parent = path.parent()?;
    check_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// A path as it can be typed into a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What is said of a file that another user keeps for itself.
pub(crate) const NOT_OURS: &str = "this user may not read it";

/// What the system says, in our words where they are clearer.
pub fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a directory, and no file".to_owned(),
        io::ErrorKind::PermissionDenied => NOT_OURS.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn how(path: &Path) -> Option<How> {
        match open(path) {
            Ok(_) => None,
            Err(Error::Exposed(exposed)) => Some(exposed.how),
            Err(Error::File(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn a_private_file_is_read_only_while_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "secret").unwrap();
        for (mode, expected) in [
            (0o600, None),
            (0o400, None),
            (0o700, None),
            (0o640, Some(How::Group)),
            (0o620, Some(How::Group)),
            (0o604, Some(How::Others)),
            (0o602, Some(How::Others)),
            (0o601, Some(How::Others)),
            (0o644, Some(How::Others)),
        ] {
            set(&path, mode);
            assert_eq!(how(&path), expected, "{mode:o}");
            assert_eq!(check(&path).map(|exposed| exposed.how), expected, "{mode:o}");
        }
    }

    #[test]
    fn the_remedy_can_be_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a key's.pem");
        fs::write(&path, "secret").unwrap();
        set(&path, 0o644);
        let exposed = check(&path).expect("it is exposed");
        let done = std::process::Command::new("sh").args(["-c", &exposed.fix()]).status().unwrap();
        assert!(done.success(), "{}", exposed.fix());
        assert_eq!(check(&path), None);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_in_which_everybody_can_replace_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("keys");
        fs::create_dir(&place).unwrap();
        let path = place.join("key.pem");
        fs::write(&path, "secret").unwrap();
        set(&path, 0o600);
        for (mode, expected) in
            [(0o777, Some(How::Directory)), (0o772, Some(How::Directory)), (0o1777, None), (0o775, None), (0o755, None)]
        {
            set(&place, mode);
            assert_eq!(how(&path), expected, "{mode:o}");
        }
        set(&place, 0o777);
        assert_eq!(check_directory(&place).expect("exposed").fix(), format!("chmod o-w {}", place.display()));
        assert_eq!(check_public(&path).map(|exposed| exposed.how), Some(How::Directory));
        set(&place, 0o755);
        assert_eq!(check_public(&path), None);
        set(&path, 0o666);
        assert_eq!(check_public(&path).map(|exposed| exposed.how), Some(How::Writable));
    }

    #[test]
    fn what_is_no_file_is_said_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let directory = read(folder.path()).expect_err("a directory").to_string();
        assert_eq!(directory, "this is a directory, and no file");
        let missing = read(&folder.path().join("none")).expect_err("nothing").to_string();
        assert_eq!(missing, "there is no such file");
        let large = folder.path().join("large");
        fs::write(&large, vec![b'x'; (1 << 20) + 1]).unwrap();
        set(&large, 0o600);
        assert!(read(&large).expect_err("too large").to_string().contains("1 MiB"));
    }
}
