//! Signatures of messages (RFC 2104).

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::config::{OmapiAlgorithm, OmapiKey};

/// Bytes of a signature.
pub(super) fn length(key: &OmapiKey) -> usize {
    match key.algorithm {
        OmapiAlgorithm::Md5 => 16,
        OmapiAlgorithm::Sha1 => 20,
        OmapiAlgorithm::Sha224 => 28,
        OmapiAlgorithm::Sha256 => 32,
        OmapiAlgorithm::Sha384 => 48,
        OmapiAlgorithm::Sha512 => 64,
    }
}

/// The signature of bytes.
pub(super) fn sign(key: &OmapiKey, bytes: &[u8]) -> Vec<u8> {
    match key.algorithm {
        OmapiAlgorithm::Md5 => signature::<Hmac<Md5>>(key, bytes),
        OmapiAlgorithm::Sha1 => signature::<Hmac<Sha1>>(key, bytes),
        OmapiAlgorithm::Sha224 => signature::<Hmac<Sha224>>(key, bytes),
        OmapiAlgorithm::Sha256 => signature::<Hmac<Sha256>>(key, bytes),
        OmapiAlgorithm::Sha384 => signature::<Hmac<Sha384>>(key, bytes),
        OmapiAlgorithm::Sha512 => signature::<Hmac<Sha512>>(key, bytes),
    }
}

/// Whether a signature is that of bytes. Takes the same time for all that are not.
pub(super) fn verify(key: &OmapiKey, bytes: &[u8], signature: &[u8]) -> bool {
    match key.algorithm {
        OmapiAlgorithm::Md5 => is_signature::<Hmac<Md5>>(key, bytes, signature),
        OmapiAlgorithm::Sha1 => is_signature::<Hmac<Sha1>>(key, bytes, signature),
        OmapiAlgorithm::Sha224 => is_signature::<Hmac<Sha224>>(key, bytes, signature),
        OmapiAlgorithm::Sha256 => is_signature::<Hmac<Sha256>>(key, bytes, signature),
        OmapiAlgorithm::Sha384 => is_signature::<Hmac<Sha384>>(key, bytes, signature),
        OmapiAlgorithm::Sha512 => is_signature::<Hmac<Sha512>>(key, bytes, signature),
    }
}

fn signature<M: Mac + KeyInit>(key: &OmapiKey, bytes: &[u8]) -> Vec<u8> {
    keyed::<M>(key, bytes).map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
}

fn is_signature<M: Mac + KeyInit>(key: &OmapiKey, bytes: &[u8], signature: &[u8]) -> bool {
    keyed::<M>(key, bytes).is_some_and(|mac| mac.verify_slice(signature).is_ok())
}

fn keyed<M: Mac + KeyInit>(key: &OmapiKey, bytes: &[u8]) -> Option<M> {
    // A key of any length will do.
    let mut mac = <M as KeyInit>::new_from_slice(&key.secret).ok()?;
    mac.update(bytes);
    Some(mac)
}
