//! How a WebSocket ends, and what is told of what leaves.

use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::transport::pushpull::watched::Watched;

const MIB: usize = 1 << 20;

/// Both ends of one connection; the first takes messages of 1 MiB at most.
async fn ends() -> (Elastic<TcpStream>, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let narrow = WebSocketConfig::default().max_message_size(Some(MIB)).max_frame_size(Some(MIB));
    let accepted = Watched::accepted(accepted, Duration::from_secs(60));
    let ours = WebSocketStream::from_raw_socket(accepted, Role::Server, Some(narrow)).await;
    let ours = Elastic::new(ours, Role::Server);
    (ours, WebSocketStream::from_raw_socket(dialled, Role::Client, None).await)
}

/// The code with which the other end hears the connection close.
async fn close_code(socket: &mut WebSocketStream<TcpStream>) -> Option<CloseCode> {
    loop {
        match timeout(Duration::from_secs(10), socket.next()).await.expect("it ends")?.ok()? {
            Message::Close(frame) => return frame.map(|frame| frame.code),
            _ => continue,
        }
    }
}

#[tokio::test]
async fn the_partners_close_frame_is_answered_with_its_code() {
    let (mut ours, mut theirs) = ends().await;
    let frame = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
    theirs.send(Message::Close(Some(frame))).await.unwrap();
    let Some(Ok(Message::Close(frame))) = ours.next().await else { panic!("no close frame") };
    let end = closed_by_partner(frame);
    let (parted, code) = tokio::join!(part(ours, &end), async {
        let code = close_code(&mut theirs).await;
        drop(theirs);
        code
    });
    parted.unwrap();
    assert_eq!(code, Some(CloseCode::Away));
}

#[tokio::test]
async fn our_reason_arrives_at_a_partner_that_is_still_writing() {
    let (mut ours, mut theirs) = ends().await;
    let parting = async {
        let Some(Err(error)) = ours.next().await else { panic!("too long a message was taken") };
        part(ours, &blame(error)).await
    };
    let partner = async {
        theirs.send(Message::text("x".repeat(16 * MIB))).await.expect("nothing is reset meanwhile");
        let code = close_code(&mut theirs).await;
        drop(theirs);
        code
    };
    let (parted, code) = tokio::join!(parting, partner);
    parted.unwrap();
    assert_eq!(code, Some(CloseCode::Size));
}

/// Has one thing to say, and notes what it is told.
struct Noting {
    told: Arc<std::sync::Mutex<Vec<&'static str>>>,
    /// Told when it has been asked for what it has to say.
    asked: Arc<tokio::sync::Notify>,
    said: bool,
}

impl Noting {
    fn note(&self, what: &'static str) {
        self.told.lock().unwrap().push(what);
    }
}

impl Speaking for Noting {
    async fn next(&mut self) -> Option<Result<Message, End>> {
        if std::mem::replace(&mut self.said, true) {
            std::future::pending::<()>().await;
        }
        self.asked.notify_one();
        Some(Ok(Message::text("x".repeat(10_000))))
    }

    async fn left(&mut self, _: usize) {
        self.note("left");
    }

    fn alive(&mut self) {
        self.note("alive");
    }
}

struct Deaf;

impl Hearing for Deaf {
    fn pay(&self, _: Rate) -> Result<(), Empty> {
        Ok(())
    }

    async fn hear(&mut self, _: Message) -> Result<(), End> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_heard_while_a_message_leaves_is_told_before_it_has_left() {
    let (here, there) = tokio::io::duplex(256);
    let here = Watched::accepted(here, Duration::from_secs(60));
    let ours = Elastic::new(WebSocketStream::from_raw_socket(here, Role::Server, None).await, Role::Server);
    let mut theirs = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (_running, stop) = watch::channel(false);
    let mut wire = Wire::new(ours, Deaf, Arc::new(Config::default()), stop, None);
    let asked = Arc::new(tokio::sync::Notify::new());
    let mut noting = Noting { told: Arc::clone(&told), asked: Arc::clone(&asked), said: false };
    let theirs = async {
        asked.notified().await;
        // It does not read, so that nothing leaves, and is heard meanwhile.
        for _ in 0..3 {
            theirs.send(Message::Pong(bytes::Bytes::new())).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        let Some(Ok(Message::Text(text))) = theirs.next().await else { panic!("nothing came") };
        assert_eq!(text.len(), 10_000);
        sleep(Duration::from_millis(50)).await;
    };
    tokio::select! {
        end = wire.converse(&mut noting) => panic!("{end:?}"),
        () = theirs => {}
    }
    assert_eq!(*told.lock().unwrap(), ["alive", "left"]);
}

#[tokio::test]
async fn whoever_does_not_read_is_let_go_at_once_when_the_token_means_nothing_any_more() {
    let (here, there) = tokio::io::duplex(256);
    let here = Watched::accepted(here, Duration::from_secs(60));
    let ours = Elastic::new(WebSocketStream::from_raw_socket(here, Role::Server, None).await, Role::Server);
    let (expel, pass) = Pass::that_can_be_revoked();
    let (_running, stop) = watch::channel(false);
    let mut wire = Wire::new(ours, Deaf, Arc::new(Config::default()), stop, Some(pass));
    let asked = Arc::new(tokio::sync::Notify::new());
    let mut noting = Noting { told: Arc::default(), asked: Arc::clone(&asked), said: false };
    let told = Arc::clone(&noting.told);
    let revoking = async {
        asked.notified().await;
        sleep(Duration::from_millis(20)).await;
        expel();
    };
    let soon = Duration::from_secs(5);
    let (end, ()) = tokio::join!(timeout(soon, wire.converse(&mut noting)), revoking);
    let End::Ours(code, _) = end.expect("it ends while the message is stuck") else { panic!("it is for us to end it") };
    assert_eq!(code, CloseCode::Policy);
    assert!(told.lock().unwrap().is_empty(), "it never left");
    drop(there);
}
