//! Connections that are encrypted, and who is believed at their other end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::address::DatabaseAddress;
use super::super::connection::Connection;
use super::super::testing::{SEED, SETTINGS};
use super::*;

/// The connections of nodes, and whether they are encrypted.
const ENCRYPTED: &str = "SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
    WHERE a.application_name = 'stepcast' AND a.datname = current_database()";

/// Somebody who signs certificates, in a directory that goes with them.
struct Authority(PathBuf);

impl Authority {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("stepcast-tls-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).expect("the temporary directory can be written to");
        let authority = Self(directory);
        authority.openssl(&format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.crt -subj /CN={name}"));
        authority
    }

    /// A certificate for `names`, and its key; of version 1 where there are none.
    fn certificate(&self, names: &str) -> (String, String) {
        self.openssl(&format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=db"));
        let extensions = if names.is_empty() { String::new() } else { format!("subjectAltName={names}") };
        std::fs::write(self.0.join("extensions"), &extensions).expect("the directory is ours");
        let file = if names.is_empty() { "" } else { "-extfile extensions" };
        self.openssl(&format!(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 {file}"
        ));
        let read = |name: &str| std::fs::read_to_string(self.0.join(name)).expect("openssl has made it");
        (read("server.crt"), read("server.key"))
    }

    fn root(&self) -> String {
        self.0.join("ca.crt").display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).output();
        let output = output.expect("openssl starts");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn refused(url: &str) -> String {
    match PostgresStore::open(url, &SEED, SETTINGS, Timestamp::default()) {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error.to_string(),
    }
}

/// Is what a node does at this url encrypted? It writes, and reads it.
fn is_encrypted(engine: &engine::Postgres, url: &str) -> bool {
    let (mut store, mut lease, _tail) = node(url);
    let next = head(&store).newest + 1;
    append_here(&mut store, &messages([next])).expect("kept");
    assert_eq!(seqs(&store).last(), Some(&next));
    let plainly = url.split('?').next().expect("a url");
    let encrypted = engine.sql(plainly, ENCRYPTED);
    lease.leave().expect("it can be said");
    match encrypted.as_str() {
        "t" => true,
        "f" => false,
        some => panic!("{some}: not all of them are the same"),
    }
}

#[test]
fn a_server_is_believed_as_far_as_the_url_says() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let (url, ip) = (engine.database(), engine.address().ip());
    let [ours, others] = ["ours", "others"].map(Authority::new);
    let (root, wrong) = (ours.root(), others.root());
    assert!(!is_encrypted(&engine, &url), "there is no TLS to prefer");
    for query in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={root}")] {
        let error = refused(&format!("{url}?{query}"));
        assert!(error.contains("server does not support TLS"), "{query}: {error}");
    }

    let (certificate, key) = ours.certificate(&format!("IP:{ip},DNS:localhost"));
    engine.set_tls(Some((&certificate, &key)));
    for (query, encrypted) in [
        ("", true),
        ("sslmode=prefer", true),
        ("sslmode=disable", false),
        ("sslmode=require", true),
        (&format!("sslmode=require&sslrootcert={root}"), true),
        (&format!("sslmode=verify-ca&sslrootcert={root}"), true),
        (&format!("sslmode=verify-full&sslrootcert={root}"), true),
        (&format!("sslrootcert={root}"), true),
    ] {
        assert_eq!(is_encrypted(&engine, &format!("{url}?{query}")), encrypted, "{query}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refused(&format!("{url}?sslmode={mode}&sslrootcert={wrong}"));
        let why = format!("the server's certificate is not signed by any authority of {wrong} (sslrootcert)");
        assert!(error.contains(&why), "{mode}: {error}");
    }
    assert!(
        refused(&format!("{url}?sslmode=verify-full"))
            .contains("not signed by any authority of the system (sslrootcert)")
    );

    let (certificate, key) = ours.certificate("DNS:elsewhere");
    engine.set_tls(Some((&certificate, &key)));
    wait_for_certificate(&url, &root);
    assert!(is_encrypted(&engine, &format!("{url}?sslmode=verify-ca&sslrootcert={root}")));
}

/// Until the engine has the certificate for another host, which is refused.
fn wait_for_certificate(url: &str, root: &str) {
    let url = format!("{url}?sslmode=verify-full&sslrootcert={root}");
    super::nodes::wait_for(|| {
        let opened = PostgresStore::open(&url, &SEED, SETTINGS, Timestamp::default());
        opened.is_err_and(|error| {
            error.to_string().contains("its subjectAltName lists other names (sslmode=verify-full)")
        })
    });
}

#[test]
fn a_certificate_of_version_1_is_enough_where_nobody_looks_at_it_and_one_that_is_known_itself_where_somebody_does() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let authority = Authority::new("first");
    let (certificate, key) = authority.certificate("");
    engine.set_tls(Some((&certificate, &key)));
    assert!(is_encrypted(&engine, &format!("{url}?sslmode=require")));
    let known = authority.0.join("server.crt");
    assert!(is_encrypted(&engine, &format!("{url}?sslmode=require&sslrootcert={}", known.display())));
    let error = refused(&format!("{url}?sslmode=verify-ca&sslrootcert={}", authority.root()));
    assert!(error.contains("the server's certificate was rejected (UnsupportedCertVersion)"), "{error}");
}

#[test]
fn a_password_is_bound_to_the_channel() {
    let Some(engine) = engine::Postgres::start_with(engine::Disk::Unsynced, &[]) else { return };
    let url = engine.database();
    let authority = Authority::new("bound");
    let (certificate, key) = authority.certificate("DNS:localhost");
    engine.sql(&url, "CREATE ROLE bound LOGIN SUPERUSER PASSWORD 'hunter2'");
    engine.let_in_by("hostssl all bound all scram-sha-256\nhostnossl all bound all reject");
    let url = url.replace("postgres@", "bound:hunter2@");
    let bound = format!("{url}?sslmode=require&channel_binding=require");
    let error = refused(&bound);
    assert!(error.contains("server does not support TLS") && !error.contains("hunter2"), "{error}");
    engine.set_tls(Some((&certificate, &key)));
    let mut store = node(&bound).0;
    append_here(&mut store, &messages([1])).expect("kept");
    let error = refused(&format!("{url}?sslmode=disable&channel_binding=require"));
    assert!(!error.contains("hunter2"), "{error}");
    let wrong = refused(&bound.replace("hunter2", "hunter3"));
    assert!(wrong.contains("password authentication failed"), "{wrong}");
}

/// The time that a connection may take is for all of it.
#[test]
fn a_server_that_says_nothing_once_tls_has_begun_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut held = Vec::new();
        for mut stream in silent.incoming().flatten() {
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).and_then(|()| stream.write_all(b"S")).expect("it asks for TLS");
            held.push(stream);
        }
    });
    let call_max = Duration::from_millis(300);
    let address = DatabaseAddress::parse(&format!("postgres://u@{address}/d?sslmode=require"), call_max);
    let address = address.unwrap_or_else(|error| panic!("{error}"));
    let mut conn = Connection::new(address.into(), call_max).expect("a runtime");
    assert_eq!(conn.ensure().expect_err("nobody answers").to_string(), "no answer within the time limit");
}

#[test]
fn a_handshake_that_comes_to_nothing_is_no_matter_where_tls_is_only_preferred() {
    let Some((_, url)) = database() else { return };
    let plain = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
    // It says that it has TLS, and talks nonsense then; without, it is the engine.
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = proxy.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in proxy.incoming().flatten() {
            let plain = plain.clone();
            std::thread::spawn(move || pass(stream, &plain));
        }
    });
    let through = url.replace(
        url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("an address"),
        &address.to_string(),
    );
    let mut store = node(&through).0;
    append_here(&mut store, &messages([1])).expect("kept");
    assert!(refused(&format!("{through}?sslmode=require")).contains("error performing TLS handshake"));
}

fn pass(mut client: std::net::TcpStream, plain: &str) {
    use std::io::{Read, Write};
    const ASKS_FOR_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut first = [0; 8];
    if client.read_exact(&mut first).is_err() {
        return;
    }
    if first == ASKS_FOR_TLS {
        let _ = client.write_all(b"Sthis is no TLS");
        return;
    }
    let mut engine = std::net::TcpStream::connect(plain).expect("it listens");
    engine.write_all(&first).expect("it reads");
    let (mut back, mut to_client) = (engine.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
    std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
    let _ = std::io::copy(&mut client, &mut engine);
}
