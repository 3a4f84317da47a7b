//! Encryption: who computes it, and whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use deberta_reference::opening;
use rustls::crypto::CryptoProvider;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Kind, Result};

/// The most bytes of a file of certificates.
const MOST_CERTIFICATES: u64 = 64 << 20;

/// The variables that name a file of trusted certificates, as requests, curl and OpenSSL know them.
const BUNDLES: [&str; 4] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NIX_SSL_CERT_FILE"];

/// Trusts the certificates of the first of the variables that is set, else Mozilla's.
///
/// # Errors
/// A file that holds no certificates.
pub(super) fn config() -> Result<TlsConfig> {
    let roots =
        match BUNDLES.iter().find_map(|name| Some((name, std::env::var_os(name).filter(|v| !v.is_empty())?)))
        {
            Some((name, path)) => bundle(name, Path::new(&path))?,
            None => RootCerts::WebPki,
        };
    let builder = TlsConfig::builder().root_certs(roots);
    // Without a provider only http works, and `require` has the words for it.
    Ok(match provider() {
        Some(provider) => builder.unversioned_rustls_crypto_provider(Arc::new(provider)).build(),
        None => builder.build(),
    })
}

/// Checks that this machine can speak https.
///
/// # Errors
/// A processor without the instructions that the cryptography needs.
pub(super) fn require() -> Result<()> {
    match supported() {
        true => Ok(()),
        false => Err(Error::unsupported(
            "this processor lacks instructions (AES, AVX2, ADX, or AES and SHA-2 on ARM) that https needs here: \
             download the model with another program or on another machine",
        )),
    }
}

fn bundle(variable: &str, path: &Path) -> Result<RootCerts> {
    let wrong = |why: String| Error::new(Kind::Request, format!("{why} ({variable} names it)")).in_file(path);
    let pem =
        opening::read(path, MOST_CERTIFICATES).map_err(|error| wrong(format!("cannot open: {error}")))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn supported() -> bool {
    graviola::util::is_cpu_supported()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn provider() -> Option<CryptoProvider> {
    supported().then(rustls_graviola::default_provider)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn supported() -> bool {
    true
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_bundle_must_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(bundle("SSL_CERT_FILE", &path).unwrap_err().to_string().contains("SSL_CERT_FILE"));
        fs::write(&path, "nothing").unwrap();
        assert!(bundle("SSL_CERT_FILE", &path).unwrap_err().to_string().contains("no certificate"));
    }
}
