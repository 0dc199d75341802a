//! The signature of a webhook: HMAC-SHA256 over the time and the exact body, so that a receiver knows who sent it
//! and that it is not an old one sent again.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::action::ActionError;

/// Signs `<timestamp>.<body>`, as the header `X-Runbook-Signature` gives it.
pub(super) fn sign(secret: &str, timestamp: i64, body: &[u8]) -> Result<String, ActionError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|error| ActionError::fatal("the secret cannot sign").because(&error))?;
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256={hex}"))
}
