//! Proves who we are, in every way that a password can: in the clear, by MD5, by SCRAM-SHA-256.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;

use super::message::{Complaint, Message, text};
use super::wire::Wire;
use crate::action::ActionError;

/// The one mechanism that needs nothing of the TLS layer.
const SCRAM: &str = "SCRAM-SHA-256";

/// Who asks.
pub(super) struct Identity<'a> {
    /// The role.
    pub(super) user: &'a str,
    /// Its password.
    pub(super) password: Option<&'a [u8]>,
}

impl Identity<'_> {
    /// Answers what the server asks until it is ready for a command.
    ///
    /// # Errors
    /// Fails when it does not accept us, or asks for what only other clients have.
    pub(super) async fn prove(&self, wire: &mut Wire) -> Result<(), ActionError> {
        let mut scram = None;
        loop {
            let Message { tag, body } = wire.message().await?;
            match tag {
                b'R' => self.answer(wire, body, &mut scram).await?,
                b'E' => return Err(Complaint::parse(body).into_error(wire.shown())),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    async fn answer(
        &self,
        wire: &mut Wire,
        mut body: Bytes,
        scram: &mut Option<sasl::ScramSha256>,
    ) -> Result<(), ActionError> {
        let mut reply = BytesMut::new();
        let kind = body.try_get_u32().map_err(|_| wire.nonsense("an empty question"))?;
        let made = match kind {
            0 => return Ok(()),
            3 => frontend::password_message(self.secret(wire)?, &mut reply),
            5 => {
                let salt: [u8; 4] = body.as_ref().try_into().map_err(|_| wire.nonsense("a salt of another length"))?;
                let hash = md5_hash(self.user.as_bytes(), self.secret(wire)?, salt);
                frontend::password_message(hash.as_bytes(), &mut reply)
            }
            10 => {
                let offered = std::iter::from_fn(|| text(&mut body).filter(|name| !name.is_empty()));
                if !offered.into_iter().any(|name| name == SCRAM) {
                    return Err(ActionError::fatal(format!("{} offers no way to log in that is known", wire.shown())));
                }
                let exchange = sasl::ScramSha256::new(self.secret(wire)?, sasl::ChannelBinding::unsupported());
                let made = frontend::sasl_initial_response(SCRAM, exchange.message(), &mut reply);
                *scram = Some(exchange);
                made
            }
            11 | 12 => {
                let exchange = scram.as_mut().ok_or_else(|| wire.nonsense("an answer to nothing"))?;
                let going_on = kind == 11;
                let stepped = if going_on { exchange.update(&body) } else { exchange.finish(&body) };
                stepped.map_err(|error| {
                    ActionError::fatal(format!("{} does not prove that it knows the password", wire.shown()))
                        .because(&error)
                })?;
                if !going_on {
                    return Ok(());
                }
                frontend::sasl_response(exchange.message(), &mut reply)
            }
            _ => {
                let fact = format!("{} asks for a way to log in that is not known (number {kind})", wire.shown());
                return Err(ActionError::fatal(fact).help("allow `scram-sha-256` or `peer` in `pg_hba.conf`"));
            }
        };
        made.map_err(|error| wire.lost(&error))?;
        wire.send(&reply).await
    }

    fn secret(&self, wire: &Wire) -> Result<&[u8], ActionError> {
        self.password.ok_or_else(|| {
            ActionError::fatal(format!("{} asks for a password", wire.shown()))
                .help("name its secret as `password` of the database in the inventory")
        })
    }
}
