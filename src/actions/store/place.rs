//! Where something lies: on the step's host or in a store.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::by_hand::location;
use crate::action::{ActionError, ObjectKey, ParamFault, PlanContext, StoreRef, Target};

/// One file or object: `{ path }` or `{ store, key }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePlace {
    /// A file of the step's host, an absolute path.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// A store of the inventory.
    #[serde(default)]
    pub store: Option<StoreRef>,
    /// The key of an object in it.
    #[serde(default)]
    pub key: Option<String>,
}

/// A folder with all it holds: `{ path }` or `{ store, prefix }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreePlace {
    /// A folder of the step's host, an absolute path.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// A store of the inventory.
    #[serde(default)]
    pub store: Option<StoreRef>,
    /// What the keys begin with, a folder: `media` is `media/`. Default: everything.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// One file or object, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actions) enum FileSpot {
    File(PathBuf),
    Object(StoreRef, ObjectKey),
}

/// A folder or the objects under a prefix, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actions) enum TreeSpot {
    Folder(PathBuf),
    /// The prefix is empty or ends in `/`.
    Objects(StoreRef, String),
}

impl FilePlace {
    /// Reads the place; `at` is its pointer inside `with`.
    pub(in crate::actions) fn spot(&self, at: &str) -> Result<FileSpot, ParamFault> {
        match (&self.path, &self.store, &self.key) {
            (Some(path), None, None) => absolute(path, at).map(FileSpot::File),
            (None, Some(store), Some(text)) => {
                let key = text.parse().map_err(|_| {
                    ParamFault::new(format!("{at}/key"), format!("`{text}` is not an object key"))
                        .help("parts joined by `/`, none empty, `.` or `..`")
                })?;
                Ok(FileSpot::Object(store.clone(), key))
            }
            (_, _, _) => Err(ParamFault::new(at, "either `path`, or `store` and `key` are wanted")),
        }
    }

    /// The place of a step that runs; `effects` has judged it.
    pub(in crate::actions) fn known(&self) -> Result<FileSpot, ActionError> {
        self.spot("").map_err(|fault| ActionError::fatal(fault.message))
    }
}

impl TreePlace {
    /// Reads the place; `at` is its pointer inside `with`.
    pub(in crate::actions) fn spot(&self, at: &str) -> Result<TreeSpot, ParamFault> {
        match (&self.path, &self.store, &self.prefix) {
            (Some(path), None, None) => absolute(path, at).map(TreeSpot::Folder),
            (None, Some(store), prefix) => {
                let folder = prefix.as_deref().unwrap_or_default().trim_end_matches('/');
                if !folder.is_empty() && folder.parse::<ObjectKey>().is_err() {
                    let fault = ParamFault::new(format!("{at}/prefix"), format!("`{folder}` is no prefix of keys"));
                    return Err(fault.help("parts joined by `/`, none empty, `.` or `..`"));
                }
                let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
                Ok(TreeSpot::Objects(store.clone(), prefix))
            }
            (_, _, _) => Err(ParamFault::new(at, "either `path`, or `store` with or without `prefix` is wanted")),
        }
    }

    /// The place of a step that runs; `effects` has judged it.
    pub(in crate::actions) fn known(&self) -> Result<TreeSpot, ActionError> {
        self.spot("").map_err(|fault| ActionError::fatal(fault.message))
    }
}

fn absolute(path: &Path, at: &str) -> Result<PathBuf, ParamFault> {
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && path.file_name().is_some() && plain {
        return Ok(path.to_owned());
    }
    Err(ParamFault::new(format!("{at}/path"), "the path is not absolute and without `..`"))
}

impl FileSpot {
    /// What a step touches there.
    pub(in crate::actions) fn target(&self, cx: &PlanContext<'_>) -> Target {
        match self {
            Self::File(path) => Target::Path { host: cx.host.to_owned(), path: path.clone() },
            Self::Object(store, key) => Target::Store { name: store.0.clone(), prefix: key.to_string() },
        }
    }

    /// The place as people write it.
    pub(in crate::actions) fn shown(&self, cx: &PlanContext<'_>) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Object(store, key) => location(cx.inventory, store.as_str(), key.as_str()),
        }
    }

    /// The place beside it whose name is longer by `end`.
    pub(in crate::actions) fn beside(&self, end: &str) -> Result<Self, ActionError> {
        match self {
            Self::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(end);
                Ok(Self::File(name.into()))
            }
            Self::Object(store, key) => {
                let text = format!("{key}{end}");
                let long = |_| ActionError::fatal(format!("`{text}` is too long for an object's key"));
                Ok(Self::Object(store.clone(), text.parse().map_err(long)?))
            }
        }
    }
}

impl std::fmt::Display for FileSpot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Object(store, key) => write!(f, "{}:{key}", store.as_str()),
        }
    }
}

impl TreeSpot {
    /// What a step touches there.
    pub(in crate::actions) fn target(&self, cx: &PlanContext<'_>) -> Target {
        match self {
            Self::Folder(path) => Target::Path { host: cx.host.to_owned(), path: path.clone() },
            Self::Objects(store, prefix) => Target::Store { name: store.0.clone(), prefix: prefix.clone() },
        }
    }

    /// The place as people write it.
    pub(in crate::actions) fn shown(&self, cx: &PlanContext<'_>) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Objects(store, prefix) => location(cx.inventory, store.as_str(), prefix),
        }
    }

    /// Whether one of two places holds the other, or they are the same.
    pub(in crate::actions) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(two)) => one.starts_with(two) || two.starts_with(one),
            (Self::Objects(store, one), Self::Objects(other, two)) => {
                store == other && (one.starts_with(two.as_str()) || two.starts_with(one.as_str()))
            }
            (Self::Folder(_), Self::Objects(..)) | (Self::Objects(..), Self::Folder(_)) => false,
        }
    }
}

impl std::fmt::Display for TreeSpot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Objects(store, prefix) => write!(f, "{}:{prefix}", store.as_str()),
        }
    }
}
