//! Whether Patroni is paused: its REST API says so, wherever the data directory is by now.
//!
//! Patroni also leaves its cluster-wide settings in the data directory. That copy is gone with a lost disk and may be
//! older than the last word, so it counts only where the API gives no answer.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::action::ReadFiles;
use crate::actions::http::client;

/// What Patroni keeps of its cluster-wide settings in each data directory.
const SETTINGS: &str = "patroni.dynamic.json";
const READ_BYTES: u64 = 8 << 20;
/// How long it may take to answer. It is on this machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What Patroni does about its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attention {
    /// It is paused: it starts, stops and promotes nothing.
    Paused,
    /// It looks after the cluster.
    Watching,
    /// It does not tell.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// The part of its configuration that tells where it answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    restapi: RestApi,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RestApi {
    connect_address: Option<String>,
    listen: Option<String>,
    certfile: Option<String>,
}

impl RestApi {
    /// The URL of its own status (Patroni manual, "REST API"); with any answer it says whether it is paused.
    fn status(&self) -> Option<String> {
        let scheme = if self.certfile.is_some() { "https" } else { "http" };
        let anywhere = |listen: &String| {
            let port = listen.rsplit_once(':').map_or("8008", |(_, port)| port);
            format!("127.0.0.1:{port}")
        };
        let address = self.connect_address.clone().or_else(|| self.listen.as_ref().map(anywhere))?;
        Some(format!("{scheme}://{address}/patroni"))
    }
}

/// Asks a Patroni with such a configuration.
pub(crate) async fn attention(configuration: Option<&str>, pgdata: &Path, files: &dyn ReadFiles) -> Attention {
    let asked = match configuration {
        Some(text) => ask(text).await,
        None => Err("its configuration cannot be read".to_owned()),
    };
    match asked {
        Ok(true) => Attention::Paused,
        Ok(false) => Attention::Watching,
        Err(why) => left_behind(pgdata, files).unwrap_or(Attention::Unknown { why }),
    }
}

async fn ask(configuration: &str) -> Result<bool, String> {
    let known: Configuration = serde_saphyr::from_str(configuration).map_err(|error| error.to_string())?;
    let url = known.restapi.status().ok_or("its configuration names no `restapi`")?;
    let parsed = client::parse("", &url).map_err(|fault| fault.message)?;
    let answer = client::get(&parsed, ANSWERS_WITHIN).await.map_err(|why| format!("`{url}` gives no answer: {why}"))?;
    paused(&answer.body).ok_or_else(|| format!("what answers at `{url}` is no Patroni"))
}

/// Reads its status, in which `pause` stands only while it is so; `None` for what is not of Patroni.
fn paused(body: &str) -> Option<bool> {
    let status: Value = serde_json::from_str(body).ok()?;
    status.get("patroni")?;
    Some(status.get("pause") == Some(&Value::Bool(true)))
}

fn left_behind(pgdata: &Path, files: &dyn ReadFiles) -> Option<Attention> {
    let settings = files.read(&pgdata.join(SETTINGS), READ_BYTES).ok()?;
    let settings: Value = serde_json::from_slice(&settings).ok()?;
    Some(if settings["pause"] == Value::Bool(true) { Attention::Paused } else { Attention::Watching })
}

#[cfg(test)]
mod tests {
    use super::{Configuration, paused};

    #[test]
    fn the_address_of_the_api_is_found_where_the_configuration_says_it() {
        let status = |text: &str| serde_saphyr::from_str::<Configuration>(text).expect("reads").restapi.status();
        let own = "scope: x\nrestapi:\n  listen: 0.0.0.0:8008\n  connect_address: 10.0.0.5:8008\n";
        assert_eq!(status(own).as_deref(), Some("http://10.0.0.5:8008/patroni"));
        let sealed = "restapi: { listen: '*:8009', certfile: /etc/x.pem, authentication: { username: a } }\n";
        assert_eq!(status(sealed).as_deref(), Some("https://127.0.0.1:8009/patroni"));
        assert_eq!(status("scope: x\n"), None);
    }

    #[test]
    fn only_patroni_itself_says_whether_it_is_paused() {
        assert_eq!(paused(r#"{"state":"stopped","patroni":{"version":"4.0.4"},"pause":true}"#), Some(true));
        assert_eq!(paused(r#"{"state":"running","patroni":{"version":"4.0.4"}}"#), Some(false));
        assert_eq!(paused(r#"{"pause":true}"#), None);
        assert_eq!(paused("<html>"), None);
    }
}
