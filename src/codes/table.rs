//! The table of all codes. A line is added here first; the page of the manual and `explain` follow.

use super::{Entry, Who};

/// Makes the enum and everything that is looked up by it from one table.
macro_rules! codes {
    ($($code:ident = $name:literal, $who:ident, $meaning:literal, $remedy:literal;)+) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $code,)+
        }

        impl Code {
            /// All of them, in the order of the manual.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The code as it is shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)+
                }
            }

            /// What is told of it.
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$code => &Entry { meaning: $meaning, who: Who::$who, remedy: $remedy },)+
                }
            }

            /// The code of this name.
            pub fn find(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == name)
            }
        }
    };
}

codes! {
    // How commands end.
    Usage = "usage", You, "The command line makes no sense.", "Put `--help` behind the command to see what it takes.";
    Failed = "failed", You, "It failed in a way that has no code of its own.", "Mend what the message names and try again.";
    DaemonUnreachable = "daemon_unreachable", You, "No daemon answers at the admin address.", "Start `pushpull serve`, or name the daemon's address with `--admin`, or its configuration with `-c`.";
    NotAllowed = "not_allowed", You, "The daemon does not let this caller in, or there is no token to show.", "Name the daemon's token with `--token-file`, or its configuration with `-c`; what is changed in that file counts after a restart.";
    NotFound = "not_found", You, "There is nothing of this name, or at this path.", "Check the spelling.";
    Conflict = "conflict", You, "It exists already, or is not in the state for it.", "Look at what is there, and decide which of the two is meant.";
    TimedOut = "timed_out", Nobody, "There was no answer in time. It may still come: nothing is lost.", "Look at the link with `pushpull status`.";
    PartlyDone = "partly_done", You, "Some of several things were done.", "The output names those that were not: mend them and repeat them.";
    FileUnreadable = "file_unreadable", You, "A file cannot be read.", "Check its name and its mode.";
    FileUnwritable = "file_unwritable", You, "A file or directory cannot be made or written.", "Check the directory's mode, and the room on its disk.";
    FileExists = "file_exists", You, "The file exists already, and nothing is overwritten.", "Move it away, or choose another name.";
    CannotListen = "cannot_listen", You, "An address to listen on cannot be had.", "Stop what listens there, or choose another address.";

    // Configuration.
    ReloadFailed = "reload_failed", You, "The configuration was reread and cannot be used. Nothing has changed: the daemon goes on with what it had.", "Mend what the lines before it name, then `pushpull reload`.";
    NeedsRestart = "needs_restart", You, "A key of the configuration was changed that only a restart brings about. The daemon goes on with the old value.", "Restart the daemon when it suits.";
    ConfigNotToml = "config_not_toml", You, "The configuration is no TOML at this place.", "Correct the line; texts need quotation marks, sections are `[name]`, peers `[[peer]]`.";
    ConfigUnknownKey = "config_unknown_key", You, "There is no such key, or it belongs into another section.", "Take the key that is suggested, or remove it.";
    ConfigBadValue = "config_bad_value", You, "A key has a value that it cannot have.", "Write what is expected.";
    ConfigMissingKey = "config_missing_key", You, "A key is needed and missing.", "Write it where the message says.";
    ConfigConflict = "config_conflict", You, "Two values of the configuration do not go together.", "Change one of the two.";
    ConfigBadFile = "config_bad_file", You, "A file that the configuration names is not there, or not what it should be.", "Make or mend the file, or name another.";
    ConfigPermissions = "config_permissions", You, "A key, a token, the database or their directory is open to others.", "Type the `chmod` that the message shows.";
    ConfigInvalid = "config_invalid", You, "The configuration cannot be used.", "`pushpull serve --check` names every fault with its line and its remedy.";

    // Keys, cards and tokens.
    NoSuchKey = "no_such_key", You, "There is no signing key of this kid.", "`pushpull key ls` shows those there are.";
    KeyUnusable = "key_unusable", You, "A key, certificate or JWK Set cannot be used.", "Name a private key in PEM (PKCS#8: P-256, Ed25519 or RSA), or a JWK Set with public keys.";
    KeySigns = "key_signs", You, "The key signs, so it cannot be taken out.", "Make another one sign first: `pushpull key rotate`.";
    KeyInUse = "key_in_use", You, "Unsettled SETs are signed with the key. It retires by itself when they are settled.", "Wait (`pushpull key ls` shows for whom), or take it out all the same with `--now`: partners then refuse those SETs as invalid_key.";
    KeyRotatedAway = "key_rotated_away", You, "The key has been rotated away, and never signs again.", "Rotate to another one: `pushpull key rotate`.";
    KeyNameUsed = "key_name_used", You, "A key of this name is there, or was. A name stands for one key for ever, because partners remember it.", "Choose another kid, or leave it out.";
    RotationUnderWay = "rotation_under_way", You, "A rotation has not ended yet.", "Wait for it (`pushpull key ls`), end it with `pushpull key rotate --now`, or call it off with `pushpull key retire KID`.";
    TooManyKeys = "too_many_keys", You, "So many keys are published that partners read no more.", "Retire one first: `pushpull key retire KID`.";
    KeyNotFetchedYet = "key_not_fetched_yet", Both, "A key signs before partners could fetch it, by order. Those that cache our keys may refuse its SETs.", "Ask a partner that refuses them to fetch our keys, then reissue what it refused: `pushpull dlq ls`.";
    KeyWithdrawn = "key_withdrawn", Both, "A key was taken out by order. Partners refuse unsettled SETs that it signed as invalid_key.", "Reissue what they refuse: `pushpull dlq ls`.";
    KeysUnwritable = "keys_unwritable", You, "The key directory cannot be written.", "Give this user the right to write it, or free some space.";
    CardInvalid = "card_invalid", You, "The file is no card of a partner.", "Ask the partner for the output of `pushpull peer card`.";
    PartnerKeysUnreachable = "partner_keys_unreachable", Both, "The partner's keys cannot be fetched. Its SETs get no answer until they can, and nothing is lost.", "See that `jwks_uri` is right and that this machine reaches it; ask the partner whether it answers.";
    PartnerKeyUnusable = "partner_key_unusable", Partner, "One of the partner's published keys cannot be used. The others can.", "Tell the partner; if it signs with that key, its SETs are refused.";

    // Events that are handed in.
    InvalidRequest = "invalid_request", You, "The request to the admin API is wrong.", "Mend what the message names; docs/admin-api.md has the form.";
    InvalidEvent = "invalid_event", You, "What was handed in cannot become a SET.", "Mend what the message names; `pushpull send --help` has examples.";
    NotASet = "not_a_set", You, "The text is no SET in compact serialisation.", "Give the three parts with dots between them, on one line.";
    SetInvalid = "set_invalid", You, "The SET breaks a rule.", "The list of checks names the rule and its clause.";
    TypeNotSent = "type_not_sent", You, "The event's type is not in this peer's `send` list.", "Add the type to `send` of this peer, if the partner is to get it.";
    JtiConflict = "jti_conflict", You, "The jti was used before with other content. A jti names one SET for ever.", "Leave `jti` out, or choose a new one.";
    NoSuchPeer = "no_such_peer", You, "There is no peer of this name.", "`pushpull peer ls` shows those there are.";
    NoSuchEvent = "no_such_event", You, "No SET of this jti is known here.", "Check the jti; events are remembered for at least 30 days.";
    NotADeadLetter = "not_a_dead_letter", Nobody, "The SET is no dead letter, or not any more.", "`pushpull event show JTI` tells how it stands.";
    ResendRefused = "resend_refused", You, "The partner has answered the SET. A jti that was answered must not be used again.", "`pushpull dlq reissue JTI` says the same in a new SET.";
    KeyNotPublished = "key_not_published", You, "The SET was signed with a key that is not published any more. The partner would refuse it.", "`pushpull dlq reissue JTI` signs it anew.";
    ForeignIssuer = "foreign_issuer", Both, "The SET is another issuer's: it can be resent as it is, and signed anew by nobody here.", "Ask its issuer for a new one, or `pushpull dlq discard JTI`.";
    SeveralPeers = "several_peers", You, "The jti is a dead letter with several peers.", "Say which one is meant: `--peer NAME`, or `peer` in the request.";
    NoSuchConsumer = "no_such_consumer", You, "No consumer of this name has read the inbox.", "Check the name; a consumer is made by its first read.";
    OutboxFull = "outbox_full", Both, "Too many SETs wait for this peer (`delivery.outbox_max`).", "See why the partner does not take them: `pushpull status PEER`.";
    TooLarge = "too_large", You, "There are too many bytes, or too many events, in one request.", "Send them in parts.";
    Stopping = "stopping", Nobody, "The daemon is stopping.", "Try again when it is back.";
    Unavailable = "unavailable", Nobody, "The daemon cannot do it at the moment.", "Try again in a moment; the log says more.";

    // The admin API's doors.
    NoToken = "no_token", You, "There are no credentials.", "Send the content of `admin.token_file` as `Authorization: Bearer …`.";
    WrongToken = "wrong_token", You, "The token is not the one in `admin.token_file`.", "Name the daemon's token with `--token-file`, or its configuration with `-c`.";
    ForeignHost = "foreign_host", You, "The `Host` header names none of our names.", "Use a loopback name, or add the name to `admin.hosts`.";
    ForeignOrigin = "foreign_origin", You, "A web page of another site asked.", "Use the API from a program, or from a page of its own address.";
    MethodNotAllowed = "method_not_allowed", You, "The path does not take that method.", "Use one that docs/admin-api.md has for it.";

    // Peers.
    InvalidPeer = "invalid_peer", You, "The definition of a peer is wrong.", "Mend what the message names; docs/configuration.md has the keys of a peer.";
    PeerInFile = "peer_in_file", You, "The peer stands in the configuration file, and only leaves with its block.", "Take the block out of the file, then `pushpull reload`.";
    PeerHasQueue = "peer_has_queue", You, "SETs wait for the peer that is to be removed.", "Send them first with `pushpull peer rm PEER --drain 10m`, or keep them for a peer of that name with `--keep-queue`.";
    PeerLeaving = "peer_leaving", Nobody, "The peer is about to be removed, and takes nothing more while its queue is emptied.", "Send to another peer, or wait and see whether it stays.";
    RefusedByPeer = "refused_by_peer", Both, "The partner refused the SET. It is kept as a dead letter.", "`pushpull event show JTI` has the partner's reason and what to do.";
    GivenUp = "given_up", Both, "A SET was never answered and has become a dead letter.", "See why the partner does not answer (`pushpull status PEER`), then `pushpull dlq resend JTI`.";
    SetRefused = "set_refused", Partner, "We refused a SET of the partner, and told it why.", "Tell the partner; `pushpull event show JTI` has the reason.";
    RefusalsSuppressed = "refusals_suppressed", Partner, "The partner sends more SETs to refuse, or verification events, than are answered. They get no verdict, so that garbage cannot fill the disk.", "Tell the partner to look at what it sends.";
    ContentChanged = "content_changed", Partner, "The partner sent a known jti with other bytes. The first verdict stands.", "Tell the partner: a jti names one SET for ever.";
    PeerPaused = "peer_paused", You, "An operator has paused sending to this peer. What it sends is answered all the same.", "`pushpull peer resume NAME` sends again.";
    LinkDown = "link_down", Both, "There is no link to the partner. Everything for it is kept.", "The message says why; `pushpull status PEER` shows how it stands.";
    NoWebsocket = "no_websocket", Both, "The partner can be reached, but takes no WebSocket. HTTP is used meanwhile.", "See that nothing between the two (a proxy) stops the upgrade, or set `transport = \"http\"`.";
    Unanswered = "unanswered", Both, "The partner is reached, and has not answered a SET for ten minutes or longer. It is sent again and again.", "Ask the partner whether it takes what comes: its inbox or its disk may be full, or our keys out of its reach. Our log has what it answers (`no verdict`).";
    InboxFull = "inbox_full", You, "Received SETs find no room (`limits.inbox_max`), and are neither stored nor answered. The partner sends them again.", "Confirm what was read, forget consumers that are gone (`pushpull consumer ls`), or raise the limit.";

    // Storage and process.
    StorageFull = "storage_full", You, "The disk is full. Nothing is accepted or answered, and nothing is lost.", "Free some space; no restart is needed. What was asked for meanwhile may be done then all the same: look before you repeat it, and repeat an event under its jti (`send --jti`).";
    StorageFailed = "storage_failed", You, "The database cannot be opened or written. The daemon stops (exit code 70) to protect the data.", "See that the disk is sound, then start again.";
    DatabaseUnusable = "database_unusable", You, "The file of the database is not one that can be used: another process has it, another program or a newer version wrote it, or others than we may read it. Nothing in it was changed (exit code 70).", "Mend what the message names, then start again.";
    DiskSlow = "disk_slow", You, "A commit to the database takes longer than two seconds. Nothing is lost: whoever sends, and every partner, waits for it.", "See whether the disk is sound (`dmesg`, SMART), and what else writes to it.";
    DataDamaged = "data_damaged", You, "Rows of the database are damaged. They are kept, and neither sent nor handed out.", "Check the disk; restore the database from a backup if the rows matter.";
    InternalFault = "internal_fault", You, "A part of the program ended by a fault of its own (panic) and was started again. What was not durable had no effect.", "Report it with the lines around it in the log.";
    ClockSuspect = "clock_suspect", You, "The clock has jumped by more than five minutes, or the process starts with one that shows over five minutes less than when it was last believed, or over a day more. For ten minutes nothing is given up, refused for its date or forgotten.", "See that the clock is right, and kept so (NTP); after ten minutes it is believed.";
    ConnectionsFull = "connections_full", You, "A listener has as many connections as it takes; more are turned away.", "See who connects (`ss -tn`). A listener takes 4096 connections, 256 of one address (loopback is exempt): let partners share connections, or put a proxy before it.";
    CannotAccept = "cannot_accept", You, "No connection can be accepted.", "Raise the limit of open files (`ulimit -n`, `LimitNOFILE`).";
    StoppedAtOnce = "stopped_at_once", Nobody, "A second signal ended the daemon at once. What is not settled stays queued.", "Start it again when it is wanted.";
}
