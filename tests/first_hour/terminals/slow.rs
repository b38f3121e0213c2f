//! A way to a server on which so many bytes come back a second.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// It ends with the process.
pub(crate) struct Slow {
    pub(crate) address: String,
}

impl Slow {
    pub(crate) fn start(server: &str, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        // All connections share it.
        let free = Arc::new(Mutex::new(Instant::now()));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, free) = (TcpStream::connect(&server).unwrap(), free.clone());
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(up, server, |_| {}));
                thread::spawn(move || {
                    pass(down, client, |bytes| {
                        let until = {
                            let mut free = free.lock().unwrap();
                            *free = (*free).max(Instant::now())
                                + Duration::from_nanos(bytes as u64 * 1_000_000_000 / bytes_per_second);
                            *free
                        };
                        thread::sleep(until.saturating_duration_since(Instant::now()));
                    });
                });
            }
        });
        Slow { address }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, wait: impl Fn(usize)) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        wait(read);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
