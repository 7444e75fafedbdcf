//! A proxy in front of a server, which cuts its connections when a test says so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A running proxy. Its threads end with the test's process.
pub struct Cutter {
    /// The proxy's port on 127.0.0.1.
    pub port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cutter {
    /// Starts a proxy in front of the server on this port of 127.0.0.1.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let opened = connections.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
                    continue;
                };
                let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let (from, to) = (
                        from.try_clone().expect("a copy"),
                        to.try_clone().expect("a copy"),
                    );
                    opened.push(from.try_clone().expect("a copy"));
                    std::thread::spawn(move || pass(from, to));
                }
            }
        });
        Self { port, connections }
    }

    /// Cuts all connections, in the middle of whatever they carry.
    pub fn cut(&self) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
