//! TLS 1.3 with certificates that the caller names, and no others: a machine trusts the
//! authority that its configuration gives it, not the hundred of a web browser.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Connection, Tls};

/// For a handshake, and for each record, over a connection that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// TLS with the authorities of one file.
pub struct Authorities(Arc<ClientConfig>);

impl Authorities {
    /// Those in `pem`.
    ///
    /// # Errors
    /// When there are none, or one of them is damaged; a clause.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|why| format!("a certificate is damaged: {why}"))?;
            let added = roots.add(certificate);
            added.map_err(|why| format!("a certificate cannot be used: {why}"))?;
        }
        if roots.is_empty() {
            return Err("there is no certificate".into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl Tls for Authorities {
    fn secure(&self, host: &str, over: TcpStream) -> Result<Box<dyn Connection>, String> {
        let patience = over.read_timeout().map_err(|why| why.to_string())?;
        let patience = patience.map_or(PATIENCE, |patience| patience.saturating_mul(2));
        let mut over = Bounded {
            over,
            until: Instant::now() + patience,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|why| why.to_string())?;
        let config = Arc::clone(&self.0);
        let mut session = ClientConnection::new(config, name).map_err(|why| why.to_string())?;
        // Here and not with the first bytes, so that a wrong certificate is told as that.
        while session.is_handshaking() {
            let done = session.complete_io(&mut over);
            done.map_err(|why| why.to_string())?;
        }
        Ok(Box::new(Secure {
            stream: StreamOwned::new(session, over),
            patience,
        }))
    }
}

/// A connection that is read until a certain time, however many reads are made of it: for a whole
/// record or handshake, rustls makes as many as it takes.
struct Bounded {
    over: TcpStream,
    until: Instant,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match Instant::now() < self.until {
            true => self.over.read(buffer),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.over.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.over.flush()
    }
}

/// A secure connection, each read of which is over in its time.
struct Secure {
    stream: StreamOwned<ClientConnection, Bounded>,
    patience: Duration,
}

impl Read for Secure {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.sock.until = Instant::now() + self.patience;
        self.stream.read(buffer)
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.sock.until = Instant::now() + self.patience;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
